"""Lines of a drifted sensor taken away: the fit against NumPy, and what is left alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from dtpf.core.bundle import Bundle
from dtpf.core.fusion import Fuser
from dtpf.core.models import ModelConfig, build
from dtpf.core.models.amplifiers import Amplifiers, fit_columns, share_of
from dtpf.core.records import Degradation
from dtpf.core.tiling import fuse_tiled
from dtpf.data.degrade import degrade

PLAIN = ModelConfig(width=4, block="convolution", fusion="concat", text=False, start="bands")
CLEANING = PLAIN.model_copy(update={"restoration": 4})


def scene(height: int = 160, width: int = 200, dtype: torch.dtype = torch.float64) -> Tensor:
    """Smooth hills, and a warm pole over a third of the height, (1, 1, H, W)."""
    rng = np.random.default_rng(height * width)
    image = ndimage.gaussian_filter(rng.normal(size=(height, width)), 14)
    image = 0.5 + 0.12 * image / image.std()
    image[height * 2 // 3 :, width // 3 : width // 3 + 4] += 0.25
    return torch.from_numpy(image.clip(0.02, 0.98))[None, None].to(dtype)


def striped(image: Tensor, severity: float, seed: int = 0) -> Tensor:
    array = image[0, 0].numpy().astype(np.float32)
    changed = degrade(
        array, Degradation("infrared", "stripes", severity), np.random.default_rng(seed)
    )
    return torch.from_numpy(changed)[None, None].to(image.dtype)


def rms(image: Tensor) -> float:
    return float(image.square().mean().sqrt())


@pytest.mark.parametrize("size", [(16, 16), (40, 136)])
def test_shapes_are_kept(size):
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    assert Amplifiers()(images).shape == images.shape
    assert share_of(fit_columns(images, 11)).shape == (2,)


@pytest.mark.parametrize("severity", [0.3, 0.6])
def test_most_of_the_lines_go_whichever_way_they_run(severity):
    image = scene()
    spoilt = striped(image, severity)
    assert rms(Amplifiers()(spoilt) - image) < 0.4 * rms(spoilt - image)
    torch.testing.assert_close(Amplifiers()(spoilt.mT), Amplifiers()(spoilt).mT)


def test_edges_noise_and_weak_lines_are_left_bit_by_bit():
    noise = torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(0))
    flat = torch.full((1, 1, 32, 48), 0.5)
    for image in (scene(), striped(scene(), 0.05), noise, flat):
        assert torch.equal(Amplifiers()(image), image)


def test_a_pole_is_no_line():
    """It stands out at its own columns, as lines do, and stays when they go."""
    image = scene()
    spoilt = striped(image, 0.6)
    found = Amplifiers()(spoilt)
    rise = lambda x: float(x[..., 110:, 66:70].mean() - x[..., 110:, 50:60].mean())  # noqa: E731
    assert abs(rise(found) - rise(image)) < 0.25 * rise(image)


def test_the_fit_is_that_of_weighted_least_squares():
    """Against `numpy.linalg.lstsq` on single columns, with the stated weights."""
    image = striped(scene(48, 40), 0.6)
    found = fit_columns(image, 11)
    plane = image[0, 0].numpy()

    def mean(x: np.ndarray) -> np.ndarray:
        window = {"weights": np.ones(11), "axis": 1, "mode": "constant"}
        return ndimage.convolve1d(x, **window) / ndimage.convolve1d(np.ones_like(x), **window)

    level = mean(mean(plane))
    deviation, about = plane - level, level - level.mean(axis=0)
    offsets = np.empty(40)
    for column in range(40):
        rest = deviation[:, column]
        for _ in range(3):
            usable = (plane[:, column] > 1 / 255) & (plane[:, column] < 254 / 255)
            weight = usable / (1 + (rest / 0.05) ** 2)
            rows = np.stack((np.ones(48), about[:, column]), axis=1) * np.sqrt(weight)[:, None]
            # Five pixels that deviate by nothing, of each kind.
            rows = np.vstack((rows, np.sqrt(5) * np.eye(2)))
            goal = np.append(deviation[:, column] * np.sqrt(weight), (0, 0))
            offset, gain = np.linalg.lstsq(rows, goal, rcond=None)[0]
            rest = deviation[:, column] - offset - gain * about[:, column]
        offsets[column] = offset
    np.testing.assert_allclose(found.offset[0, 0, 0].numpy(), offsets - offsets.mean(), atol=1e-12)


def test_gradients():
    image = striped(scene(24, 24), 0.6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fit_columns(x, 11).taken, image, fast_mode=True)


def test_an_image_does_not_see_its_batch():
    images = torch.cat((scene(), striped(scene(), 0.6), striped(scene(), 0.3, seed=1)))
    together = Amplifiers()(images)
    for number in range(3):
        alone = Amplifiers()(images[number : number + 1])[0]
        torch.testing.assert_close(alone, together[number])


def test_the_share_grows_with_the_lines():
    shares = [
        share_of(fit_columns(striped(scene(), severity), 11)).item()
        for severity in (0.05, 0.13, 0.15, 0.3)
    ]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert 0 < shares[1] < shares[2] < shares[3] == 1


def test_tiles_of_a_large_image_have_the_lines_of_the_whole_taken_out():
    """Fits to tiles alone differ where a column runs from one into the next."""
    torch.manual_seed(0)
    fuser = Fuser(Bundle(build(CLEANING).eval(), "memory:tests/lines", "0" * 64))
    image = scene(320, 448, dtype=torch.float32)
    visible = np.full((320, 448, 3), 0.2, np.float32)
    infrared = striped(image, 0.6)[0, 0].numpy()
    whole = fuser.fuse(visible, infrared)
    difference = np.abs(fuse_tiled(fuser, visible, infrared, 192**2) - whole)
    assert difference.mean() < 0.3 / 255
    assert np.abs(fuser.prepared(infrared) - infrared).mean() > 5 / 255
    plain = Fuser(Bundle(build(PLAIN).eval(), "memory:tests/plain", "0" * 64))
    assert plain.prepared(infrared) is infrared
