"""What is left of degradations, and how well they are seen, against scipy and sums by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dtpf.core.losses import judgement_loss, restoration_loss, tone_loss

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


def cells(planes: np.ndarray) -> np.ndarray:
    """Means over 4 x 4 pixels."""
    return ndimage.uniform_filter(planes, (1, 4, 4))[:, 2::4, 2::4]


def test_values_are_those_of_scipy():
    restored, given, clean = (images(seed) for seed in range(3))
    found = restoration_loss(restored, given, clean, TOLERANCE)
    assert found.shape == (2,)
    for number in range(2):
        left = []
        for own, start, goal in zip(restored, given, clean, strict=True):
            before = squared(start[number].numpy(), goal[number].numpy())
            share = np.sqrt(squared(own[number].numpy(), goal[number].numpy()) / before)
            known = 1 - TOLERANCE / before  # how much it counts as degraded
            left.append(known * share + 1 - known)
        assert found[number].item() == pytest.approx(np.mean(left))


def test_what_is_left_of_a_wrong_tone_is_that_of_scipy():
    lit, given, clean = (images(seed, side=24)[0] for seed in range(3))
    found = tone_loss(lit, given, clean, TOLERANCE)
    for number in range(2):
        own, start, goal = (cells(image[number].numpy()) for image in (lit, given, clean))
        assert found[number].item() == pytest.approx(
            np.sqrt(squared(own, goal) / squared(start, goal))
        )
    assert torch.all(tone_loss(given, given, clean, TOLERANCE) == 1)
    assert torch.all(tone_loss(lit, clean, clean, TOLERANCE) > 2)  # a clean one, changed
    for other in (lit[:, :1], torch.nn.functional.pad(lit, (0, 1))):  # the latter has as many cells
        with pytest.raises(ValueError, match="one shape"):
            tone_loss(other, given, clean, TOLERANCE)


def test_gradients_of_tone():
    lit, given, clean = (images(seed)[0] for seed in range(3))
    lit.requires_grad_()
    assert torch.autograd.gradcheck(lambda own: tone_loss(own, given, clean, 0.01), lit)


def test_what_stays_as_it_was_counts_one_and_what_is_spoilt_more():
    given, clean = images(0), images(1)
    assert torch.all(restoration_loss(clean, given, clean, TOLERANCE) < 0.2)
    assert torch.all(restoration_loss(given, given, clean, TOLERANCE) == 1)
    worse = tuple(2 * own - goal for own, goal in zip(given, clean, strict=True))
    assert torch.all(restoration_loss(worse, given, clean, TOLERANCE) > 1.9)


def test_what_is_made_of_clean_images_does_not_matter():
    clean = images(1)
    assert torch.all(restoration_loss(images(0), clean, clean, TOLERANCE) == 1)


def test_weak_and_strong_degradations_weigh_alike():
    clean = images(0)
    losses = []
    for strength in (0.5, 5.0):
        given = tuple(image + strength * (image > 0.5) for image in clean)
        half = tuple(0.5 * (a + b) for a, b in zip(given, clean, strict=True))
        losses.append(restoration_loss(half, given, clean, TOLERANCE))
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.0)


def test_gradients():
    restored = [image.requires_grad_() for image in images(0, batch=1, side=6)]
    given, clean = images(1, batch=1, side=6), images(2, batch=1, side=6)
    assert torch.autograd.gradcheck(
        lambda *pair: restoration_loss(pair, given, clean, TOLERANCE), restored
    )


def test_shapes_have_to_agree():
    with pytest.raises(ValueError, match="of one shape"):
        restoration_loss(images(0), images(1), images(2, side=14), TOLERANCE)


def test_judgements_are_cross_entropies_by_hand():
    """The visible image is clean; the infrared is off by 0.1 and has no slopes."""
    clean = images(0)
    given = clean[0], clean[1] + 0.1
    logits = torch.tensor([2.0, -1.0], dtype=torch.float64)[None, :, None, None].expand(2, 2, 3, 4)
    wanted = 0.01 / (0.01 + TOLERANCE)
    entropies = [
        -np.log(1 / (1 + np.exp(2.0))),
        wanted * np.log1p(np.exp(1.0)) + (1 - wanted) * np.log1p(np.exp(-1.0)),
    ]
    found = judgement_loss(logits, given, clean, TOLERANCE)
    assert found.shape == (2,)
    torch.testing.assert_close(found, torch.full_like(found, np.mean(entropies)))


def test_right_judgements_cost_less():
    clean, given = images(0), images(1)
    sure = torch.full((2, 2, 1, 1), 6.0, dtype=torch.float64)
    assert torch.all(judgement_loss(sure, given, clean, TOLERANCE) < 0.1)
    assert torch.all(judgement_loss(-sure, given, clean, TOLERANCE) > 4)
    assert torch.all(judgement_loss(-sure, clean, clean, TOLERANCE) < 0.1)


def test_gradients_of_judgements():
    logits = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    given, clean = images(1), images(2)
    assert torch.autograd.gradcheck(
        lambda own: judgement_loss(own, given, clean, TOLERANCE), [logits]
    )


def test_judged_images_have_to_agree_in_shape():
    with pytest.raises(ValueError, match="of one shape"):
        judgement_loss(torch.zeros(2, 2, 1, 1), images(1), images(2, side=14), TOLERANCE)
