"""Every metric against an independent oracle, on images with edges, texture and noise."""

import numpy as np
import pytest
import scipy.stats
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from dtpf.core.metrics import CONVENTIONS, METRICS, bands, score
from tests.core import metric_oracles as oracles

TOLERANCE = 1e-9


def images(height=45, width=53, seed=0):
    """Fused, visible, infrared: 8-bit values as float64 NumPy arrays."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    visible = 120 + 70 * np.sin(columns / 5) * np.cos(rows / 7) + generator.normal(0, 8, rows.shape)
    infrared = 50 + 180 * (np.hypot(rows - height / 2, columns - width / 3) < 9)
    infrared = infrared + generator.normal(0, 3, rows.shape)
    visible, infrared = (np.clip(x, 0, 255).round() for x in (visible, infrared))
    fused = np.round(0.6 * np.maximum(visible, infrared) + 0.4 * visible)
    return fused, visible, infrared


def compute(name, arrays):
    return float(METRICS[name].function(*(torch.from_numpy(array)[None] for array in arrays)))


def oracle(name, arrays):
    fused, visible, infrared = arrays
    sources = (visible, infrared)
    match name:
        case "EN":
            return scipy.stats.entropy(np.bincount(fused.astype(int).ravel()), base=2)
        case "MI":
            return sum(oracles.mutual_information(source, fused) for source in sources)
        case "SF":
            return oracles.spatial_frequency(fused)
        case "AG":
            return oracles.average_gradient(fused)
        case "SD":
            return float(np.std(fused))
        case "VIF":
            return sum(oracles.vif(source, fused) for source in sources)
        case "Qabf":
            return oracles.qabf(visible, infrared, fused)
        case "Nabf":
            return oracles.nabf(visible, infrared, fused)
        case "CC":
            return np.mean([np.corrcoef(s.ravel(), fused.ravel())[0, 1] for s in sources])
        case "SCD":
            differences = ((fused - infrared, visible), (fused - visible, infrared))
            return sum(np.corrcoef(d.ravel(), s.ravel())[0, 1] for d, s in differences)
        case "SSIM":
            return sum(
                structural_similarity(
                    s,
                    fused,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=255,
                )
                for s in sources
            )
    raise KeyError(name)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"MS-SSIM"}))
def test_agrees_with_its_oracle(name):
    for arrays in (images(), images(61, 42, seed=1)):
        assert compute(name, arrays) == pytest.approx(oracle(name, arrays), rel=TOLERANCE)


def test_ms_ssim_agrees_with_its_oracle_and_nearly_with_torchmetrics():
    fused, visible, infrared = arrays = images(190, 201)
    actual = compute("MS-SSIM", arrays)
    expected = sum(oracles.ms_ssim(source, fused) for source in (visible, infrared))
    assert actual == pytest.approx(expected, rel=TOLERANCE)
    # torchmetrics counts the reflected border too at the coarsest scale.
    theirs = sum(
        multiscale_structural_similarity_index_measure(
            *(torch.from_numpy(x)[None, None] for x in (fused, source)),
            data_range=255.0,
            normalize="relu",
        )
        for source in (visible, infrared)
    )
    assert actual == pytest.approx(float(theirs), rel=0.02)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_batches_score_as_single_pairs(name):
    size = (180, 176) if name == "MS-SSIM" else (45, 53)
    batches = [
        torch.from_numpy(np.stack(arrays))
        for arrays in zip(images(*size), images(*size, seed=3), strict=True)
    ]
    together = METRICS[name].function(*batches)
    alone = [METRICS[name].function(*(batch[i : i + 1] for batch in batches)) for i in range(2)]
    assert together.shape == (2,)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["MI", "VIF", "Qabf", "SSIM", "Nabf"])
def test_bands_do_not_change_the_value(name, monkeypatch):
    arrays = images(70, 47)
    whole = compute(name, arrays)
    monkeypatch.setattr(bands, "_PIXELS", 1)  # bands of the fewest rows
    assert compute(name, arrays) == pytest.approx(whole, rel=1e-12)


def test_devices_other_than_the_processor_get_whole_images():
    image = torch.empty(1, 4000, 500, dtype=torch.float64, device="meta")
    assert [band.shape[1] for (band,) in bands.bands((image,), 3)] == [4000]
    on_cpu = torch.empty(1, 4000, 500, dtype=torch.float64)
    assert len(list(bands.bands((on_cpu,), 3))) > 10


@pytest.mark.parametrize("name", ["MI", "VIF", "Qabf", "Nabf", "SSIM", "CC", "SCD"])
def test_the_order_of_the_sources_does_not_matter(name):
    fused, visible, infrared = images()
    assert compute(name, (fused, visible, infrared)) == pytest.approx(
        compute(name, (fused, infrared, visible)), rel=1e-12
    )


def test_a_perfect_copy_of_equal_sources():
    image, _, _ = images()
    arrays = (image, image, image)
    assert compute("VIF", arrays) == pytest.approx(2.0, rel=1e-9)
    assert compute("SSIM", arrays) == pytest.approx(2.0, rel=1e-12)
    assert compute("MI", arrays) == pytest.approx(2 * compute("EN", arrays), rel=1e-12)
    assert compute("CC", arrays) == pytest.approx(1.0)
    assert compute("Nabf", arrays) == 0.0
    # Both sigmoids at their upper end: 0.9994 / (1 + e^-7.5) * 0.9879 / (1 + e^-4.4).
    assert compute("Qabf", arrays) == pytest.approx(0.974793625, abs=1e-8)


def test_a_constant_fused_image():
    fused, visible, infrared = images()
    arrays = (np.full_like(fused, 90.0), visible, infrared)
    for name in ("EN", "MI", "SF", "AG", "SD", "VIF", "CC"):
        assert compute(name, arrays) == pytest.approx(0.0, abs=1e-9), name
    assert all(np.isfinite(compute(name, arrays)) for name in METRICS if name != "MS-SSIM")


def test_all_images_constant_gives_finite_values():
    flat = np.full((45, 53), 90.0)
    values = {name: compute(name, (flat,) * 3) for name in METRICS if name != "MS-SSIM"}
    assert all(np.isfinite(value) for value in values.values()), values
    assert values["VIF"] == 2.0  # nothing was there to lose


def test_scaling_contrast_scales_gray_level_metrics_and_not_correlation():
    fused, visible, infrared = images()
    for name, factor in (("SF", 0.5), ("AG", 0.5), ("SD", 0.5), ("CC", 1.0)):
        scaled = compute(name, (fused / 2, visible, infrared))
        assert scaled == pytest.approx(factor * compute(name, (fused, visible, infrared)), rel=1e-9)


def test_noise_lowers_fidelity_and_raises_artefacts():
    fused, visible, infrared = images()
    noisy = np.clip(fused + np.random.default_rng(5).normal(0, 25, fused.shape), 0, 255).round()
    for name, metric in METRICS.items():
        if name in ("VIF", "Qabf", "SSIM", "CC", "MI", "Nabf"):
            change = compute(name, (noisy, visible, infrared)) - compute(
                name, (fused, visible, infrared)
            )
            assert (change < 0) == metric.higher_is_better, name


@pytest.mark.parametrize("name", ["VIF", "Qabf", "SSIM", "CC", "SCD", "SF", "AG", "SD"])
def test_gradients_are_right(name):
    size = 43 if name == "VIF" else 13
    sources = [torch.from_numpy(x[:size, :size].copy())[None] for x in images(size, size)[1:]]
    generator = torch.Generator().manual_seed(0)
    # Generic values: the orientation of an edge jumps where it is exactly upright.
    noise = torch.rand(sources[0].shape, generator=generator, dtype=torch.float64)
    fused = (sources[0] * 0.5 + sources[1] * 0.4 + 9.0 * noise).requires_grad_()
    direction = torch.randn(fused.shape, generator=generator, dtype=torch.float64)
    value = METRICS[name].function(fused, *sources)
    (gradient,) = torch.autograd.grad(value.sum(), fused)
    step = 1e-5
    with torch.no_grad():
        ahead = METRICS[name].function(fused + step * direction, *sources)
        behind = METRICS[name].function(fused - step * direction, *sources)
    expected = float((ahead - behind) / (2 * step))
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=2e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["VIF", "Qabf", "SSIM"])
def test_gradients_exist_where_images_are_flat(name):
    flat = torch.full((1, 45, 45), 100.0, dtype=torch.float64)
    spot = flat.clone()
    spot[0, 20:25, 20:25] = 180.0
    for fused in (flat.clone(), spot.clone()):
        fused.requires_grad_()
        (gradient,) = torch.autograd.grad(METRICS[name].function(fused, flat, spot).sum(), fused)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "side"), [("VIF", 40), ("SSIM", 10), ("MS-SSIM", 175), ("Qabf", 2), ("Nabf", 2)]
)
def test_images_that_are_too_small_are_refused_with_the_needed_size(name, side):
    small = torch.zeros(1, side, side, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"{side + 1} pixels"):
        METRICS[name].function(small, small, small)
    large = torch.rand(1, side + 1, side + 1, dtype=torch.float64) * 255
    assert torch.isfinite(METRICS[name].function(large, large, large)).all()


def test_the_registry_is_complete():
    assert set(METRICS) == {
        *("EN", "MI", "SF", "VIF", "Qabf", "SSIM", "MS-SSIM", "SD", "AG", "CC", "SCD", "Nabf")
    }
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["Nabf"]
    for name, metric in METRICS.items():
        assert metric.name == name
        assert all((metric.title, metric.source, metric.units))
    for convention in CONVENTIONS.values():
        assert set(convention.substitutes) <= set(METRICS)
    assert set(score(*(torch.rand(1, 1, 45, 45),) * 3, names=("EN", "SF"))) == {"EN", "SF"}
