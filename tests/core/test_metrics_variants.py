"""Variants of the field's scripts against the libraries that those scripts call."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from sklearn.metrics import mutual_info_score

from dtpf.core.metrics import CONVENTIONS, score
from dtpf.core.metrics.conventions import to_gray_255

NAMES = ("EN", "MI", "SF", "SSIM", "SCD", "AG", "Qabf")


@pytest.fixture(scope="module")
def images():
    """Fused, visible, infrared as float tensors that hold 8-bit values exactly."""
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randint(0, 256, (1, c, 45, 50), generator=generator) for c in (3, 3, 1)]
    levels[0] = (0.6 * levels[1] + 0.4 * levels[2]).round()
    return [image.float() / 255 for image in levels]


@pytest.fixture(scope="module")
def arrays(images):
    return [to_gray_255(image)[0].numpy().astype(np.uint8) for image in images]


def scored(images, convention, name):
    return score(*images, NAMES, convention)[name].item()


def test_mi_in_nats_is_scikit_learns(images, arrays):
    fused, *sources = arrays
    expected = sum(mutual_info_score(fused.ravel(), source.ravel()) for source in sources)
    assert scored(images, "evaluator", "MI") == pytest.approx(expected, rel=1e-9)
    assert scored(images, "evaluator", "MI") < scored(images, "standard", "MI")


def test_uniform_ssim_is_scikit_images_default(images, arrays):
    fused, *sources = arrays
    expected = sum(structural_similarity(fused, source, data_range=255) for source in sources)
    assert scored(images, "evaluator", "SSIM") == pytest.approx(expected, rel=1e-9)


def test_average_gradients_follow_numpy(images, arrays):
    down, across = np.gradient(arrays[0].astype(float))
    steepness = np.sqrt((down**2 + across**2) / 2)
    assert scored(images, "evaluator", "AG") == pytest.approx(steepness.mean(), rel=1e-12)
    overcounted = steepness.sum() / (44 * 49)
    assert scored(images, "compat", "AG") == pytest.approx(overcounted, rel=1e-12)


def test_wrapped_sf_and_scd_are_numpys_on_uint8(images, arrays):
    fused, visible, infrared = arrays
    rows, columns = (np.diff(fused, axis=axis) ** 2 for axis in (1, 0))
    assert rows.dtype == np.uint8
    expected = np.sqrt(rows.mean() + columns.mean())
    assert scored(images, "wrapped", "SF") == pytest.approx(expected, rel=1e-12)
    pairs = ((fused - infrared, visible), (fused - visible, infrared))
    expected = sum(np.corrcoef(d.ravel(), s.ravel())[0, 1] for d, s in pairs)
    assert scored(images, "wrapped", "SCD") == pytest.approx(expected, rel=1e-9)


def test_channels_are_scored_each_and_averaged(images):
    fused, visible, infrared = images
    single = [
        score(fused[:, c : c + 1], visible[:, c : c + 1], infrared, NAMES, "compat")
        for c in range(3)
    ]
    together = score(fused, visible, infrared, NAMES, "channels")
    for name in NAMES:
        expected = np.mean([values[name].item() for values in single])
        assert together[name].item() == pytest.approx(expected, rel=1e-12)
    gray, same = (score(*[infrared] * 3, NAMES, rules) for rules in ("channels", "compat"))
    for name in NAMES:
        assert gray[name].item() == pytest.approx(same[name].item(), rel=1e-12)


@pytest.mark.parametrize(
    ("gray", "expected"),
    [
        ("bt601", 0.299 * 10 + 0.587 * 200 + 0.114 * 77),
        ("bt601_limited", 16 + (65.481 * 10 + 128.553 * 200 + 24.966 * 77) / 255),
        ("bt709", 0.2126 * 10 + 0.7152 * 200 + 0.0722 * 77),
        ("mean", (10 + 200 + 77) / 3),
    ],
)
def test_ways_to_gray(gray, expected):
    pixel = torch.tensor([[[[10.0]], [[200.0]], [[77.0]]]]) / 255
    assert to_gray_255(pixel, "nearest", gray).item() == round(expected)
    assert to_gray_255(pixel, "none", gray).item() == pytest.approx(expected, abs=1e-3)
    alone = torch.full((1, 1, 1, 1), 100 / 255)
    assert to_gray_255(alone, "nearest", gray).item() == 100


@pytest.mark.parametrize("name", ["EN", "MI", "SF", "SSIM", "VIF", "Qabf", "Nabf", "CC", "SCD"])
def test_single_precision_agrees_to_four_digits(images, name):
    rules = CONVENTIONS["standard"].adjusted(precision="float32")
    single, double = (
        score(*images, (name,), convention)[name] for convention in (rules, "standard")
    )
    assert single.dtype == torch.float64
    assert single.item() == pytest.approx(double.item(), rel=1e-4)


def test_statements_say_what_differs():
    assert CONVENTIONS["standard"].statement == "gray bt601, rounded to 8 bit, float64"
    assert CONVENTIONS["standard"].adjusted(gray="bt601") is CONVENTIONS["standard"]
    assert "own variant of Qabf, AG" in CONVENTIONS["compat"].statement
    assert CONVENTIONS["channels"].statement.startswith("mean over R, G, B")
    assert len({convention.summary for convention in CONVENTIONS.values()}) == len(CONVENTIONS)
