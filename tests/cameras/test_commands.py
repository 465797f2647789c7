"""The commands for two cameras, on tiny networks and small files."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dtpf.cli.app import app
from tests.cameras.support import colours, heat, read_video, write_folder, write_video
from tests.cameras.test_calibration import cross_spectral, moved

TINY = ("--model", "student_tiny", "--device", "cpu")


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def rig(tmp_path):
    """Two folders of three 16-bit pairs of one rig that is 12 pixels off, and the truth."""
    truth = None
    for seed in range(3):
        seen, warm, truth = cross_spectral(moved(x=11, y=-5), seed)
        for side, image in (("v", seen * 255), ("i", 6000 + 5 * warm)):
            (tmp_path / side).mkdir(exist_ok=True)
            array = image.astype(np.uint8 if side == "v" else np.uint16)
            Image.fromarray(array).save(tmp_path / side / f"{seed}.png")
    return tmp_path, truth


def test_from_two_raw_cameras_to_registered_pairs(rig):
    root, truth = rig
    sides = (root / "v", root / "i")
    assert "off" in run("calibrate", *sides, "--check", identity(root), code=1).stdout
    made = run("calibrate", *sides, "-o", root / "rig.json", "--picture", root / "look.png")
    assert "not sure" not in made.stderr
    matrix = np.array(json.loads((root / "rig.json").read_text())["homography"])
    np.testing.assert_allclose(matrix[:2, 2], truth[:2, 2], atol=1.0)
    assert "fine" in run("calibrate", *sides, "--check", root / "rig.json").stdout
    assert Image.open(root / "look.png").size == (400, 160)
    run("register", *sides, "--calibration", root / "rig.json", "-o", root / "reg")
    assert sorted(p.name for p in (root / "reg/ir").iterdir()) == ["0.png", "1.png", "2.png"]
    plain = run("fuse", sides[0] / "0.png", sides[1] / "0.png", "-o", root / "f.png", *TINY)
    assert "warning: " in plain.stderr
    assert "dtpf calibrate" in plain.stderr
    calibration = ("--calibration", root / "rig.json")
    better = run(
        "fuse", sides[0] / "0.png", sides[1] / "0.png", "-o", root / "g.png", *TINY, *calibration
    )
    assert "alignment off" not in better.stderr
    assert (
        "moved to visible by calibration"
        in json.loads((root / "g.png.json").read_text())["geometry"]
    )


def identity(root):
    document = json.dumps(
        {
            "homography": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            "infrared_size": [160, 200],
            "visible_size": [160, 200],
            "method": "points",
            "model": "homography",
            "pairs": 5,
            "score": 0.0,
            "spread": 0.0,
            "sure": True,
        }
    )
    (root / "identity.json").write_text(document)
    return root / "identity.json"


def test_marked_points(rig):
    root, _ = rig
    marks = [(0, 0), (150, 10), (140, 120), (10, 110), (70, 60)]
    lines = [f"{x},{y},{x + 3},{y - 2}" for x, y in marks]
    (root / "points.csv").write_text("# x_ir,y_ir,x_vis,y_vis\n" + "\n".join(lines))
    pair = (root / "v/0.png", root / "i/0.png")
    found = json.loads(run("calibrate", *pair, "--points", root / "points.csv").stdout)
    np.testing.assert_allclose(found["homography"], [[1, 0, 3], [0, 1, -2], [0, 0, 1]], atol=1e-6)
    (root / "points.csv").write_text("a,b\n")
    assert "x_ir,y_ir" in run("calibrate", *pair, "--points", root / "points.csv", code=2).stderr


def test_an_unsure_calibration_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (2, 64, 96), dtype=np.uint8)
    for name, image in zip("vi", noise, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    result = run("calibrate", tmp_path / "v.png", tmp_path / "i.png", "-o", tmp_path / "rig.json")
    assert result.stderr.startswith("warning: not sure")
    assert json.loads((tmp_path / "rig.json").read_text())["sure"] is False


def test_scaling_is_stated_and_stored(tmp_path):
    seen = write_folder(tmp_path / "v", colours(1)) / "f0.png"
    warm = write_folder(tmp_path / "i", heat(1)) / "f0.png"
    result = run(
        "fuse", seen, warm, "-o", tmp_path / "f.png", *TINY, "--infrared-range", "7100:7500"
    )
    assert "fixed: uint16 values 7100 to 7500" in result.stderr
    stored = json.loads((tmp_path / "f.png.json").read_text())["infrared_scaling"]
    assert (stored["policy"], stored["low"], stored["high"]) == ("fixed", 7100, 7500)
    assert 0 < stored["below"] < 1
    wrong = run("fuse", seen, warm, "-o", tmp_path / "f.png", "--infrared-range", "20", code=2)
    assert "LOW:HIGH" in wrong.stderr


def test_folders_become_a_video_and_two_videos_one(tmp_path):
    seen, warm = write_folder(tmp_path / "v", colours(4)), write_folder(tmp_path / "i", heat(4))
    result = run("fuse", seen, warm, "-o", tmp_path / "f.mkv", "--fps", 10, *TINY)
    assert "fused 4 frames at 10 per second" in result.stderr
    assert [round(time * 10) for time in read_video(tmp_path / "f.mkv")[1]] == [0, 1, 2, 3]
    video = write_video(tmp_path / "v.mp4", colours(4), 25, "libx264", audio=True)
    deep = write_video(tmp_path / "i.mkv", heat(4), 25)
    run("fuse", video, deep, "-o", tmp_path / "g.mp4", *TINY)
    pictures, _, heard = read_video(tmp_path / "g.mp4")
    assert len(pictures) == 4
    assert heard > 0


def test_one_range_for_a_folder_on_request(tmp_path):
    seen = write_folder(tmp_path / "v", colours(3))
    warm = write_folder(tmp_path / "i", heat(3, hot=[1]))
    run("fuse", seen, warm, "-o", tmp_path / "out", "--infrared-scaling", "sequence", *TINY)
    record = json.loads((tmp_path / "out.fusion.json").read_text())
    ranges = {file["infrared_scaling"]["high"] for file in record["files"].values()}
    assert len(record["files"]) == 3
    assert ranges == {record["sequence_range"][1]}
    again = run("fuse", seen, warm, "-o", tmp_path / "out", "--infrared-scaling", "sequence", *TINY)
    assert "fused 3 of 3 pairs (3 before)" in again.stderr


def test_live_from_files(tmp_path):
    video = write_video(tmp_path / "v.mp4", colours(6), 25, "libx264")
    deep = write_video(tmp_path / "i.mkv", heat(6), 25)
    result = run("live", video, deep, "-o", tmp_path / "l.mkv", "--paced", "--max-delay", 5, *TINY)
    count = json.loads(result.stdout)
    assert count["fused"] + count["dropped"] + count["unmatched"] == 6
    assert len(read_video(tmp_path / "l.mkv")[0]) == count["fused"]


def test_contradictory_engines_are_refused(tmp_path):
    seen = write_folder(tmp_path / "v", colours(1))
    pair = (seen / "f0.png", seen / "f0.png")
    both = run("fuse", *pair, "-o", tmp_path / "f.png", *TINY, "--endpoint", "http://x", code=2)
    assert "its own network" in both.stderr
    none = run("fuse", *pair, "-o", tmp_path / "f.png", *TINY, "--workers", 0, code=2)
    assert "--workers 0" in none.stderr
