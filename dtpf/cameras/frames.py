"""Frames of a camera, from a video, a stream or a folder: in order, with times, faults named."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dtpf.core.errors import UserError
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_array
from dtpf.data.layouts import ImageFile, list_images

Side = Literal["visible", "infrared"]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".ts", ".nut")


@dataclass(frozen=True)
class Frame:
    """One frame: raw values (H, W) or (H, W, 3), and its place in time."""

    time: Fraction  # seconds from the first frame
    array: NDArray
    name: str


@dataclass
class FrameFaults:
    """What could not be used of one side; `count` goes on where `examples` ends."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note one fault."""
        self.count += 1
        if len(self.examples) < 10:
            self.examples.append(text)


class FrameSource(Protocol):
    """One camera's recording."""

    name: str
    rate: Fraction
    faults: FrameFaults

    @property
    def count(self) -> int | None:
        """About how many frames there are."""

    def frames(self) -> Iterator[Frame]:
        """Yield usable frames from the start; faults are noted and passed over."""

    def sample(self, count: int) -> list[NDArray]:
        """Return some frames spread over the recording."""


def open_frames(place: str, side: Side, rate: Fraction | None = None) -> FrameSource:
    """Open a video file, or a folder of images that follow each other at `rate` (default 25).

    Raises:
        UserError: neither, or nothing in it can be read.
    """
    if is_video(place):
        return VideoFrames(place, side)
    return FolderFrames(place, side, rate or Fraction(25))


def is_video(place: str) -> bool:
    """Say whether a name is that of a video file or stream."""
    return place.lower().endswith(VIDEO_SUFFIXES) or bool(
        re.match(r"(rtsp|rtmp|udp|tcp)://", place)
    )


class VideoFrames:
    """A video file or stream, decoded by FFmpeg."""

    def __init__(self, place: str, side: Side) -> None:
        self.name, self.side, self.faults = place, side, FrameFaults()
        with self.opened() as container:
            stream = container.streams.video[0]
            self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.time_base = stream.time_base or Fraction(1, 90_000)
            self._frames, self._duration = stream.frames, container.duration

    @property
    def count(self) -> int | None:
        """See `FrameSource`; from the header, else from the duration."""
        if self._frames:
            return int(self._frames)
        return round(self._duration / av.time_base * self.rate) if self._duration else None

    def opened(self) -> InputContainer:
        """Open the file; the caller closes it."""
        try:
            container = av.open(self.name)
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(f"{self.name}: not a readable video ({_plain(error)})") from None
        if not container.streams.video:
            container.close()
            raise UserError(f"{self.name}: holds no video stream")
        return container

    def frames(self) -> Iterator[Frame]:
        """See `FrameSource`."""
        self.faults = FrameFaults()
        first: Fraction | None = None
        with self.opened() as container:
            for number, frame in enumerate(self._decoded(container)):
                time = number / self.rate
                if frame.pts is not None and frame.time_base is not None:
                    time = Fraction(frame.pts * frame.time_base)
                first = time if first is None else first
                at = float(time - first)
                if getattr(frame, "is_corrupt", False):
                    self.faults.add(f"{self.name}: the frame at {at:.2f} s is damaged")
                    continue
                yield Frame(time - first, _values(frame, self.side), f"{self.name} at {at:.2f} s")

    def sample(self, count: int) -> list[NDArray]:
        """See `FrameSource`."""
        every = max(1, (self.count or count) // count)
        return [frame.array for number, frame in enumerate(self.frames()) if number % every == 0]

    def _decoded(self, container: InputContainer) -> Iterator[VideoFrame]:
        last = 0.0
        stream = container.streams.video[0]
        # Else decoders patch damaged frames up and hand them out as good ones.
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self.faults.add(f"{self.name}: breaks off after {last:.2f} s ({_plain(error)})")
                return
            try:
                decoded = packet.decode()
            except av.error.FFmpegError as error:
                at = float(packet.pts * packet.time_base) if packet.pts is not None else last
                self.faults.add(
                    f"{self.name}: the frame at {at:.2f} s is damaged ({_plain(error)})"
                )
                continue
            for frame in decoded:
                last = float(frame.time or last)
                yield frame


class FolderFrames:
    """A folder of images in the order of the numbers in their names."""

    def __init__(self, place: str, side: Side, rate: Fraction) -> None:
        self.name, self.side, self.rate, self.faults = place, side, rate, FrameFaults()
        self.time_base = 1 / rate
        self._files = sorted(list_images(place), key=_natural)

    @property
    def count(self) -> int | None:
        """See `FrameSource`."""
        return len(self._files)

    def frames(self) -> Iterator[Frame]:
        """See `FrameSource`."""
        self.faults = FrameFaults()
        for number, file in enumerate(self._files):
            try:
                array = decode_array(read_bytes(file.uri), file.uri)
            except UserError as error:
                self.faults.add(str(error))
                continue
            yield Frame(number / self.rate, array, file.uri)

    def sample(self, count: int) -> list[NDArray]:
        """See `FrameSource`."""
        found = []
        for file in self._files[:: max(1, len(self._files) // count)]:
            try:
                found.append(decode_array(read_bytes(file.uri), file.uri))
            except UserError:
                continue
        return found


def _values(frame: VideoFrame, side: Side) -> NDArray:
    """Return raw values; more than 8 bits of infrared come as the upper bits of 16."""
    if side == "visible":
        return np.asarray(frame.to_ndarray(format="rgb24"))
    components = frame.format.components
    if max(part.bits for part in components) > 8:
        return np.asarray(frame.to_ndarray(format="gray16le"))
    return np.asarray(frame.to_ndarray(format="gray" if len(components) == 1 else "rgb24"))


def _natural(file: ImageFile) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", file.path.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _plain(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def paired(
    visible: Iterator[Frame], infrared: Iterator[Frame], faults: FrameFaults
) -> Iterator[tuple[Frame, Frame]]:
    """Give each visible frame the infrared frame nearest in time; ends with the shorter side.

    An infrared frame may serve several visible ones: thermal cameras are often slower. What is
    left over is noted in `faults`.
    """
    now = next(infrared, None)
    after = next(infrared, None) if now else None
    step = after.time - now.time if now and after else Fraction(1, 25)
    for seen in visible:
        while now and after and abs(after.time - seen.time) <= abs(now.time - seen.time):
            step = max(after.time - now.time, Fraction(1, 1000))
            now, after = after, next(infrared, None)
        if now is None or (after is None and seen.time > now.time + step):
            left = 1 + sum(1 for _ in visible)
            end = f"at {float(now.time):.2f} s" if now else "before it begins"
            faults.add(f"infrared ends {end}: {left} visible frames are left out")
            return
        yield seen, now
    left = sum(1 for _ in infrared)
    if left > 1:
        faults.add(f"visible ends first: {left} infrared frames are left out")
