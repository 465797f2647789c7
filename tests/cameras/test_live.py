import numpy as np
import pytest

from dtpf.cameras.frames import Frame, open_frames
from dtpf.cameras.live import Arrived, Meeting, fuse_live
from dtpf.cameras.prepare import CameraConfig, Rig
from tests.cameras.support import MeanEngine, colours, heat, read_video, write_folder, write_video


def arrived(at: float) -> Arrived:
    return Arrived(at, Frame(0, np.zeros((2, 2)), f"{at:.2f}"))


def run(cost: float, rate: int, seconds: float, max_delay: float) -> tuple[Meeting, list[float]]:
    """Both cameras at `rate`, each fusion takes `cost`: a clock of our own, no threads."""
    meeting, delays, now = Meeting(max_delay, 1 / rate), [], 0.0
    times = [k / rate for k in range(int(rate * seconds))]
    while times:
        while times and times[0] <= now:
            meeting.offer("infrared", arrived(times[0]))
            meeting.offer("visible", arrived(times.pop(0)))
        pair = meeting.take(now)
        if pair is None:
            now = max(now, times[0] if times else now)
            continue
        now += cost
        delays.append(now - pair[0].at)
    return meeting, delays


def test_a_network_that_is_fast_enough_drops_nothing():
    meeting, delays = run(cost=0.01, rate=25, seconds=4, max_delay=0.5)
    assert len(delays) == 100
    assert meeting.count.dropped == 0
    assert max(delays) == pytest.approx(0.01)


def test_a_slow_network_drops_frames_and_the_delay_stays_bounded():
    meeting, delays = run(cost=0.3, rate=25, seconds=40, max_delay=0.5)
    assert max(delays) <= 0.3 + 0.5
    assert max(delays[-11:-1]) <= max(delays[:10]) + 0.05  # it does not fall behind
    assert meeting.count.dropped > 700
    assert len(delays) + meeting.count.dropped >= 990


def test_a_frame_that_is_too_old_is_dropped():
    meeting = Meeting(max_delay=0.5, tolerance=0.1)
    meeting.offer("visible", arrived(0.0))
    meeting.offer("infrared", arrived(0.0))
    assert meeting.take(0.6) is None
    assert meeting.count.dropped == 1


def test_a_camera_that_stalls_gives_no_false_pairs():
    meeting = Meeting(max_delay=0.5, tolerance=0.1)
    meeting.offer("infrared", arrived(0.0))
    meeting.offer("visible", arrived(0.3))
    assert meeting.take(0.3) is None
    assert meeting.count.unmatched == 1
    meeting.offer("visible", arrived(0.4))
    meeting.offer("infrared", arrived(0.38))
    seen, warm = meeting.take(0.4)
    assert (seen.at, warm.at) == (0.4, 0.38)


def test_waiting_ends_with_the_streams():
    meeting = Meeting(0.5, 0.1)
    meeting.offer("visible", arrived(0.0))
    meeting.end("infrared")
    assert meeting.wait(0.01)  # something is left
    meeting.take(0.0)
    assert not meeting.wait(0.01)


def test_two_streams_become_one_and_what_happened_is_said(tmp_path):
    seen = write_video(tmp_path / "v.mp4", colours(10), 50, "libx264")
    warm = write_folder(tmp_path / "i", heat(10))
    sides = open_frames(str(seen), "visible"), open_frames(str(warm), "infrared", 50)
    lines = []
    rig, out = Rig(CameraConfig()), tmp_path / "live.mkv"
    count = fuse_live(*sides, str(out), rig, MeanEngine(), 5.0, True, lines.append)
    assert count.fused + count.dropped + count.unmatched == 10
    assert count.fused > 0
    assert lines[-1] == str(count)
    assert "dropped" in lines[-1]
    pictures, times, _ = read_video(out)
    assert len(pictures) == count.fused
    assert times == sorted(set(times))
