"""The share of a degradation that is left, against scipy and sums by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dtpf.core.losses import restoration_loss

TOLERANCE = 3e-3


def images(seed: int, batch: int = 2, side: int = 12):
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, 3, side, side), (batch, 1, side, side)
    return tuple(torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes)


def squared(one: np.ndarray, other: np.ndarray) -> float:
    """Pixels, a tenth of the slopes each way, and a tolerance."""
    change = one - other
    slopes = [
        np.stack([ndimage.sobel(plane, axis, mode="mirror") for plane in change]) for axis in (0, 1)
    ]
    return TOLERANCE + np.mean(change**2) + 0.1 * sum(np.mean(slope**2) for slope in slopes)


def test_values_are_those_of_scipy():
    restored, given, clean = (images(seed) for seed in range(3))
    found = restoration_loss(restored, given, clean, TOLERANCE)
    assert found.shape == (2,)
    for number in range(2):
        shares = [
            squared(own[number].numpy(), goal[number].numpy())
            / squared(start[number].numpy(), goal[number].numpy())
            for own, start, goal in zip(restored, given, clean, strict=True)
        ]
        assert found[number].item() == pytest.approx(np.mean(np.sqrt(shares)))


def test_what_stays_as_it_was_counts_one_and_what_is_spoilt_more():
    given, clean = images(0), images(1)
    assert torch.all(restoration_loss(clean, given, clean, TOLERANCE) < 0.2)
    assert torch.all(restoration_loss(given, given, clean, TOLERANCE) == 1)
    assert torch.all(restoration_loss(clean, clean, clean, TOLERANCE) == 1)
    assert torch.all(restoration_loss(given, clean, clean, TOLERANCE) > 10)


def test_weak_and_strong_degradations_weigh_alike():
    clean = images(0)
    losses = []
    for strength in (0.5, 5.0):
        given = tuple(image + strength * (image > 0.5) for image in clean)
        half = tuple(0.5 * (a + b) for a, b in zip(given, clean, strict=True))
        losses.append(restoration_loss(half, given, clean, TOLERANCE))
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.0)


def test_the_tighter_the_dearer_are_changes_of_clean_images():
    clean, given = images(0), images(1)
    loose, tight = (restoration_loss(given, clean, clean, t) for t in (1e-2, 1e-4))
    torch.testing.assert_close(tight / loose, torch.full_like(tight, 10.0), rtol=0.1, atol=0.0)


def test_gradients():
    restored = [image.requires_grad_() for image in images(0, batch=1, side=6)]
    given, clean = images(1, batch=1, side=6), images(2, batch=1, side=6)
    assert torch.autograd.gradcheck(
        lambda *pair: restoration_loss(pair, given, clean, TOLERANCE), restored
    )


def test_shapes_have_to_agree():
    with pytest.raises(ValueError, match="of one shape"):
        restoration_loss(images(0), images(1), images(2, side=14), TOLERANCE)
