"""Colour conversion against kornia and Pillow."""

import kornia
import numpy as np
import pytest
import torch
from PIL import Image

from dtpf.core.ops.color import luminance, rgb_to_ycbcr, ycbcr_to_rgb


def test_equals_kornia_but_for_its_rounded_constants():
    image = torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(
        rgb_to_ycbcr(image), kornia.color.rgb_to_ycbcr(image), rtol=0, atol=2e-3
    )


def test_equals_pillow_to_its_rounding():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).convert("YCbCr"), dtype=np.float32)
    ours = rgb_to_ycbcr(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    # Pillow centres chroma at 128, we at 127.5.
    ours = 255 * ours[0].permute(1, 2, 0).numpy() + np.array([0, 0.5, 0.5])
    np.testing.assert_allclose(ours, expected, atol=1.01)


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [
        ((0, 0, 0), (0, 0.5, 0.5)),
        ((1, 1, 1), (1, 0.5, 0.5)),
        ((1, 0, 0), (0.299, 0.5 - 0.5 * 0.299 / 0.886, 1.0)),
        ((0, 0, 1), (0.114, 1.0, 0.5 - 0.5 * 0.114 / 0.701)),
    ],
)
def test_known_colours(rgb, ycbcr):
    image = torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1)
    expected = torch.tensor(ycbcr, dtype=torch.float64).view(1, 3, 1, 1)
    torch.testing.assert_close(rgb_to_ycbcr(image), expected)


def test_there_and_back():
    image = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(ycbcr_to_rgb(rgb_to_ycbcr(image)), image)


def test_luminance_of_gray_is_itself():
    gray = torch.rand(2, 1, 4, 4)
    assert luminance(gray) is gray
    torch.testing.assert_close(luminance(gray.expand(-1, 3, -1, -1)), gray)


@pytest.mark.parametrize("function", [luminance, rgb_to_ycbcr, ycbcr_to_rgb])
def test_gradients(function):
    image = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, image)


@pytest.mark.parametrize("function", [luminance, rgb_to_ycbcr, ycbcr_to_rgb])
def test_rejects(function):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got shape \(1, 2, 4, 4\)"):
        function(torch.rand(1, 2, 4, 4))
