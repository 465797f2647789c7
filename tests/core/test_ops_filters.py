"""Separable filtering against SciPy, and its derivative."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from dtpf.core.ops.filters import _convolved, box_mean, filter_windows, smoothed


def images(height, width, batch=2):
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(batch, height, width, generator=generator, dtype=torch.float64)


WINDOW = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)  # no symmetry to lean on


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 5), (12, 17), (20, 9)])
def test_equals_scipy(size, step):
    image = images(*size)
    kernel = torch.outer(WINDOW, WINDOW).flip(0, 1).numpy()
    for image_HW, found in zip(image, filter_windows(image, WINDOW, step), strict=True):
        expected = convolve2d(image_HW.numpy(), kernel, "valid")[::step, ::step]
        torch.testing.assert_close(found, torch.from_numpy(expected.copy()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("step", [1, 2])
def test_both_ways_give_the_same(step):
    image = images(14, 23)
    convolved = _convolved(image[:, None], WINDOW, step)[:, 0]
    torch.testing.assert_close(filter_windows(image, WINDOW, step), convolved, rtol=1e-12, atol=0)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("size", [(9, 12), (10, 11)])
def test_gradients(size, step):
    image = images(*size).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: filter_windows(x, WINDOW, step), image)


@pytest.mark.parametrize(("padding", "boundary"), [("constant", "fill"), ("circular", "wrap")])
@pytest.mark.parametrize("size", [(3, 3), (12, 17), (20, 9)])
def test_smoothed_equals_scipy_and_keeps_the_size(size, padding, boundary):
    image = images(*size)
    kernel = torch.outer(WINDOW, WINDOW).flip(0, 1).numpy()
    found = smoothed(image[:, None], WINDOW, padding)
    assert found.shape == (2, 1, *size)
    for image_HW, found_HW in zip(image, found[:, 0], strict=True):
        expected = torch.from_numpy(convolve2d(image_HW.numpy(), kernel, "same", boundary))
        torch.testing.assert_close(found_HW, expected, rtol=1e-12, atol=0)


def test_smoothed_reflects_unless_told_otherwise():
    image = images(7, 9)[:, None]
    kernel = torch.outer(WINDOW, WINDOW).flip(0, 1).numpy()
    padded = np.pad(image[0, 0].numpy(), 2, mode="reflect")
    expected = torch.from_numpy(convolve2d(padded, kernel, "valid"))
    torch.testing.assert_close(smoothed(image, WINDOW)[0, 0], expected, rtol=1e-12, atol=0)


def test_gradients_of_smoothed():
    image = images(5, 6)[:, None].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smoothed(x, WINDOW), image)


def test_smoothed_refuses_an_image_smaller_than_its_reflection():
    with pytest.raises(RuntimeError, match="size"):
        smoothed(images(2, 9)[:, None], WINDOW)


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (3, 1), (1, 11), (17, 17), (127, 5), (13, 31)]
)
@pytest.mark.parametrize("size", [(16, 40), (90, 31), (9, 8)])
def test_box_means_equal_pooling_of_what_lies_in_the_image(rows, columns, size):
    planes = images(*size, batch=6).unflatten(0, (2, 3))
    found = box_mean(planes, rows, columns)
    padded = torch.nn.functional.pad(planes, (columns // 2, columns // 2, rows // 2, rows // 2))
    inside = torch.nn.functional.pad(torch.ones_like(planes), 2 * [columns // 2] + 2 * [rows // 2])
    sums, counts = (
        x.unfold(2, rows, 1).unfold(3, columns, 1).sum((4, 5)) for x in (padded, inside)
    )
    torch.testing.assert_close(found, sums / counts, rtol=1e-12, atol=0)


def test_the_derivative_of_box_means():
    planes = images(6, 7)[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: box_mean(x, 3, 5), planes)
