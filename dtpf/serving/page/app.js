// The page of the endpoint: choose two images, fuse them over HTTP, compare by a wipe.
// Addresses are relative, so that the page works under any route prefix.

import { forget, listenToFrames, takeVideo } from "./frames.js";
import { listenToZoom, look } from "./zoom.js";

const by = (id) => document.getElementById(id);
const form = by("form");
const modalities = ["visible", "infrared"];
const files = { visible: null, infrared: null };
const shown = { visible: false, infrared: false }; // browsers cannot show every TIFF
const addresses = {}; // object URLs by what they show, to be revoked
let running = null; // the request under way, so that a newer one ends it

function address(key, blob) {
  if (addresses[key]) URL.revokeObjectURL(addresses[key]);
  addresses[key] = URL.createObjectURL(blob);
  return addresses[key];
}

function put(modality, file) {
  files[modality] = file;
  const slot = by(`slot-${modality}`);
  const image = slot.querySelector("img");
  const name = slot.querySelector(".name");
  slot.classList.add("filled");
  slot.classList.remove("bad");
  name.textContent = `${modality}: ${file.name}`;
  name.hidden = false;
  image.onload = () => { shown[modality] = true; image.hidden = false; };
  image.onerror = () => {
    shown[modality] = false;
    image.hidden = true;
    slot.querySelector(".hint span").textContent = "No preview of this format; it can be fused";
  };
  image.src = address(modality, file);
  by("fuse").disabled = !(files.visible && files.infrared);
}

function complain(message, field) {
  by("error").textContent = message;
  by("error").hidden = !message;
  for (const modality of modalities) {
    by(`slot-${modality}`).classList.toggle("bad", Boolean(message) && field === modality);
  }
}

function token() {
  return form.elements.token.value.trim();
}

async function call(path, options = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  return answered(await fetch(path, { ...options, headers }));
}

async function answered(response) {
  if (response.ok) return response;
  if (response.status === 401) by("token-field").hidden = false;
  const problem = await response.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail || `${response.status} ${response.statusText}`), { field: problem.field });
}

async function fuse() {
  complain("");
  running?.abort();
  const request = running = new AbortController();
  by("fuse").disabled = true;
  by("fuse").textContent = "Fusing\u2026";
  const { format, gray, size, model } = form.elements;
  const query = new URLSearchParams({ format: format.value, gray: gray.checked, size: size.value });
  if (model.value) query.set("model", model.value);
  const sent = { ...files };
  const body = new FormData();
  for (const modality of modalities) body.append(modality, sent[modality], sent[modality].name);
  const start = performance.now();
  try {
    const response = await call(`fuse?${query}`, { method: "POST", body, signal: request.signal });
    show(sent, await response.blob(), response.headers, performance.now() - start);
  } catch (error) {
    if (request === running && error.name !== "AbortError") complain(error.message, error.field);
  } finally {
    if (request === running) {
      by("fuse").disabled = false;
      by("fuse").textContent = "Fuse";
    }
  }
}

function show(sent, blob, headers, milliseconds) {
  const fused = address("fused", blob);
  by("under").src = by("small-fused").src = fused;
  by("under").onload = () => {
    by("result").style.setProperty("--ratio", `${by("under").naturalWidth} / ${by("under").naturalHeight}`);
  };
  for (const modality of modalities) {
    // Addresses of their own: the inputs may be exchanged while this result is looked at.
    const input = address(`sent-${modality}`, sent[modality]);
    by(`small-${modality}`).src = shown[modality] ? input : "";
    document.querySelector(`input[value=${modality}]`).disabled = !shown[modality];
  }
  const download = by("download");
  download.href = fused;
  download.download = `fused.${blob.type.split("/")[1]}`;
  timing(headers, milliseconds);
  compare();
  look(1, 0.5, 0.5);
  by("empty").hidden = true;
  by("result").hidden = false;
  by("live").textContent = "The fused image is ready.";
}

function compare() {
  const sides = [...document.querySelectorAll("input[name=side]")];
  const usable = sides.filter((side) => !side.disabled);
  const chosen = usable.find((side) => side.checked) || usable[0];
  by("stage").classList.toggle("plain", !chosen);
  if (!chosen) return;
  chosen.checked = true;
  by("over").src = addresses[`sent-${chosen.value}`];
  by("tag").textContent = chosen.nextElementSibling.textContent;
}

function pairs(list, entries) {
  list.replaceChildren(...entries.map(([term, text]) => {
    const row = document.createElement("div");
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = term;
    dd.textContent = text;
    if (list.id === "timing") { row.append(dt, dd); return [row]; }
    return [dt, dd];
  }).flat());
}

function timing(headers, milliseconds) {
  const parts = (headers.get("Server-Timing") || "").matchAll(/(\w+);dur=([\d.]+)/g);
  const entries = [...parts].map(([, name, value]) => [name, `${Math.round(value)} ms`]);
  pairs(by("timing"), [...entries, ["round trip", `${Math.round(milliseconds)} ms`]]);
}

async function loadModels() {
  const models = await (await call("v1/models")).json();
  const select = form.elements.model;
  const chosen = select.value;
  select.replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === chosen)));
  by("model-field").hidden = models.length < 2;
  describe(models);
  select.onchange = () => describe(models);
}

function describe(models) {
  const model = models.find(({ name }) => name === form.elements.model.value) || models[0];
  const count = model.parameters ? `${(model.parameters / 1e6).toFixed(2)} M parameters` : "";
  by("chip").textContent = [`${model.name} ${model.version ?? ""}`.trim(), count].filter(Boolean).join(" \u00b7 ");
  pairs(by("card"), cardEntries(model));
}

function cardEntries(model) {
  const entries = [["Name", model.name], ["Version", model.version], ["Parameters", model.parameters?.toLocaleString()]];
  entries.push(["Weights", model.sha256 ? `sha256 ${model.sha256.slice(0, 12)}\u2026` : null]);
  for (const group of ["metrics", "provenance"]) {
    for (const [key, value] of Object.entries(model[group] || {})) {
      const text = typeof value === "number" ? Number(value.toPrecision(4)) : value;
      entries.push([key, typeof text === "object" ? JSON.stringify(text) : String(text)]);
    }
  }
  if (model.limits) entries.push(["Largest image", `${(model.limits.max_pixels / 1e6).toFixed(1)} megapixels`]);
  return entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
}

async function takeExample(example) {
  for (const modality of modalities) {
    const blob = await (await answered(await fetch(example[modality]))).blob();
    await take(modality, new File([blob], `${example.name}.png`, { type: blob.type }));
  }
  await Promise.all(modalities.map((modality) => by(`slot-${modality}`).querySelector("img").decode().catch(() => {})));
  await fuse();
}

async function loadExamples() {
  const examples = await (await answered(await fetch("examples"))).json();
  by("strip").replaceChildren(...examples.map((example) => {
    const button = document.createElement("button");
    const image = Object.assign(document.createElement("img"), { src: example.visible, alt: "" });
    const title = Object.assign(document.createElement("span"), { textContent: example.title });
    button.type = "button";
    button.append(image, title);
    button.addEventListener("click", () => takeExample(example).catch((error) => complain(error.message)));
    return button;
  }));
  by("examples").hidden = examples.length === 0;
  const wanted = new URLSearchParams(location.search).get("example");
  const linked = examples.find((example) => example.name === wanted);
  if (linked) await takeExample(linked);
}

async function take(modality, file) {
  const isVideo = file.type.startsWith("video/");
  if (!isVideo) forget(modality);
  try {
    put(modality, isVideo ? await takeVideo(modality, file) : file);
  } catch (error) {
    complain(error.message, modality);
  }
}

function listen() {
  for (const modality of modalities) {
    const slot = by(`slot-${modality}`);
    const input = slot.querySelector("input");
    input.addEventListener("change", () => input.files[0] && take(modality, input.files[0]));
    for (const type of ["dragenter", "dragover"]) {
      slot.addEventListener(type, (event) => { event.preventDefault(); slot.classList.add("over"); });
    }
    for (const type of ["dragleave", "drop"]) slot.addEventListener(type, () => slot.classList.remove("over"));
    slot.addEventListener("drop", (event) => {
      event.preventDefault();
      const [first, second] = event.dataTransfer.files;
      if (first) take(modality, first);
      if (second) take(modality === "visible" ? "infrared" : "visible", second);
    });
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); fuse(); });
  by("sides").addEventListener("change", compare);
  by("wipe").addEventListener("input", () => by("stage").style.setProperty("--wipe", `${by("wipe").value}%`));
}

function listenToToken() {
  form.elements.token.value = sessionStorage.getItem("token") || "";
  form.elements.token.addEventListener("change", () => {
    sessionStorage.setItem("token", token()); // gone when the tab is closed
    complain("");
    loadModels().catch((error) => complain(error.message));
  });
}

listen();
listenToZoom();
listenToToken();
listenToFrames(put, complain);
loadModels().catch((error) => { by("chip").textContent = error.message; });
loadExamples().catch((error) => complain(error.message));
