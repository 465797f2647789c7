"""Over-exposure undone: what is seen of an image against NumPy, and what it promises at first."""

import numpy as np
import pytest
import torch

from dtpf.core.bundle import Bundle
from dtpf.core.fusion import Fuser
from dtpf.core.models import ModelConfig, build
from dtpf.core.models.exposure import MEANS, Exposure
from dtpf.core.models.moments import ImageMoments
from dtpf.core.records import Degradation
from dtpf.core.tiling import fuse_tiled
from dtpf.data.degrade import degrade

CLEANING = ModelConfig(
    width=4, block="convolution", fusion="concat", text=False, start="bands", restoration=4
)


def scene(height: int = 48, width: int = 64, batch: int = 1, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=dtype)


def certain(severity: float) -> Exposure:
    """One that takes everything for so severely over-exposed."""
    exposure = Exposure().double()
    exposure.bias.copy_(torch.tensor([50.0, severity]))
    return exposure


@pytest.mark.parametrize("size", [(16, 16), (40, 136)])
def test_shapes_are_kept(size):
    images = scene(*size, batch=2)
    assert certain(0.5)(images).shape == (2, 3, *size)
    assert certain(0.5).means(images).shape == (2, MEANS)


def test_a_new_one_changes_nothing():
    images = scene()
    assert torch.equal(Exposure().double()(images), images)


def test_an_image_that_was_not_clipped_comes_back():
    image = 0.6 * scene()[0].permute(1, 2, 0).numpy()
    spoilt = degrade(image, Degradation("visible", "over_exposure", 0.5), np.random.default_rng(0))
    found = certain(0.5)(torch.from_numpy(spoilt).double().permute(2, 0, 1)[None])
    np.testing.assert_allclose(found[0].permute(1, 2, 0), image, atol=1e-6)


def test_doubtful_ones_are_left_in_part():
    exposure, images = certain(1.0), scene()
    changes = []
    for probability in (0.6, 0.7, 0.8, 0.99):
        exposure.bias[0] = np.log(probability / (1 - probability))
        changes.append((images - exposure(images)).abs().mean().item())
    assert changes[0] == 0
    assert changes == sorted(set(changes))


def test_what_is_seen_is_that_of_numpy():
    image = scene(20, 24)[0] * 1.4
    image[:, 4:12, 8:16] = 1.5
    image = image.clamp(0, 1)
    pixels = image.permute(1, 2, 0).numpy()
    cells = pixels.reshape(5, 4, 6, 4, 3).mean(axis=(1, 3))
    gray, darkest = cells @ (0.299, 0.587, 0.114), cells.min(axis=2)
    expected = [
        np.clip((plane - level / 10) / 0.1 + 0.5, 0, 1).mean()
        for plane in (gray, darkest)
        for level in range(1, 10)
    ]
    expected.append((cells.max(axis=2) - darkest).mean())
    for channels in (pixels.max(axis=2), pixels.min(axis=2)):
        lowest = channels.reshape(5, 4, 6, 4).min(axis=(1, 3))
        expected.append(np.sqrt(np.clip((lowest - 0.99) / 0.008, 0, 1).mean() + 1e-5))
    found = Exposure().double().means(image[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)  # luminance has float32 weights
    assert found[-1] > 0.3  # something was clipped


def test_gradients():
    exposure, images = certain(0.4), 0.5 * scene(8, 8) + 0.2
    exposure.weight[1].uniform_(0, 0.05, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    assert torch.autograd.gradcheck(exposure, images)


def test_an_image_does_not_see_its_batch():
    exposure, images = Exposure().double(), scene(batch=3)
    exposure.weight.uniform_(0, 1, generator=torch.Generator().manual_seed(0))
    together = exposure(images)
    for number in range(3):
        torch.testing.assert_close(exposure(images[number : number + 1])[0], together[number])


def test_tiles_know_the_means_of_the_image():
    exposure, images = Exposure().double(), scene(64, 96)
    moments = ImageMoments(ImageMoments())
    with moments.collecting():
        for tile in images.split(32, dim=3):
            exposure.means(tile)
    with moments.applied():
        torch.testing.assert_close(exposure.means(images[..., :32]), exposure.means(images))


def test_tiles_of_a_large_image_are_changed_alike():
    """Left half bright, right half dark: tiles of their own would be judged each otherwise."""
    torch.manual_seed(0)
    model = build(CLEANING).eval()
    exposure = model.restorer.exposure
    exposure.weight[0, 4] = 200.0  # how much of the image is brighter than 0.5
    exposure.bias.copy_(torch.tensor([-80.0, 1.0]))
    fuser = Fuser(Bundle(model, "memory:tests/light", "0" * 64))
    rng = np.random.default_rng(0)
    visible = rng.uniform(0.1, 0.3, (320, 448, 3)).astype(np.float32)
    visible[:, :224] += 0.6
    infrared = rng.random((320, 448), dtype=np.float32)
    whole = fuser.fuse(visible, infrared)
    difference = np.abs(fuse_tiled(fuser, visible, infrared, 192**2) - whole)
    assert difference.mean() < 0.3 / 255
    model.restorer.exposure.bias[0] = -500.0
    assert np.abs(fuser.fuse(visible, infrared) - whole).mean() > 10 / 255
