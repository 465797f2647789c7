import numpy as np
import pytest

from dtpf.core.fusion import Fuser
from dtpf.serving.tiling import fuse_tiled
from tests.serving.fakes import infrared_array, visible_array


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (65, 64), (200, 300), (30, 2000), (2000, 30), (129, 1000)]
)
def test_pointwise_fusion_is_the_same_in_tiles(height, width):
    calls = []

    def mean(visible, infrared):
        calls.append(infrared.shape)
        return (visible + infrared[..., None]) / 2

    visible, infrared = visible_array(height, width), infrared_array(height, width)
    fused = fuse_tiled(mean, visible, infrared, 64 * 64)
    np.testing.assert_allclose(fused, mean(visible, infrared), atol=1e-6)
    assert fused.dtype == np.float32
    assert len(set(calls[:-1])) == 1
    assert all(rows * columns <= 64 * 64 for rows, columns in calls[:-1])


def test_a_pair_that_fits_is_one_call():
    calls = []
    fuse_tiled(
        lambda v, i: calls.append(1) or v, visible_array(64, 64), infrared_array(64, 64), 4096
    )
    assert calls == [1]


def test_tiles_that_differ_in_brightness_show_no_step():
    levels = iter(np.linspace(0, 1, 100, dtype=np.float32))
    visible, infrared = visible_array(64, 600), infrared_array(64, 600)
    fused = fuse_tiled(lambda v, _: np.full_like(v, next(levels)), visible, infrared, 64 * 64)
    steps = np.abs(np.diff(fused[..., 0], axis=1))
    assert steps.max() <= 0.01 / 15


def test_a_real_network_in_tiles_is_close_to_one_call():
    fuser = Fuser.from_bundle("student_tiny")
    y, x = np.mgrid[0:96, 0:96] / 96
    infrared = (0.5 + 0.5 * np.sin(7 * x + 3 * y)).astype(np.float32)
    visible = np.stack([x, y, 1 - x], axis=-1).astype(np.float32)
    whole = fuser.fuse(visible, infrared)
    tiled = fuse_tiled(fuser.fuse, visible, infrared, 64 * 64)
    assert np.abs(tiled - whole).mean() < 0.02
