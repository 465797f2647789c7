"""Colour conversion against kornia and Pillow."""

import kornia
import numpy as np
import pytest
import torch
from PIL import Image

from dtpf.core.ops.color import luminance, raise_luminance, rgb_to_ycbcr, ycbcr_to_rgb


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


def test_raised_luminance_is_the_maximum_and_keeps_the_colour():
    visible = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    infrared = torch.rand(2, 1, 5, 6, dtype=torch.float64)
    expected = kornia.color.rgb_to_ycbcr(visible)
    expected[:, :1] = torch.maximum(expected[:, :1], infrared)
    raised = kornia.color.rgb_to_ycbcr(raise_luminance(visible, infrared))
    torch.testing.assert_close(raised, expected, rtol=0, atol=1e-6)


def test_nothing_is_raised_to_darkness():
    visible = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(raise_luminance(visible, torch.zeros(1, 1, 4, 4)), visible)


def test_raising_passes_gradients_where_the_infrared_is_brighter():
    visible = torch.full((1, 3, 1, 2), 0.5, dtype=torch.float64, requires_grad=True)
    infrared = torch.tensor([[[[0.2, 0.9]]]], dtype=torch.float64, requires_grad=True)
    raise_luminance(visible, infrared).sum().backward()
    torch.testing.assert_close(infrared.grad, torch.tensor([[[[0.0, 3.0]]]]).double())
    torch.testing.assert_close(visible.grad[0, :, 0, 0], torch.ones(3).double())
    torch.testing.assert_close(visible.grad.sum(dim=1)[0, 0, 1], torch.tensor(0.0).double())
    assert torch.autograd.gradcheck(raise_luminance, (visible, infrared))


@pytest.mark.parametrize("function", [luminance, rgb_to_ycbcr, ycbcr_to_rgb])
def test_gradients(function):
    image = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, image)


@pytest.mark.parametrize("function", [luminance, rgb_to_ycbcr, ycbcr_to_rgb])
def test_rejects(function):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got shape \(1, 2, 4, 4\)"):
        function(torch.rand(1, 2, 4, 4))
