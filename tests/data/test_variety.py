"""Crops as other light and other cameras show them."""

import numpy as np
import pytest
import torch

from dtpf.data.variety import vary


def crop(value=None, side=48):
    """Return visible, infrared and both guides: random, or of one value."""
    random = torch.rand(4, side, side, generator=torch.Generator().manual_seed(side))
    planes = random if value is None else torch.full((4, side, side), value)
    return [planes[:3], planes[3:], planes[:3].clone(), planes[3:].clone()]


def varied(images, seed, **shares):
    return vary(images, shares, np.random.default_rng(seed))


@pytest.mark.parametrize("change", ["dimmed", "softened", "grainy"])
@pytest.mark.parametrize("seed", range(8))
def test_images_and_guides_change_alike_and_stay_images(change, seed):
    images = crop()
    result, done = varied(images, seed, **{change: 1.0})
    assert done == {change}
    assert [each.shape for each in result] == [each.shape for each in images]
    assert torch.equal(result[0], result[2])
    assert torch.equal(result[1], result[3])
    assert not torch.equal(result[0], images[0])
    assert all(each.dtype == torch.float32 for each in result)
    assert 0.0 <= min(each.min() for each in result) <= max(each.max() for each in result) <= 1.0


def test_shares_are_kept_and_none_changes_nothing():
    images = crop(side=16)
    counts = [varied(images, seed, dimmed=0.25, grainy=0.75)[1] for seed in range(400)]
    assert sum("dimmed" in done for done in counts) == pytest.approx(100, abs=30)
    assert sum("grainy" in done for done in counts) == pytest.approx(300, abs=30)
    assert not any("softened" in done for done in counts)
    unchanged, done = varied(images, 0)
    assert done == set()
    assert all(torch.equal(a, b) for a, b in zip(unchanged, images, strict=True))


def test_the_same_seed_gives_the_same_crop():
    shares = {"dimmed": 0.5, "softened": 0.5, "grainy": 0.5}
    first, again, other = (varied(crop(), seed, **shares)[0] for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_dimming_is_a_factor_or_a_curve_that_leaves_white_alone():
    ramp = [torch.linspace(0.0, 1.0, 48).expand(channels, 48, 48) for channels in (3, 1, 3, 1)]
    lights = []
    for seed in range(40):
        (seen, heat, *_), _ = varied(ramp, seed, dimmed=1.0)
        assert (seen <= ramp[0]).all()
        assert (heat <= ramp[1]).all()
        assert (seen.diff(dim=2) >= 0).all()
        lights += [seen.max().item(), heat.max().item()]
    curves = [light for light in lights if light == 1.0]
    factors = [light for light in lights if light < 1.0]
    assert len(curves) > 20
    assert 0.1 <= min(factors) < 0.3
    assert len(factors) > 20


def test_softening_is_a_blur_of_every_plane():
    point = [torch.zeros(channels, 33, 33) for channels in (3, 1, 3, 1)]
    for each in point:
        each[:, 16, 16] = 1.0
    for seed in range(20):
        images, _ = varied(point, seed, softened=1.0)
        for plane in torch.cat(images):
            distance = (torch.arange(33) - 16.0).square()
            assert plane.sum().item() == pytest.approx(1.0, abs=1e-5)
            assert 0.4**2 < (plane.sum(0) * distance).sum() < 1.36**2
            torch.testing.assert_close(plane, plane.T)


def test_grain_is_of_each_modality_and_blurred_where_it_came_first():
    spreads, neighbours = [], []
    for seed in range(60):
        (seen, heat, *_), _ = varied(crop(0.5, 64), seed, softened=1.0, grainy=1.0)
        spreads.append((seen - 0.5).std().item())
        centred = heat - heat.mean()
        product = (centred[..., 1:] * centred[..., :-1]).mean()
        neighbours.append((product / centred.square().mean()).item())
        assert (seen[:1] - heat).abs().max() > 0
    assert 0.0 < min(spreads) < max(spreads) < 0.031
    assert 15 < sum(value > 0.2 for value in neighbours) < 45
