"""The fusion loss, term by term, against scipy, scikit-image and sums by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from dtpf.core.losses import fusion_terms, terms_with_weight, weighted_total, weights_of_dull
from dtpf.core.losses.terms import WEIGHT_OF
from dtpf.core.losses.weights import TermWeights
from tests.core import metric_oracles as oracles

LUMA = np.array([0.299, 0.587, 0.114])
CHROMA = np.array(
    [[-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
)  # JFIF 1.02


def images(batch=3, height=44, width=47, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(batch, 7, height, width, generator=generator, dtype=dtype)
    return pixels[:, :3], pixels[:, 3:6], pixels[:, 6:]


def magnitude(gray):
    return np.hypot(ndimage.sobel(gray, 0, mode="nearest"), ndimage.sobel(gray, 1, mode="nearest"))


def similarity(first, second):
    return structural_similarity(
        first,
        second,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def by_hand(fused, visible, infrared):
    """Return all terms of one pair from numpy arrays (3, H, W), (3, H, W), (1, H, W)."""
    f, v, i = np.tensordot(LUMA, fused, 1), np.tensordot(LUMA, visible, 1), infrared[0]
    chroma = np.tensordot(CHROMA, fused, 1) - np.tensordot(CHROMA, visible, 1)
    return {
        "intensity": np.abs(f - np.maximum(v, i)).mean(),
        "consistency": (np.abs(f - v).mean() + np.abs(f - i).mean()) / 2,
        "gradient": np.abs(magnitude(f) - np.maximum(magnitude(v), magnitude(i))).mean(),
        "ssim_visible": 1 - similarity(f, v),
        "ssim_infrared": 1 - similarity(f, i),
        "color": np.abs(chroma).mean(),
        "information": 1 - sum(oracles.vif(255 * x, 255 * f) for x in (v, i)) / 2,
        "edges": 1 - oracles.qabf(*(255 * x for x in (v, i, f)), interior=True),
        "artefacts": oracles.nabf(*(255 * x for x in (v, i, f)), ramp=0.1),
        "frequency": lost_sharpness(*map(averaged, (f, v, i)), most=1.25),
        "sharpness": lost_sharpness(*(each[2:-2, 2:-2] for each in (f, v, i)), most=1.35),
        "alternation": beyond(second(f), np.maximum(second(v), second(i))),
        "grain": rougher_where_flat(*map(grain, (f, v, i))),
    }


def averaged(gray):
    return (gray[1:, 1:] + gray[1:, :-1] + gray[:-1, 1:] + gray[:-1, :-1]) / 4


def roughness(gray):
    steps = [np.diff(255 * gray, axis=axis) for axis in (0, 1)]
    return sum((step**2).mean() for step in steps) + 0.01


def lost_sharpness(fused, visible, infrared, most):
    lost = 0.5 * np.log(max(roughness(visible), roughness(infrared)) / roughness(fused))
    return max(lost, -np.log(most))


def second(gray):
    inner = (slice(1, -1), slice(1, -1))
    along = [ndimage.convolve1d(255 * gray, (1, -2, 1), axis=axis)[inner] for axis in (1, 0)]
    across = np.diff(np.diff(255 * gray, axis=0), axis=1)[1:, 1:]
    windows = np.lib.stride_tricks.sliding_window_view((*along, across), (5, 5), axis=(1, 2))
    return np.sqrt((windows**2).mean(axis=(3, 4)) + 1e-3)


def beyond(fused, largest):
    excess = np.maximum(fused - 1.3 * largest - 1, 0) / (largest + 4)
    return excess.mean(axis=(1, 2)).sum()


def grain(gray):
    windows = np.lib.stride_tricks.sliding_window_view(255 * gray, (7, 7))
    return windows.std(axis=(2, 3))


def rougher_where_flat(fused, visible, infrared):
    roughest = np.maximum(visible, infrared)
    flat = roughest <= np.quantile(roughest, 0.3)
    return (np.maximum(fused - roughest, 0) / (roughest + 1) * flat).mean()


def test_terms_equal_numpy_sample_by_sample():
    inputs = images()
    terms = fusion_terms(*inputs)
    for n in range(3):
        expected = by_hand(*(x[n].numpy() for x in inputs))
        assert list(terms) == list(expected)
        for name, value in expected.items():
            assert terms[name][n].item() == pytest.approx(value, abs=1e-7), name


def test_terms_vanish_at_their_goal():
    _, visible, _ = images()
    gray = visible.mean(1, keepdim=True)
    same = gray.expand(-1, 3, -1, -1)
    for name, value in fusion_terms(same, same, gray).items():
        best = 1 - 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))  # Qabf ends below 1
        goal = torch.full_like(value, best if name == "edges" else 0.0)
        torch.testing.assert_close(value, goal, rtol=0, atol=1e-9, msg=name)


def test_one_value_per_sample():
    for value in fusion_terms(*images(batch=5, dtype=torch.float32)).values():
        assert value.shape == (5,)
        assert value.dtype == torch.float32


def test_a_sample_does_not_see_the_others():
    inputs = images()
    together = fusion_terms(*inputs)
    alone = fusion_terms(*(x[1:2] for x in inputs))
    for name in together:
        torch.testing.assert_close(together[name][1:2], alone[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", WEIGHT_OF)
def test_gradients(name):
    size = 41 if name == "information" else 11
    fused, visible, infrared = images(batch=1, height=size, width=size + 1)
    fused.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: fusion_terms(x, visible, infrared, [name])[name], fused, fast_mode=size > 11
    )


def test_noise_blown_up_is_not_rewarded():
    flat = 0.5 + 1e-3 * torch.rand(1, 1, 44, 44, dtype=torch.float64)
    for factor, rewarded in ((1.2, True), (2.0, False), (30.0, False)):
        fused = (0.5 + factor * (flat - 0.5)).requires_grad_()
        images = fused.expand(-1, 3, -1, -1), flat.expand(-1, 3, -1, -1), flat
        (loss,) = fusion_terms(*images, ["frequency"]).values()
        loss.sum().backward()
        assert (fused.grad.abs().max() > 0) == rewarded
        assert loss.item() >= -np.log(1.25) - 1e-12


def test_edges_a_little_stronger_than_both_sources_are_pulled_back():
    """Of the metric itself there is no slope at all where the fused edge keeps its direction."""
    visible = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    infrared = 0.1 * visible.flip(-1)
    factor = torch.tensor(1.03, dtype=torch.float64, requires_grad=True)
    images = (factor * visible).expand(-1, 3, -1, -1), visible.expand(-1, 3, -1, -1), infrared
    (loss,) = fusion_terms(*images, ["artefacts"]).values()
    loss.sum().backward()
    assert loss.item() > 1e-4
    assert factor.grad > 10 * loss.detach()


def test_a_checkerboard_is_not_sharp():
    fused, visible, infrared = images(batch=1)
    before, after = (
        fusion_terms(fused + each, visible, infrared, ["frequency"])["frequency"]
        for each in (0.0, 0.2 * checkerboard(fused))
    )
    torch.testing.assert_close(before, after)


def checkerboard(image):
    odd = (torch.arange(image.shape[2])[:, None] + torch.arange(image.shape[3])) % 2
    return 1.0 - 2.0 * odd


def smooth_pair():
    """Return the visible image and the infrared, of slopes some pixels wide, (1, 1, 44, 47)."""
    random = np.random.default_rng(0)
    planes = ndimage.gaussian_filter(random.random((2, 44, 47)), (0, 1.5, 1.5))
    planes = 0.2 + 0.6 * (planes - planes.min()) / np.ptp(planes)
    return [torch.from_numpy(plane)[None, None] for plane in planes]


def texture_of(fused, visible, infrared):
    names = ["sharpness", "alternation", "grain"]
    terms = fusion_terms(
        fused.expand(-1, 3, -1, -1), visible.expand(-1, 3, -1, -1), infrared, names
    )
    return [terms[name].item() for name in names]


@pytest.mark.parametrize("pattern", ["checkerboard", "rows", "columns"])
def test_what_alternates_is_sharp_but_costs(pattern):
    visible, infrared = smooth_pair()
    signs = checkerboard(visible)
    signs = {
        "checkerboard": signs,
        "rows": signs[:, :1].expand_as(signs),
        "columns": signs[:1].expand_as(signs),
    }[pattern]
    plain, spoilt = (texture_of(visible + h * signs, visible, infrared) for h in (0.0, 0.01))
    assert plain[1] == 0.0
    assert spoilt[0] < plain[0]
    assert spoilt[1] > 0.1


def test_more_contrast_is_sharp_and_costs_nothing_up_to_a_bound():
    visible, infrared = smooth_pair()
    strengthened = (0.5 + factor * (visible - 0.5) for factor in (1.0, 1.1, 2.0, 3.0))
    sharp, alternation, _ = zip(
        *(texture_of(each, visible, infrared) for each in strengthened), strict=True
    )
    assert sharp[0] > sharp[1] > sharp[2] == sharp[3] == pytest.approx(-np.log(1.35))
    assert alternation[0] == alternation[1] == 0.0 < alternation[2] < alternation[3]


def test_of_dull_sources_sharper_than_they_are_is_not_wanted():
    visible, infrared = smooth_pair()
    colours = [(0.5 + k * (visible - 0.5)).expand(-1, 3, -1, -1) for k in (0.8, 1.0, 1.2, 1.2)]
    fused, seen = torch.cat(colours), visible.expand(4, 3, -1, -1)
    heat = 0.1 * infrared.expand(4, -1, -1, -1)
    dull = torch.tensor([True, True, True, False])
    lost = fusion_terms(fused, seen, heat, ["sharpness"], dull)["sharpness"]
    assert lost[0].item() == pytest.approx(np.log(1 / 0.8), abs=1e-3)
    assert lost[1:3].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert lost[3].item() == pytest.approx(-np.log(1.2), abs=1e-3)


def test_a_frame_of_black_and_white_is_not_sharp():
    visible, infrared = smooth_pair()
    framed = visible + checkerboard(visible)
    framed[..., 2:-2, 2:-2] = visible[..., 2:-2, 2:-2]
    before, after = (texture_of(each, visible, infrared)[0] for each in (visible, framed))
    assert before == after


def test_grain_counts_where_both_sources_are_flat():
    visible, infrared = smooth_pair()
    visible[..., 24:], infrared[..., 24:] = 0.5, 0.4
    noise = 0.02 * torch.from_numpy(np.random.default_rng(1).standard_normal((1, 1, 44, 47)))
    where_flat = noise * (torch.arange(47) >= 24)
    assert texture_of(visible, visible, infrared)[2] == 0.0
    assert texture_of(visible + where_flat, visible, infrared)[2] > 0.5
    assert texture_of(visible + noise - where_flat, visible, infrared)[2] < 0.1


def test_gradients_are_finite_on_flat_images():
    flat = torch.full((1, 3, 44, 44), 0.5, requires_grad=True)
    terms = fusion_terms(flat, torch.full_like(flat, 0.5), torch.full((1, 1, 44, 44), 0.5))
    torch.stack(list(terms.values())).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_total_is_the_weighted_sum():
    terms = {name: torch.tensor([float(n), 1.0]) for n, name in enumerate(WEIGHT_OF)}
    values = (1.0, 10.0, 100.0, 2.0, 20.0, 3.0, 0.5, 5.0, 0.25, 2.0, 4.0, 0.5, 8.0)
    numbers = dict(zip(TermWeights.model_fields, values, strict=True))
    weights = {name: torch.tensor([value, 2 * value]) for name, value in numbers.items()}
    total = weighted_total(terms, weights)
    # 0 * 1 + 1 * 10 + 2 * 100 + 3 * 2 + 4 * 20 + 5 * 3 + 6 * 0.5 + 7 * 5 + 8 * 0.25 + 9 * 2
    # + 10 * 4 + 11 * 0.5 + 12 * 8, and twice the sum of the weights
    assert total.tolist() == [510.5, 312.5]


def test_weights_of_dull_samples_are_multiplied():
    weights = {"ssim": torch.tensor(2.0), "edges": torch.tensor([4.0, 5.0, 0.0])}
    dull = torch.tensor([True, False, True])
    found = weights_of_dull(weights, TermWeights(edges=0.5), dull)
    assert {name: weight.tolist() for name, weight in found.items()} == {
        "ssim": [2.0, 2.0, 2.0],
        "edges": [2.0, 5.0, 0.0],
    }


def test_only_what_is_asked_for_is_computed():
    small = images(height=11, width=12)  # too small for VIF
    terms = fusion_terms(*small, names=("color", "intensity"))
    assert list(terms) == ["intensity", "color"]
    weights = dict.fromkeys(TermWeights.model_fields, torch.zeros(3))
    weights["color"], weights["ssim"] = torch.tensor([0.0, 0.0, 1.0]), torch.tensor(2.0)
    assert terms_with_weight(weights) == ["ssim_visible", "color"]


def test_a_loss_without_terms_is_refused():
    with pytest.raises(ValueError, match="switched off"):
        weighted_total({}, {})


def test_total_needs_every_weight():
    terms = fusion_terms(*images())
    with pytest.raises(ValueError, match="no weight for color"):
        weighted_total(terms, {n: torch.ones(3) for n in TermWeights.model_fields if n != "color"})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f, v, i: (f[:, :1], v, i),
        lambda f, v, i: (f, v[:1], i),
        lambda f, v, i: (f, v, v),
        lambda f, v, i: (f, v, i[..., :42]),
        lambda f, v, i: (f[0], v[0], i[0]),
    ],
)
def test_rejects_shapes_that_disagree(spoil):
    with pytest.raises(ValueError, match="expected fused and visible"):
        fusion_terms(*spoil(*images()))


def test_rejects_images_below_the_window():
    with pytest.raises(ValueError, match="11 pixels"):
        fusion_terms(*images(height=10))
    with pytest.raises(ValueError, match="VIF needs 41 pixels"):
        fusion_terms(*images(height=40))
