"""Fused video files: written in parts that survive a kill, joined with the audio at the end."""

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from dtpf.cameras.frames import VideoFrames
from dtpf.core.errors import UserError

_CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "ffv1"}
OUT_SUFFIXES = tuple(_CODECS)
_QUALITY = {"crf": "16", "preset": "veryfast"}


def check_out(out: Path) -> None:
    """Refuse a video name whose suffix says no known container.

    Raises:
        UserError: see above.
    """
    if out.suffix.lower() not in _CODECS:
        raise UserError(f"--out {out}: videos are .mp4 or .mov (H.264) or .mkv (lossless FFV1)")


class PartWriter:
    """Writes uint8 RGB frames of one size (H, W, 3) into one part of the result."""

    def __init__(
        self, path: Path, suffix: str, size: tuple[int, int], rate: Fraction, time_base: Fraction
    ) -> None:
        self._path, self._base = path, time_base
        self._container: OutputContainer = av.open(str(path), "w", format="nut")
        codec = _CODECS[suffix.lower()]
        self._stream = add_video(self._container, codec, size, rate, time_base)

    def write(self, picture: NDArray[np.uint8], time: Fraction) -> None:
        """Append one frame at its time in seconds."""
        frame = _encodable(picture, self._stream)
        frame.pts, frame.time_base = round(time / self._base), self._base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the part."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def add_video(
    container: OutputContainer,
    codec: str,
    size: tuple[int, int],
    rate: Fraction,
    time_base: Fraction,
) -> av.VideoStream:
    """Add a video stream: H.264 without subsampling where sides are odd, FFV1 in RGB."""
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width = size
    odd = size[0] % 2 or size[1] % 2
    stream.pix_fmt = "bgr0" if codec == "ffv1" else ("yuv444p" if odd else "yuv420p")
    stream.codec_context.time_base = time_base
    if codec == "libx264":
        stream.codec_context.max_b_frames = 0  # parts are joined packet by packet
        stream.codec_context.options = dict(_QUALITY)
        stream.codec_context.colorspace = Colorspace.SMPTE170M  # told, or players guess by size
        stream.codec_context.color_range = ColorRange.MPEG
    return stream


def _encodable(picture: NDArray[np.uint8], stream: av.VideoStream) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return frame.reformat(
        stream.width,
        stream.height,
        stream.pix_fmt,
        dst_colorspace=None if stream.pix_fmt == "bgr0" else Colorspace.SMPTE170M,
        dst_color_range=None if stream.pix_fmt == "bgr0" else ColorRange.MPEG,
    )


def join(parts: Sequence[Path], out: Path, sound: VideoFrames | None, end: Fraction) -> bool:
    """Join parts into `out`, with the audio of `sound` up to `end` seconds; whole or not at all.

    Returns:
        Whether there is audio.
    """
    temporary = out.with_name(f".{out.stem}.partial{out.suffix}")
    source = sound.opened() if sound is not None else None
    try:
        with av.open(str(temporary), "w") as container:
            heard = _copy(parts, container, source, end)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
        if source is not None:
            source.close()
    return heard


def _copy(
    parts: Sequence[Path],
    container: OutputContainer,
    source: InputContainer | None,
    end: Fraction,
) -> bool:
    with av.open(str(parts[0])) as first:
        video = container.add_stream_from_template(first.streams.video[0])
    streams: list[Iterator[tuple[float, Packet, av.stream.Stream]]] = [_pictures(parts, video)]
    if source is not None and source.streams.audio:
        audio = container.add_stream_from_template(source.streams.audio[0])
        streams.append(_sound(source, audio, end))
    for _, packet, stream in heapq.merge(*streams, key=lambda item: item[0]):
        packet.stream = stream
        container.mux(packet)
    return len(streams) > 1


def _pictures(
    parts: Sequence[Path], stream: av.stream.Stream
) -> Iterator[tuple[float, Packet, av.stream.Stream]]:
    for path in parts:
        with av.open(str(path)) as part:
            for packet in part.demux(part.streams.video[0]):
                if packet.dts is not None:
                    yield float(packet.dts * packet.time_base), packet, stream


def _sound(
    source: InputContainer, stream: av.stream.Stream, end: Fraction
) -> Iterator[tuple[float, Packet, av.stream.Stream]]:
    begin = source.streams.video[0].start_time or 0
    offset = float(begin * (source.streams.video[0].time_base or 0))
    for packet in source.demux(source.streams.audio[0]):
        if packet.dts is None:
            continue
        time = float(packet.dts * packet.time_base) - offset
        if time > float(end):
            return
        shift = round(offset / packet.time_base)
        packet.dts -= shift
        packet.pts = packet.pts - shift if packet.pts is not None else packet.dts
        yield time, packet, stream


class LiveWriter:
    """Writes H.264 to a file or an address as frames come; its size is that of the first frame."""

    def __init__(self, out: str, rate: Fraction) -> None:
        self._out, self._rate, self._last = out, rate, -1
        self._container: OutputContainer | None = None

    def write(self, picture: NDArray[np.uint8], time: Fraction) -> None:
        """Send one frame; one of another size is resized."""
        if self._container is None:
            self._open((picture.shape[0], picture.shape[1]))
        assert self._container is not None
        frame = _encodable(picture, self._stream)
        self._last = max(self._last + 1, round(time / _LIVE_BASE))
        frame.pts, frame.time_base = self._last, _LIVE_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish; nothing is left where no frame came."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def _open(self, size: tuple[int, int]) -> None:
        kind = {"udp": "mpegts", "rtsp": "rtsp", "rtmp": "flv"}.get(self._out.partition("://")[0])
        try:
            self._container = av.open(self._out, "w", format=kind)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"--out {self._out}: cannot be written ({error})") from None
        self._stream = add_video(self._container, "libx264", size, self._rate, _LIVE_BASE)
        self._stream.codec_context.options = {**_QUALITY, "tune": "zerolatency"}


_LIVE_BASE = Fraction(1, 90_000)
