"""Tone: haze undone, against SciPy, and what it promises at first."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dtpf.core.models.tone import Tone, dark_channel, without_haze
from dtpf.data.weather import haze


def scene(height: int = 48, width: int = 64, batch: int = 1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(height * width)
    rand = lambda channels: torch.rand(  # noqa: E731
        batch, channels, height, width, generator=generator, dtype=dtype
    )
    return rand(3), rand(1)


def lifting(share: float) -> Tone:
    """One that takes everything for that share of haze."""
    tone = Tone().double()
    with torch.no_grad():
        tone.out.bias.fill_(share)
    return tone


def mean(plane: np.ndarray, size: int) -> np.ndarray:
    """Over a square, of what lies in the image."""
    window = {"weights": np.ones((size, size)), "mode": "constant"}
    return ndimage.convolve(plane, **window) / ndimage.convolve(np.ones_like(plane), **window)


@pytest.mark.parametrize("size", [(16, 16), (40, 136)])
@torch.no_grad()
def test_shapes_are_kept(size):
    images = scene(*size, batch=2)
    assert lifting(0.5)(*images).shape == lifting(0.5).right(*images).shape == (2, 3, *size)


@torch.no_grad()
def test_a_new_one_changes_nothing():
    visible, infrared = scene()
    torch.testing.assert_close(Tone().double()(visible, infrared), visible)
    assert torch.equal(Tone().double().right(visible, infrared), visible)


def test_the_dark_channel_is_that_of_scipy():
    visible = scene(70, 90)[0]
    darkest = visible[0].numpy().min(axis=0)
    nearby = ndimage.minimum_filter(darkest, 15, mode="nearest")
    expected = np.minimum(np.minimum(mean(mean(nearby, 31), 31), darkest), 0.85)
    np.testing.assert_allclose(dark_channel(visible)[0, 0], expected, atol=1e-12)
    assert dark_channel(torch.ones_like(visible)).max() == 0.85


def test_haze_of_known_thickness_is_undone():
    """By Koschmieder's law, with the transmission that the dark channel says."""
    hazy = 0.3 + 0.5 * scene()[0]
    dark = dark_channel(hazy)
    for share in (0.0, 0.5, 1.0):
        through = 1 - share * dark / 0.85
        found = without_haze(hazy, dark, torch.full_like(dark, share))
        torch.testing.assert_close(found * through + 0.85 * (1 - through), hazy)
    assert without_haze(hazy, dark, torch.ones_like(dark)).min() < 0.1  # something is black again


def test_at_most_a_fifth_of_the_light_is_taken_to_come_through():
    thick = torch.full((1, 3, 16, 16), 0.84)
    found = without_haze(thick, dark_channel(thick), torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(found, (thick - 0.85 * 0.8) / 0.2)


@torch.no_grad()
def test_haze_of_our_own_gets_nearer_to_the_scene(bars_in_front):
    clear = bars_in_front
    rng = np.random.default_rng(0)
    hazy = torch.from_numpy(haze(clear, 0.6, rng, clear.shape[1])).permute(2, 0, 1)[None].double()
    wanted = torch.from_numpy(clear).permute(2, 0, 1)[None].double()
    found = lifting(0.4).right(hazy, hazy[:, :1])
    assert (found - wanted).square().mean() < 0.3 * (hazy - wanted).square().mean()


@pytest.fixture
def bars_in_front():
    """Bars of many brightnesses in front of a dark ground, as tall as an image."""
    rows, columns = np.mgrid[0:96, 0:128]
    bars = 0.1 + 0.5 * ((columns // 6) % 3 == 1) * (0.5 + rows / 192)
    return np.stack([bars, 0.8 * bars, 0.6 * bars], axis=-1).astype(np.float32)


@torch.no_grad()
def test_doubtful_shares_are_left():
    visible, infrared = scene()
    visible[:] = 0.4 + 0.5 * visible
    assert torch.equal(lifting(0.14).right(visible, infrared), visible)
    assert torch.equal(lifting(-3.0).right(visible, infrared), visible)
    certain = lifting(0.4).right(visible, infrared)
    torch.testing.assert_close(certain, lifting(0.8)(visible, infrared).clamp(0, 1))
    torch.testing.assert_close(lifting(4.0).right(visible, infrared), certain)
    half = lifting(0.275).right(visible, infrared)
    torch.testing.assert_close(half, lifting(0.4)(visible, infrared).clamp(0, 1))


@torch.no_grad()
def test_a_pair_does_not_see_the_others_of_its_batch():
    tone, (visible, infrared) = lifting(0.5), scene(batch=3)
    torch.nn.init.normal_(tone.out.weight)
    alone = tone(visible[1:2], infrared[1:2])
    torch.testing.assert_close(tone(visible, infrared)[1:2], alone)


def test_gradients():
    tone, (visible, infrared) = lifting(0.3), scene(16, 24)
    torch.nn.init.normal_(tone.out.weight, std=0.1)
    weights = tuple(tone.parameters())

    def changed(*values):
        named = dict(zip(dict(tone.named_parameters()), values, strict=True))
        return torch.func.functional_call(tone, named, (visible, infrared))

    assert torch.autograd.gradcheck(changed, weights, fast_mode=True)
    tone(visible, infrared).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in weights)


def test_sides_that_do_not_fit_into_cells_are_refused():
    with pytest.raises(RuntimeError, match="size"):
        Tone().double()(*scene(20, 30))
