import numpy as np
import pytest

from dtpf.cameras.calibration import Calibration
from dtpf.cameras.prepare import CameraConfig, Rig
from dtpf.core.errors import UserError
from tests.cameras.support import colours, heat

SEEN = colours(1)[0]
HEAT = heat(1)[0]


def calibration(x=0.0, y=0.0, infrared=(32, 48), visible=(32, 48)) -> Calibration:
    rows = ((1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0))
    return Calibration(
        homography=rows,
        infrared_size=infrared,
        visible_size=visible,
        method="points",
        model="homography",
        pairs=5,
        score=0.0,
        spread=0.0,
        sure=True,
    )


def test_a_plain_8_bit_pair_is_left_alone():
    prepared = Rig().prepare(SEEN, SEEN[..., 0])
    assert not prepared.changed
    np.testing.assert_array_equal(prepared.visible, SEEN / np.float32(255))
    np.testing.assert_array_equal(prepared.infrared, SEEN[..., 0] / np.float32(255))
    fused = np.float32(prepared.visible)
    assert Rig().finish(fused, prepared) is fused


def test_what_was_done_is_stated():
    prepared = Rig().prepare(SEEN, HEAT)
    facts = prepared.as_dict()
    assert prepared.changed
    assert facts["infrared_scaling"]["policy"] == "percentile"
    assert 7000 <= facts["infrared_scaling"]["low"] < facts["infrared_scaling"]["high"] < 8000
    assert (facts["geometry"], facts["size"], facts["seen_by_both"]) == ("kept", [32, 48], 1.0)


@pytest.mark.parametrize(("policy", "size"), [("visible", (32, 48)), ("infrared", (16, 24))])
def test_one_resolution_policy_for_sizes_that_differ(policy, size):
    small = SEEN[::2, ::2, 0]
    prepared = Rig(CameraConfig(resolution=policy)).prepare(SEEN, small)
    assert prepared.visible.shape == (*size, 3)
    assert prepared.infrared.shape == size
    assert prepared.as_dict()["geometry"].startswith("visible is 48x32 and infrared is 24x16; ")
    gap = np.abs(prepared.visible[..., 0] - prepared.infrared)[2:-2, 2:-2]
    assert gap.mean() < 0.08  # smooth scene: it lies where it did
    with pytest.raises(UserError, match="--resolution"):
        Rig().prepare(SEEN, small)


def test_a_calibration_moves_the_infrared_and_where_it_ends_the_visible_stands_alone():
    rig = Rig(CameraConfig(calibration=calibration(x=10)))
    prepared = rig.prepare(SEEN, SEEN[..., 0])
    np.testing.assert_allclose(
        prepared.infrared[:, 10:], SEEN[:, :-10, 0] / np.float32(255), atol=1e-5
    )
    assert prepared.as_dict()["seen_by_both"] == pytest.approx(38 / 48, abs=1e-3)
    picture = rig.finish(np.zeros_like(prepared.visible), prepared)
    np.testing.assert_array_equal(picture[:, :9], prepared.visible[:, :9])
    np.testing.assert_array_equal(picture[:, 20:], 0)


def test_a_calibration_the_other_way():
    rig = Rig(CameraConfig(calibration=calibration(x=10), resolution="infrared"))
    prepared = rig.prepare(SEEN, SEEN[..., 0])
    np.testing.assert_allclose(
        prepared.visible[:, :-10, 0], SEEN[:, 10:, 0] / np.float32(255), atol=1e-5
    )


def test_a_calibration_that_misses_the_picture_is_refused():
    with pytest.raises(UserError, match="beside each other"):
        Rig(CameraConfig(calibration=calibration(x=500))).prepare(SEEN, HEAT)


def test_false_colours_are_reported_or_undone():
    hot = np.linspace(0, 1, 32 * 48).reshape(32, 48)
    from matplotlib import colormaps

    rgb = np.uint8(255 * colormaps["jet"](hot)[..., :3])
    assert "jet" in Rig().prepare(SEEN, rgb).remarks[0]
    prepared = Rig(CameraConfig(palette="jet")).prepare(SEEN, rgb)
    assert prepared.remarks == ()
    assert np.abs(prepared.infrared - np.clip((hot - 0.005) / 0.99, 0, 1)).max() < 0.02
    with pytest.raises(UserError, match="known are"):
        Rig(CameraConfig(palette="sepia"))


def test_gray_on_request():
    rig = Rig(CameraConfig(gray=True))
    prepared = rig.prepare(SEEN, HEAT)
    assert rig.finish(prepared.visible, prepared).shape == (32, 48)
