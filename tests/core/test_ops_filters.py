"""Separable filtering against SciPy, and its derivative."""

import pytest
import torch
from scipy.signal import convolve2d

from dtpf.core.ops.filters import _convolved, box_mean, filter_windows


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
    torch.testing.assert_close(
        filter_windows(image, WINDOW, step), _convolved(image, WINDOW, step), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("size", [(9, 12), (10, 11)])
def test_gradients(size, step):
    image = images(*size).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: filter_windows(x, WINDOW, step), image)


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
