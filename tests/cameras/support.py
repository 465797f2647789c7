"""Small recordings, and an engine whose results are known."""

from collections.abc import Sequence
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (32, 48)


class MeanEngine:
    """Fuses to the mean of both; notes how often, and can break off."""

    workers = 1
    identity = {"engine": "mean"}  # noqa: RUF012

    def __init__(self, fails_after: int | None = None) -> None:
        self.calls, self.fails_after = 0, fails_after

    def submit(self, visible: NDArray, infrared: NDArray) -> Future:
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise KeyboardInterrupt
        future: Future = Future()
        future.set_result((visible + infrared[..., None]) / 2)
        return future

    def close(self) -> None:
        """Nothing to release."""


def colours(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> list[NDArray]:
    """Smooth RGB frames that move by two pixels each."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    phase = np.array([0.0, 2.0, 4.0]) + seed
    return [
        np.uint8(127 + 100 * np.sin((x[..., None] + 2 * k) / 7 + y[..., None] / 5 + phase))
        for k in range(count)
    ]


def heat(count: int, size: tuple[int, int] = SIZE, hot: Sequence[int] = ()) -> list[NDArray]:
    """16-bit frames of 12 used bits; in frames `hot` something far hotter fills a quarter."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    frames = [np.uint16(7000 + 8 * x + 12 * y + k) for k in range(count)]
    for k in hot:
        frames[k][: size[0] // 2, : size[1] // 2] = 9000
    return frames


def write_video(
    path: Path,
    frames: Sequence[NDArray],
    rate: Fraction | int = 25,
    codec: str = "ffv1",
    audio: bool = False,
) -> Path:
    deep = frames[0].dtype == np.uint16
    source = "gray16le" if deep else "rgb24"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        formats = {"ffv1": "bgr0", "mjpeg": "yuvj420p"}
        stream.pix_fmt = source if deep else formats.get(codec, "yuv420p")
        sound = container.add_stream("aac", rate=16000) if audio else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=source)))
        container.mux(stream.encode(None))
        for start in range(0, int(16000 * len(frames) / rate) if sound else 0, 1024):
            tone = np.sin(np.arange(start, start + 1024) / 9).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            block.sample_rate, block.pts = 16000, start
            container.mux(sound.encode(block))
        if sound:
            container.mux(sound.encode(None))
    return path


def read_video(path: Path) -> tuple[list[NDArray], list[Fraction], int]:
    """Frames, their times and the number of audio samples."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    with av.open(str(path)) as container:
        heard = sum(b.samples for b in container.decode(audio=0)) if container.streams.audio else 0
    frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
    return frames, [Fraction(frame.pts * frame.time_base) for frame in decoded], heard


def write_folder(folder: Path, frames: Sequence[NDArray]) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"f{number}.png")
    return folder
