// Frames of videos as images: two videos of one scene are fused at one moment.

const by = (id) => document.getElementById(id);
const videos = {}; // by modality

export function forget(modality) {
  delete videos[modality];
  by("frame-field").hidden = Object.keys(videos).length === 0;
}

function happens(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("this browser cannot play the video")), { once: true });
  });
}

// Return the frame of a video that the slider names, as an image file.
export async function takeVideo(modality, file) {
  const video = Object.assign(document.createElement("video"), { muted: true, preload: "auto", src: URL.createObjectURL(file) });
  await happens(video, "loadeddata");
  videos[modality] = { video, file };
  const ends = Object.values(videos).map((item) => item.video.duration).filter(Number.isFinite);
  by("frame").max = ends.length ? Math.min(...ends) : 60;
  by("frame-field").hidden = false;
  return grab(modality);
}

async function grab(modality) {
  const { video, file } = videos[modality];
  const seconds = Number(by("frame").value);
  const sought = happens(video, "seeked");
  video.currentTime = seconds;
  await sought;
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  return new File([blob], `${file.name} at ${seconds.toFixed(2)} s.png`, { type: blob.type });
}

export function listenToFrames(put, complain) {
  by("frame").addEventListener("change", async () => {
    by("frame-time").textContent = `${Number(by("frame").value).toFixed(2)} s`;
    for (const modality of Object.keys(videos)) {
      try {
        put(modality, await grab(modality));
      } catch (error) {
        complain(error.message, modality);
      }
    }
  });
}
