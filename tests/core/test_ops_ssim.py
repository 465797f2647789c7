"""SSIM against scikit-image."""

import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from dtpf.core.ops.ssim import gaussian_filter, gaussian_window, ssim_map


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("shape", [(32, 40), (11, 11), (47, 13)])
def test_equals_scikit_image(data_range, shape):
    torch.manual_seed(0)
    first = data_range * torch.rand(2, 1, *shape, dtype=torch.float64)
    second = 0.6 * first + 0.4 * data_range * torch.rand_like(first)
    ours = ssim_map(first, second, data_range)
    for n in range(2):
        expected = structural_similarity(
            first[n, 0].numpy(),
            second[n, 0].numpy(),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert ours[n].mean().item() == pytest.approx(expected, abs=1e-9)


def test_filter_equals_scipy():
    image = torch.rand(2, 3, 20, 15, dtype=torch.float64)
    ours = gaussian_filter(image, gaussian_window(11, 1.5, dtype=torch.float64))
    full = ndimage.gaussian_filter(image.numpy(), 1.5, radius=5, axes=(2, 3))
    torch.testing.assert_close(ours, torch.from_numpy(full[..., 5:-5, 5:-5]))


def test_shape_and_identity():
    image = torch.rand(2, 3, 20, 15)
    result = ssim_map(image, image)
    assert result.shape == (2, 3, 10, 5)
    torch.testing.assert_close(result, torch.ones_like(result))


def test_gradient():
    first = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    second = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ssim_map, (first, second), fast_mode=True)


def test_rejects():
    image = torch.rand(1, 1, 16, 16)
    with pytest.raises(ValueError, match="one shape"):
        ssim_map(image, image[..., :12])
    with pytest.raises(ValueError, match="11 pixels"):
        ssim_map(image[..., :10], image[..., :10])
    with pytest.raises(ValueError, match="odd size"):
        gaussian_window(10)
