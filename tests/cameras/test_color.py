import colorsys

import numpy as np
import torch

from dtpf.cameras.color import recolor
from dtpf.cameras.prepare import CameraConfig, Rig
from dtpf.core.ops.color import rgb_to_ycbcr
from dtpf.core.ops.pixels import luma
from tests.cameras.support import colours

SEEN = colours(1)[0] / np.float32(255)


def chroma(image):
    bchw = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return rgb_to_ycbcr(bchw)[0, 1:].numpy() - 0.5


def test_luminance_is_the_picture_s_and_colour_the_visible_one_s():
    level = 0.4 + 0.2 * np.random.default_rng(0).random(SEEN.shape[:2]).astype(np.float32)
    image = recolor(level, 0.5 + 0.3 * (SEEN - 0.5))
    np.testing.assert_allclose(luma(image), level, atol=1e-5)
    np.testing.assert_allclose(chroma(image), chroma(0.5 + 0.3 * (SEEN - 0.5)), atol=1e-5)


def test_a_hot_edge_has_no_fringe():
    """Hue stays that of the visible image on both sides; clamping channels would turn it."""
    seen = np.broadcast_to(np.float32([0.7, 0.45, 0.2]), (16, 32, 3))
    level = np.where(np.arange(32) < 16, 0.3, 0.95).astype(np.float32) * np.ones((16, 1))
    image = recolor(np.float32(level), seen)
    assert image.min() >= 0
    assert image.max() <= 1
    np.testing.assert_allclose(luma(image), level, atol=1e-5)
    clamped = np.clip(seen + (level - luma(seen))[..., None], 0, 1)

    def turned(picture):
        hue = colorsys.rgb_to_hsv(*map(float, picture[8, 20]))[0]
        return abs(hue - colorsys.rgb_to_hsv(0.7, 0.45, 0.2)[0])

    assert turned(image) < 1e-4
    assert turned(clamped) > 0.01
    strength = np.abs(chroma(image)).max(axis=0)
    assert (strength <= np.abs(chroma(seen)).max() + 1e-6).all()


def test_a_gray_scene_stays_gray():
    gray = np.repeat(luma(SEEN)[..., None], 3, axis=2)
    rig = Rig(CameraConfig(color="visible"))
    prepared = rig.prepare(gray, gray[..., 0])
    tinted = np.clip(gray * np.float32([1.1, 1.0, 0.8]), 0, 1)
    assert np.ptp(rig.finish(tinted, prepared), axis=2).max() < 1e-5
    assert np.ptp(Rig().finish(tinted, prepared), axis=2).max() > 0.05
