from fractions import Fraction

import numpy as np
import pytest

from dtpf.cameras.frames import Frame, FrameFaults, open_frames, paired
from dtpf.core.errors import UserError
from tests.cameras.support import colours, heat, write_folder, write_video


def test_a_16_bit_video_keeps_its_values(tmp_path):
    frames = heat(5)
    source = open_frames(str(write_video(tmp_path / "ir.mkv", frames, 9)), "infrared")
    read = list(source.frames())
    assert (source.rate, len(read)) == (9, 5)
    for given, frame in zip(frames, read, strict=True):
        np.testing.assert_array_equal(frame.array, given)
    assert float(read[4].time) == pytest.approx(4 / 9, abs=0.002)  # mkv counts milliseconds


def test_a_folder_is_in_the_order_of_its_numbers(tmp_path):
    frames = heat(12)
    source = open_frames(str(write_folder(tmp_path / "ir", frames)), "infrared", Fraction(10))
    read = list(source.frames())
    for given, frame in zip(frames, read, strict=True):
        np.testing.assert_array_equal(frame.array, given)  # f10 comes after f9
    assert read[3].time == Fraction(3, 10)


def test_a_corrupt_image_is_named_and_the_rest_goes_on(tmp_path):
    folder = write_folder(tmp_path / "ir", heat(4))
    (folder / "f2.png").write_bytes((folder / "f2.png").read_bytes()[:90])
    source = open_frames(str(folder), "infrared")
    assert [frame.time for frame in source.frames()] == [0, Fraction(1, 25), Fraction(3, 25)]
    assert source.faults.count == 1
    assert "f2.png" in source.faults.examples[0]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("avi", "mjpeg")])
def test_damage_amid_a_video_is_named_and_the_rest_goes_on(tmp_path, suffix, codec):
    path = write_video(tmp_path / f"v.{suffix}", colours(30, size=(64, 96)), 25, codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = b"U" * 200
    path.write_bytes(data)
    source = open_frames(str(path), "visible")
    read = list(source.frames())
    assert 1 <= source.faults.count < 15
    assert "is damaged" in source.faults.examples[0]
    assert str(path) in source.faults.examples[0]
    assert len(read) == 30 - source.faults.count
    if codec == "mjpeg":  # each frame stands alone
        assert source.faults.count == 1
        assert float(read[-1].time) == pytest.approx(29 / 25)


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = write_video(tmp_path / "v.mkv", colours(30, size=(64, 96)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert 10 <= len(list(open_frames(str(path), "visible").frames())) <= 25


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "v.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"v\.mp4: not a readable video"):
        open_frames(str(tmp_path / "v.mp4"), "visible")
    with pytest.raises(UserError, match="gone"):
        open_frames(str(tmp_path / "gone.mp4"), "visible")


def series(count, rate, start=0.0):
    return (
        Frame(Fraction(k, rate) + Fraction(start), np.zeros((2, 2)), str(k)) for k in range(count)
    )


def matches(visible, infrared):
    faults = FrameFaults()
    pairs = [(int(a.name), int(b.name)) for a, b in paired(visible, infrared, faults)]
    return pairs, faults.examples


def test_equal_rates_pair_one_to_one():
    assert matches(series(5, 25), series(5, 25)) == ([(k, k) for k in range(5)], [])


def test_a_slower_camera_serves_several_frames():
    pairs, faults = matches(series(9, 30), series(3, 10))
    assert [heat for _, heat in pairs] == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert faults == []


def test_a_faster_camera_is_thinned():
    pairs, _ = matches(series(3, 10), series(9, 30))
    assert pairs == [(0, 0), (1, 3), (2, 6)]


def test_the_side_that_ends_early_is_named():
    pairs, (fault,) = matches(series(50, 25), series(10, 25))
    assert len(pairs) in (10, 11)
    assert fault.startswith("infrared ends at 0.36 s: ")
    pairs, (fault,) = matches(series(10, 25), series(50, 25))
    assert len(pairs) == 10
    assert fault.startswith("visible ends first")
    assert matches(series(3, 25), iter(()))[0] == []
