"""The pixel limit: above every baseline on what it optimises, and honest about it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtpf.core.metrics import score
from dtpf.core.ops.color import luminance, rgb_to_ycbcr
from dtpf.evaluation.baselines import BASELINES
from dtpf.evaluation.batches import Batch
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.limit import PixelLimit, is_limit
from dtpf.evaluation.methods import BaselineMethod
from dtpf.evaluation.mix import parse_mix
from dtpf.evaluation.score import evaluate
from dtpf.evaluation.session import limits
from tests.evaluation.support import PAIRS, load

TEST = [pair for pair in PAIRS if pair.split == "test"]
GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"


def scenes():
    """Two crops of the golden pair with noise in both images, so that no copy is the best."""
    generator = torch.Generator().manual_seed(0)
    visible, infrared = (
        torch.from_numpy(np.asarray(Image.open(GOLDEN / f"{name}.png"), dtype=np.float32) / 255)
        for name in ("visible", "infrared")
    )
    visible = visible + 0.03 * torch.randn(*visible.shape[:2], 1, generator=generator)
    infrared = infrared + 0.03 * torch.randn(infrared.shape, generator=generator)
    crops = [(slice(20, 68), slice(70, 134)), (slice(90, 138), slice(60, 124))]
    parts = [
        Batch(
            (pair,),
            visible[rows, columns].permute(2, 0, 1)[None].clamp(0, 1),
            infrared[rows, columns][None, None].clamp(0, 1),
        )
        for pair, (rows, columns) in zip(TEST, crops, strict=False)
    ]
    return Batch.join(parts)


def mixed(mix, fused, batch):
    values = score(fused, batch.visible, batch.infrared, tuple(parse_mix(mix)))
    return sum(weight * values[name] for name, weight in parse_mix(mix).items())


@pytest.mark.parametrize("mix", ["VIF", "Qabf", "VIF+3*Qabf", "SSIM"])
def test_optimised_pixels_exceed_every_baseline_in_every_pair(mix):
    batch = scenes()
    reached = mixed(mix, PixelLimit(mix, 60).fuse(batch), batch)
    for name, baseline in BASELINES.items():
        theirs = mixed(mix, baseline(batch.visible, batch.infrared), batch)
        assert (reached > theirs + 0.005).all(), (name, reached, theirs)


def test_more_steps_reach_further_and_none_fall_below_the_best_baseline():
    batch = load(TEST[0])
    best = max(
        mixed("VIF+Qabf", baseline(batch.visible, batch.infrared), batch).item()
        for baseline in BASELINES.values()
    )
    reached = [
        mixed("VIF+Qabf", PixelLimit("VIF+Qabf", steps).fuse(batch), batch).item()
        for steps in (1, 10, 80)
    ]
    assert best <= reached[0] <= reached[1] < reached[2]


def test_the_result_is_an_image_with_the_visible_colour():
    batch = load(TEST[0])
    fused = PixelLimit("Qabf", 5).fuse(batch)
    assert fused.shape == batch.visible.shape
    assert not fused.requires_grad
    assert 0.0 <= float(fused.min()) <= float(fused.max()) <= 1.0
    seen, made = (rgb_to_ycbcr(image)[:, 1:] - 0.5 for image in (batch.visible, fused))
    assert ((seen * made) > -1e-4).all()  # the hue is kept: chroma may shrink, never turn round
    assert not torch.equal(luminance(fused), luminance(batch.visible))


def test_its_gradient_is_that_of_the_metrics():
    limit, batch = PixelLimit("VIF+3*Qabf"), load(TEST[0])
    generator = torch.Generator().manual_seed(0)
    gray = [(luminance(x)[:, 0] * 255).double() for x in (batch.visible, batch.infrared)]
    fused = (0.5 * gray[0] + 0.4 * gray[1]).requires_grad_()
    direction = torch.randn(fused.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(limit._value(fused, *gray).sum(), fused)
    with torch.no_grad():
        ahead, behind = (limit._value(fused + s * direction, *gray) for s in (1e-5, -1e-5))
    expected = float((ahead - behind) / 2e-5)
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_it_aims_at_the_references_that_are_scored():
    batch = load(TEST[0], guides=True)
    clean, given = (PixelLimit("SSIM", 30, which).fuse(batch) for which in ("guide", "input"))
    values = [score(image, *batch.guides, ("SSIM",))["SSIM"].item() for image in (clean, given)]
    assert values[0] > values[1]


def test_a_config_asks_for_limits_and_the_table_shows_them():
    config = EvalConfig(metrics=("VIF", "EN"), limit=("VIF", "SD"), limit_steps=3)
    methods = [BaselineMethod("max"), *limits(config)]
    table = evaluate(methods, TEST[:1], load, config)
    assert table.methods == ("max", "limit VIF", "limit SD")
    assert [is_limit(name) for name in table.methods] == [False, True, True]
    assert table.mean("limit VIF", "VIF") >= table.mean("max", "VIF")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write it like"),
        ("VIF,Qabf", "write it like"),
        ("VIF+-2*Qabf", "write it like"),
        ("VIF+EN", "EN is without a derivative"),
        ("PSNR", "PSNR is unknown"),
        ("VIF+2*VIF", "names VIF twice"),
    ],
)
def test_a_mix_that_means_nothing_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_mix(text)


def test_a_mix_is_read():
    assert parse_mix("VIF + 2.5*Qabf+MS-SSIM") == {"VIF": 1.0, "Qabf": 2.5, "MS-SSIM": 1.0}
