"""Two live streams to one: never further behind than told, dropping frames rather than waiting.

`Meeting` is the rule, free of clocks and threads: it holds the newest frames of both cameras and
says which pair is due. `fuse_live` is the thin shell around it.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from dtpf.cameras.engines import Engine
from dtpf.cameras.frames import Frame, FrameSource, Side
from dtpf.cameras.prepare import Rig
from dtpf.cameras.video import as_rgb
from dtpf.cameras.writing import LiveWriter
from dtpf.core.errors import UserError

_HELD = 8  # frames of each camera
_REPORT_S = 5.0


@dataclass(frozen=True)
class Arrived:
    """A frame and when it came, in seconds of one clock."""

    at: float
    frame: Frame


@dataclass
class LiveCount:
    """What became of the visible frames; `delay` is the worst from arrival to written."""

    fused: int = 0
    dropped: int = 0
    unmatched: int = 0
    failed: int = 0
    delay: float = 0.0

    def __str__(self) -> str:
        return (
            f"fused {self.fused} frames, dropped {self.dropped} that would have come too late, "
            f"{self.unmatched} without an infrared frame near enough, {self.failed} failed; "
            f"worst delay {self.delay:.2f} s"
        )


class Meeting:
    """Pairs the newest frames of two cameras; safe to use from several threads.

    A visible frame is dropped when a newer one waits, or when it is older than `max_delay`
    before the network begins. Delay is thus at most `max_delay` and the time of one fusion.
    """

    def __init__(self, max_delay: float, tolerance: float) -> None:
        """Take both limits in seconds; `tolerance` is between the frames of a pair."""
        self.count = LiveCount()
        self._max_delay, self._tolerance = max_delay, tolerance
        self._visible: deque[Arrived] = deque()
        self._infrared: deque[Arrived] = deque(maxlen=_HELD)
        self._news = threading.Condition()
        self._ended: set[str] = set()

    def offer(self, side: Side, arrived: Arrived) -> None:
        """Take a frame that just came."""
        with self._news:
            if side == "infrared":
                self._infrared.append(arrived)
            else:
                self._visible.append(arrived)
                if len(self._visible) > _HELD:
                    self._visible.popleft()
                    self.count.dropped += 1
            self._news.notify_all()

    def end(self, side: Side) -> None:
        """Note that a camera sends no more."""
        with self._news:
            self._ended.add(side)
            self._news.notify_all()

    def take(self, now: float) -> tuple[Arrived, Arrived] | None:
        """Return the newest pair that is fresh enough; older visible frames are dropped."""
        with self._news:
            while self._visible:
                seen = self._visible.pop()
                if now - seen.at > self._max_delay:
                    self.count.dropped += 1 + len(self._visible)
                    self._visible.clear()
                    return None
                heat = min(self._infrared, key=lambda one: abs(one.at - seen.at), default=None)
                if heat is None or abs(heat.at - seen.at) > self._tolerance:
                    self.count.unmatched += 1
                    continue
                self.count.dropped += len(self._visible)
                self._visible.clear()
                return seen, heat
            return None

    def wait(self, seconds: float) -> bool:
        """Wait for news; False when a camera has ended and nothing is left of it."""
        with self._news:
            if not self._visible and not self._ended:
                self._news.wait(seconds)
            return bool(self._visible) or not self._ended


def fuse_live(
    visible: FrameSource,
    infrared: FrameSource,
    out: str,
    rig: Rig,
    engine: Engine,
    max_delay: float = 0.5,
    paced: bool = False,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> LiveCount:
    """Fuse two streams until one ends.

    Args:
        visible: a stream, or a file.
        infrared: the same.
        out: a file (.mkv, .mp4, .ts), or a udp:// or rtsp:// address; frames keep their times.
        rig: how pairs are prepared; a sequence's range is learned from the first frames.
        engine: what fuses them.
        max_delay: seconds after which a frame is too old to begin with.
        paced: deliver files at their own rate, as a camera would.
        say: takes a line on how it goes, every few seconds.
    """
    if rig.scaler.wants_frames:
        rig.scaler.learn(rig.raw_infrared(array) for array in infrared.sample(_HELD))
    tolerance = float(max(1 / visible.rate, 1 / infrared.rate))
    meeting, stop = Meeting(max_delay, tolerance), threading.Event()
    readers = [
        threading.Thread(target=_read, args=(source, side, meeting, paced, stop), daemon=True)
        for source, side in ((visible, "visible"), (infrared, "infrared"))
    ]
    writer = LiveWriter(out, visible.rate)
    begun = said = time.monotonic()
    for reader in readers:
        reader.start()
    try:
        while meeting.wait(0.5):
            pair = meeting.take(time.monotonic())
            if pair is not None:
                _fuse_one(*pair, begun, rig, engine, writer, meeting.count)
            if time.monotonic() - said > _REPORT_S:
                said = time.monotonic()
                say(str(meeting.count))
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        stop.set()
        writer.close()
    for source in (visible, infrared):
        for fault in source.faults.examples:
            say(f"warning: {fault}")
    say(str(meeting.count))
    return meeting.count


def _fuse_one(
    seen: Arrived,
    heat: Arrived,
    begun: float,
    rig: Rig,
    engine: Engine,
    writer: LiveWriter,
    count: LiveCount,
) -> None:
    try:
        prepared = rig.prepare(
            seen.frame.array, heat.frame.array, (seen.frame.name, heat.frame.name)
        )
        fused = engine.submit(prepared.visible, prepared.infrared).result()
    except UserError:
        count.failed += 1
        return
    picture = rig.finish(fused, prepared)
    writer.write(as_rgb(picture, (picture.shape[0], picture.shape[1])), Fraction(seen.at - begun))
    count.fused += 1
    count.delay = max(count.delay, time.monotonic() - seen.at)


def _read(
    source: FrameSource, side: Side, meeting: Meeting, paced: bool, stop: threading.Event
) -> None:
    begun = time.monotonic()
    try:
        for frame in source.frames():
            if paced:
                stop.wait(max(0.0, begun + float(frame.time) - time.monotonic()))
            if stop.is_set():
                return
            meeting.offer(side, Arrived(time.monotonic(), frame))
    finally:
        meeting.end(side)
