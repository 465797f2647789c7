// One view for all images of the result: zoomed and moved in step.

const by = (id) => document.getElementById(id);

// Zoom and place, the same for all images: (x, y) in 0..1 is the point in the middle.
const view = { zoom: 1, x: 0.5, y: 0.5 };

export function look(zoom, x = view.x, y = view.y) {
  view.zoom = Math.min(16, Math.max(1, zoom));
  const margin = 0.5 / view.zoom;
  view.x = Math.min(1 - margin, Math.max(margin, x));
  view.y = Math.min(1 - margin, Math.max(margin, y));
  const style = by("result").style;
  style.setProperty("--zoom", view.zoom);
  style.setProperty("--x", `${100 * (0.5 - view.x * view.zoom)}%`);
  style.setProperty("--y", `${100 * (0.5 - view.y * view.zoom)}%`);
  by("result").classList.toggle("zoomed", view.zoom > 1);
  by("zoom-level").textContent = `${Math.round(100 * view.zoom)} %`;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || by("result").hidden) return;
  if (event.target.matches("input:not([type=range]):not([type=radio]), select")) return;
  const step = 0.15 / view.zoom;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const zooms = { "+": 1.5 * view.zoom, "=": 1.5 * view.zoom, "-": view.zoom / 1.5, 0: 1 };
  if (event.shiftKey && moves[event.key]) look(view.zoom, view.x + moves[event.key][0], view.y + moves[event.key][1]);
  else if (zooms[event.key]) look(zooms[event.key]);
  else return;
  event.preventDefault();
}

export function listenToZoom() {
  by("zoom-in").addEventListener("click", () => look(1.5 * view.zoom));
  by("zoom-out").addEventListener("click", () => look(view.zoom / 1.5));
  by("zoom-fit").addEventListener("click", () => look(1));
  document.addEventListener("keydown", onKey);
  by("result").addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // without it the page scrolls; a pinch on a touchpad has it
    event.preventDefault();
    look(view.zoom * Math.exp(-event.deltaY / 200));
  }, { passive: false });
  for (const pane of document.querySelectorAll(".trio .pane")) {
    pane.addEventListener("pointerdown", (event) => pane.setPointerCapture(event.pointerId));
    pane.addEventListener("pointermove", (event) => {
      if (!pane.hasPointerCapture(event.pointerId)) return;
      const scale = view.zoom * pane.clientWidth;
      look(view.zoom, view.x - event.movementX / scale, view.y - event.movementY / (view.zoom * pane.clientHeight));
    });
  }
}
