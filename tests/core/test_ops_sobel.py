"""Sobel derivatives against scipy.ndimage."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dtpf.core.ops.sobel import gradient_magnitude, sobel

SCIPY_MODES = {"replicate": "nearest", "reflect": "mirror", "constant": "constant"}


@pytest.mark.parametrize("border", SCIPY_MODES)
def test_equals_scipy(border):
    image = torch.rand(2, 3, 9, 12, dtype=torch.float64)
    horizontal, vertical = sobel(image, border)
    for ours, axis in ((horizontal, 3), (vertical, 2)):
        expected = np.stack(
            [
                [ndimage.sobel(plane, axis - 2, mode=SCIPY_MODES[border]) for plane in planes]
                for planes in image.numpy()
            ]
        )
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


def test_a_step_of_one_gives_four():
    image = torch.zeros(1, 1, 5, 6)
    image[..., 3:] = 1.0
    horizontal, vertical = sobel(image)
    assert horizontal[0, 0, 2].tolist() == [0, 0, 4, 4, 0, 0]
    assert not vertical.any()
    assert torch.equal(gradient_magnitude(image), horizontal)


def test_magnitude_is_the_length():
    image = torch.rand(2, 1, 6, 6)
    torch.testing.assert_close(gradient_magnitude(image), torch.hypot(*sobel(image)))


def test_gradients():
    image = torch.rand(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sobel, image)
    assert torch.autograd.gradcheck(gradient_magnitude, image)


def test_gradient_is_finite_where_the_image_is_flat():
    image = torch.full((1, 1, 8, 8), 0.3, requires_grad=True)
    gradient_magnitude(image).sum().backward()
    assert torch.equal(image.grad, torch.zeros_like(image))


def test_rejects():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got shape \(4, 4\)"):
        sobel(torch.rand(4, 4))
