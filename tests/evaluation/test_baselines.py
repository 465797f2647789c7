"""The trivial baselines: shapes, colours, and the scores they are known for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtpf.core.metrics import score
from dtpf.core.ops.color import luminance, rgb_to_ycbcr
from dtpf.evaluation.baselines import BASELINES, laplacian_pyramid, maximum, mean, recolour

REAL = Path(__file__).parents[3] / "shared" / "data" / "roadscene" / "test"


def pair(height=48, width=64, batch=1):
    generator = torch.Generator().manual_seed(height * width)
    return (
        torch.rand(batch, 3, height, width, generator=generator),
        torch.rand(batch, 1, height, width, generator=generator),
    )


@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("size", [(48, 64), (37, 51), (16, 16), (5, 300)])
def test_any_size_gives_an_image(name, size):
    visible, infrared = pair(*size, batch=2)
    fused = BASELINES[name](visible, infrared)
    assert fused.shape == visible.shape
    assert fused.dtype == visible.dtype
    assert 0.0 <= float(fused.min()) <= float(fused.max()) <= 1.0
    one = BASELINES[name](visible[1:], infrared[1:])
    torch.testing.assert_close(fused[1:], one)


def test_luminance_of_mean_and_maximum_is_exact():
    visible, infrared = pair()
    luma = luminance(visible)
    torch.testing.assert_close(luminance(mean(visible, infrared)), (luma + infrared) / 2)
    torch.testing.assert_close(luminance(maximum(visible, infrared)), torch.maximum(luma, infrared))


def test_colour_is_that_of_visible_where_it_fits():
    visible = 0.4 + 0.2 * pair()[0]
    infrared = luminance(visible) + 0.05
    fused = maximum(visible, infrared)
    torch.testing.assert_close(rgb_to_ycbcr(fused)[:, 1:], rgb_to_ycbcr(visible)[:, 1:])


def test_colour_that_does_not_fit_loses_chroma_not_luminance_or_hue():
    red = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1)
    bright = recolour(torch.full((1, 1, 1, 1), 0.95), red)
    assert luminance(bright).item() == pytest.approx(0.95)
    assert bright.max() <= 1.0
    chroma_before, chroma_after = (rgb_to_ycbcr(x)[0, 1:, 0, 0] - 0.5 for x in (red, bright))
    ratios = chroma_after / chroma_before
    assert ratios[0].item() == pytest.approx(ratios[1].item(), rel=1e-4)
    assert 0 < ratios[0].item() < 1


def test_pyramid_of_equal_sources_is_the_source():
    gray = pair()[1]
    visible = gray.repeat(1, 3, 1, 1)
    torch.testing.assert_close(laplacian_pyramid(visible, gray), visible, atol=1e-6, rtol=0)


def test_pyramid_takes_detail_from_the_source_that_has_it():
    texture = torch.zeros(1, 1, 32, 64)
    texture[..., ::2, :] = 0.1
    flat = torch.full_like(texture, 0.3)
    left = torch.arange(64).view(1, 1, 1, 64) < 32
    visible = torch.where(left, 0.3 + texture, flat).repeat(1, 3, 1, 1)
    infrared = torch.where(left, flat, 0.3 + texture)
    fused = luminance(laplacian_pyramid(visible, infrared))
    rows = fused.diff(dim=2).abs().mean(dim=2)[0, 0]
    assert rows[4:28].min() > 0.05
    assert rows[36:60].min() > 0.05


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real image pairs in ../shared/data")
def test_known_scores_on_the_roadscene_test_pairs():
    names = ("EN", "SF", "VIF", "Qabf")
    expected = {
        "maximum": (6.994, 12.76, 0.771, 0.550),
        "laplacian_pyramid": (7.211, 16.37, 0.655, 0.595),
    }
    found = {method: [] for method in expected}
    for file in sorted((REAL / "vi").glob("*.jpg")):
        visible, infrared = (
            torch.from_numpy(np.asarray(Image.open(path).convert(mode), dtype=np.float32) / 255)
            for path, mode in ((file, "RGB"), (REAL / "ir" / file.name, "L"))
        )
        batch = visible.permute(2, 0, 1)[None], infrared[None, None]
        for method, values in found.items():
            values.append(
                [v.item() for v in score(BASELINES[method](*batch), *batch, names).values()]
            )
    for method, values in found.items():
        assert len(values) == 30
        assert np.mean(values, axis=0) == pytest.approx(expected[method], rel=1e-3)
