"""Reflection padding against numpy.pad."""

import numpy as np
import pytest
import torch

from dtpf.core.ops.padding import reflect_pad_to_multiple


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 65), (16, 17), (2, 3)])
@pytest.mark.parametrize("multiple", [1, 7, 64])
def test_equals_numpy(height, width, multiple):
    image = torch.rand(2, 3, height, width)
    padded = reflect_pad_to_multiple(image, multiple)
    ends = ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
    np.testing.assert_array_equal(padded.numpy(), np.pad(image.numpy(), ends, mode="reflect"))


def test_keeps_what_already_fits():
    image = torch.rand(1, 1, 64, 128)
    assert reflect_pad_to_multiple(image, 64) is image


def test_gradient():
    image = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: reflect_pad_to_multiple(x, 8), image)


@pytest.mark.parametrize(
    ("shape", "multiple", "message"),
    [
        ((1, 1, 4, 4), 0, "multiple must be positive"),
        ((4, 4), 2, r"expected \(B, C, H, W\)"),
        ((1, 1, 1, 4), 2, "one pixel"),
    ],
)
def test_rejects(shape, multiple, message):
    with pytest.raises(ValueError, match=message):
        reflect_pad_to_multiple(torch.rand(shape), multiple)
