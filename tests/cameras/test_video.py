import json
from fractions import Fraction

import numpy as np
import pytest

from dtpf.cameras import video
from dtpf.cameras.flicker import Flicker
from dtpf.cameras.frames import open_frames
from dtpf.cameras.prepare import CameraConfig, Rig
from dtpf.cameras.scaling import ScalingConfig
from dtpf.cameras.video import fuse_video
from dtpf.core.errors import UserError
from tests.cameras.support import MeanEngine, colours, heat, read_video, write_folder, write_video

SEQUENCE = ScalingConfig(policy="sequence", tails=0.0)


def fuse(visible, infrared, out, engine=None, config=None, **more):
    sides = open_frames(str(visible), "visible"), open_frames(str(infrared), "infrared")
    rig = Rig(config or CameraConfig(scaling=SEQUENCE))
    return fuse_video(*sides, out, rig, engine or MeanEngine(), **more)


def expected(seen, warm, low, high):
    unit = np.clip((warm.astype(np.float32) - low) / (high - low), 0, 1)
    return 255 * (seen / 255 + unit[..., None]) / 2


@pytest.fixture
def recordings(tmp_path):
    """20 frames at 30000/1001 with audio, and 16-bit infrared at the same rate."""
    rate = Fraction(30000, 1001)
    seen = write_video(tmp_path / "v.mp4", colours(20), rate, "libx264", audio=True)
    return seen, write_video(tmp_path / "i.mkv", heat(20), rate)


def test_order_times_rate_and_audio_are_kept(recordings, tmp_path):
    report = fuse(*recordings, tmp_path / "f.mp4")
    frames, times, heard = read_video(tmp_path / "f.mp4")
    given, wanted, sound = read_video(recordings[0])
    assert times == wanted
    assert open_frames(str(tmp_path / "f.mp4"), "visible").rate == Fraction(30000, 1001)
    assert heard == pytest.approx(sound, abs=2048)
    assert (report["frames"], report["audio"], report["faults"]["count"]) == (20, True, 0)
    low, high = report["sequence_range"]
    for k in (0, 10, 19):
        gap = np.abs(frames[k] - expected(given[k], heat(20)[k], low, high))
        assert gap.mean() < 6  # H.264 with half the colour resolution
        others = [np.abs(frames[k].astype(int) - frames[j].astype(int)).mean() for j in (3, 15)]
        assert min(others) > gap.mean() or k in (3, 15)


def test_mkv_is_lossless_and_parts_are_gone(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PART", 8)  # joined of three parts
    report = fuse(*recordings, tmp_path / "f.mkv")
    frames, _, _ = read_video(tmp_path / "f.mkv")
    given, _, _ = read_video(recordings[0])
    low, high = report["sequence_range"]
    for k in range(20):
        gap = np.abs(frames[k] - expected(given[k], heat(20)[k], low, high))
        assert gap.max() <= 0.51
    assert json.loads((tmp_path / "f.mkv.json").read_text()) == report
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.mkv", "f.mkv.json", "i.mkv", "v.mp4"]


def test_colours_come_back_through_h264(tmp_path):
    shades = ([200, 40, 30], [30, 180, 60], [40, 60, 210])
    flat = [np.full((64, 96, 3), shade, np.uint8) for shade in shades for _ in range(2)]
    seen = write_folder(tmp_path / "v", flat)
    warm = write_folder(tmp_path / "i", [frame[..., 0] for frame in flat])

    class Same(MeanEngine):
        def submit(self, visible, infrared):
            future = super().submit(visible, infrared)
            future._result = visible
            return future

    fuse(seen, warm, tmp_path / "f.mp4", Same(), CameraConfig())
    frames, _, _ = read_video(tmp_path / "f.mp4")
    for given, frame in zip(flat, frames, strict=True):
        assert np.abs(frame.astype(int) - given).max() <= 6


def test_a_killed_run_goes_on_and_gives_the_same(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PART", 6)
    with pytest.raises(KeyboardInterrupt):
        fuse(*recordings, tmp_path / "f.mkv", MeanEngine(fails_after=14))
    assert not (tmp_path / "f.mkv").exists()
    second = MeanEngine()
    report = fuse(*recordings, tmp_path / "f.mkv", second)
    assert second.calls == 20 - 12  # two parts of six were whole
    once = fuse(*recordings, tmp_path / "once.mkv")
    assert read_video(tmp_path / "f.mkv")[:2][1] == read_video(tmp_path / "once.mkv")[1]
    np.testing.assert_array_equal(
        read_video(tmp_path / "f.mkv")[0], read_video(tmp_path / "once.mkv")[0]
    )
    assert report["frames"] == once["frames"]


def test_what_was_begun_with_other_settings_is_not_gone_on_with(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PART", 6)
    with pytest.raises(KeyboardInterrupt):
        fuse(*recordings, tmp_path / "f.mkv", MeanEngine(fails_after=14))
    engine = MeanEngine()
    fuse(*recordings, tmp_path / "f.mkv", engine, CameraConfig())
    assert engine.calls == 20


def test_a_hot_thing_makes_percentiles_flicker_and_a_sequence_not(tmp_path):
    seen = write_folder(tmp_path / "v", [colours(1)[0]] * 24)
    warm = write_folder(tmp_path / "i", heat(24, hot=range(8, 16)))
    steady = fuse(seen, warm, tmp_path / "s.mkv")
    jumpy = fuse(seen, warm, tmp_path / "p.mkv", config=CameraConfig())

    def background(path):
        return np.array([frame[20:, 30:].mean() for frame in read_video(path)[0]])

    assert np.abs(np.diff(background(tmp_path / "s.mkv"))).max() < 0.5
    assert np.abs(np.diff(background(tmp_path / "p.mkv"))).max() > 10
    for report in (steady, jumpy):
        change = report["flicker"]["change"]
        assert report["flicker"]["steps"] == 23
        assert change["fused"] == pytest.approx(change["infrared"] / 2, rel=0.01)
    assert steady["flicker"]["change"]["fused"] < jumpy["flicker"]["change"]["fused"]


def test_flicker_that_the_fusion_adds_is_called_restless():
    seen, warm = np.full((8, 8, 3), 0.5, np.float32), np.full((8, 8), 0.5, np.float32)
    calm, restless = Flicker(), Flicker()
    for k in range(10):
        calm.add(seen, seen, warm)
        restless.add(seen + 0.05 * (k % 2), seen, warm)
    assert not calm.restless
    assert restless.restless
    assert restless.as_dict()["jump"]["fused"] == pytest.approx(0.05, abs=1e-5)


def test_sizes_that_change_and_corrupt_frames_are_named(tmp_path):
    frames, warm = colours(9), heat(9)
    frames[4] = frames[4][::2, ::2]
    warm[4] = warm[4][::2, ::2]
    warm[6] = warm[6][::2, ::2]
    seen, folder = write_folder(tmp_path / "v", frames), write_folder(tmp_path / "i", warm)
    (seen / "f7.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report = fuse(seen, folder, tmp_path / "f.mkv")
    told = " | ".join(report["faults"]["examples"])
    assert report["faults"]["count"] == 3
    assert "f4.png: 24x16 pixels, the video began with 48x32" in told
    assert "f6.png: visible is 48x32 and infrared is 24x16" in told
    assert "f7.png" in told
    pictures, times, _ = read_video(tmp_path / "f.mkv")
    assert {picture.shape for picture in pictures} == {(32, 48, 3)}
    assert [round(25 * time) for time in times] == [0, 1, 2, 3, 4, 5, 8]


def test_a_stream_that_ends_early_ends_the_video_and_is_named(tmp_path):
    seen = write_video(tmp_path / "v.mp4", colours(40), 25, "libx264", audio=True)
    warm = write_video(tmp_path / "i.mkv", heat(15), 25)
    report = fuse(seen, warm, tmp_path / "f.mp4")
    assert report["frames"] in (15, 16)
    assert report["faults"]["examples"][0].startswith("infrared ends at 0.56 s")
    _, _, heard = read_video(tmp_path / "f.mp4")
    assert heard / 16000 == pytest.approx(0.6, abs=0.2)


def test_nothing_to_fuse_is_an_error_with_a_reason(tmp_path):
    seen = write_folder(tmp_path / "v", colours(2))
    warm = write_folder(tmp_path / "i", heat(2, size=(16, 24)))
    with pytest.raises(UserError, match="no frame could be fused"):
        fuse(seen, warm, tmp_path / "f.mp4")
    with pytest.raises(UserError, match=r"\.mp4"):
        fuse(seen, warm, tmp_path / "f.webm")


def test_progress_counts_frames(recordings, tmp_path):
    told = []
    fuse(*recordings, tmp_path / "f.mkv", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (20, 20)
    assert told == sorted(told)
