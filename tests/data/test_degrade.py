import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtpf.core.records import DEGRADATIONS, Degradation
from dtpf.data.degrade import WEATHER, apply, degrade, draw_degradations
from dtpf.data.scenes.render import render_scene

ALL = [(modality, kind) for modality, kinds in DEGRADATIONS.items() for kind in kinds]
SCENE = render_scene(np.random.default_rng(3), 48, 64, "day")
CLEAN = {"visible": SCENE.visible, "infrared": SCENE.infrared}


def worse(modality, kind, severity, seed=0):
    defect = Degradation(modality, kind, severity)
    return degrade(CLEAN[modality], defect, np.random.default_rng(seed))


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_every_kind_of_the_records_is_known_and_keeps_shape_and_range(modality, kind):
    image = worse(modality, kind, 1.0)
    assert image.shape == CLEAN[modality].shape
    assert image.dtype == np.float32
    assert 0.0 <= image.min() <= image.max() <= 1.0


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_severity_zero_changes_nothing_and_more_changes_more(modality, kind):
    clean = CLEAN[modality]
    errors = [np.abs(worse(modality, kind, s) - clean).mean() for s in (0.0, 0.3, 0.6, 1.0)]
    assert errors[0] == 0.0
    assert errors == sorted(errors)
    assert errors[1] > 0.005


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_inputs_stay_untouched_and_seeds_decide(modality, kind):
    before = CLEAN[modality].copy()
    first, again = worse(modality, kind, 0.8, seed=1), worse(modality, kind, 0.8, seed=1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(CLEAN[modality], before)


def test_low_light_darkens_and_over_exposure_clips():
    clean = CLEAN["visible"].mean()
    assert worse("visible", "low_light", 0.8).mean() < 0.4 * clean
    bright = worse("visible", "over_exposure", 0.8)
    assert bright.mean() > clean
    assert (bright == 1.0).mean() > 2 * (CLEAN["visible"] == 1.0).mean() + 0.05


def test_low_contrast_keeps_the_mean_and_shrinks_the_spread():
    flat = worse("infrared", "low_contrast", 0.8)
    assert flat.mean() == pytest.approx(CLEAN["infrared"].mean(), abs=1e-3)
    assert flat.std() == pytest.approx(0.32 * CLEAN["infrared"].std(), rel=1e-3)


def test_noise_has_the_stated_deviation_on_a_flat_image():
    flat = np.full((200, 200), 0.25, np.float32)
    noisy = degrade(flat, Degradation("infrared", "noise", 0.5), np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(0.25, abs=2e-3)
    assert noisy.std() == pytest.approx(np.hypot(0.04, 0.05 * 0.5), rel=0.05)


def test_stripes_are_the_same_in_every_row():
    flat = np.full((20, 300), 0.5, np.float32)
    striped = degrade(flat, Degradation("infrared", "stripes", 0.5), np.random.default_rng(0))
    np.testing.assert_array_equal(striped, np.repeat(striped[:1], 20, axis=0))
    assert striped[0].std() > 0.03


def test_motion_blur_keeps_brightness_and_smooths_along_one_direction_most():
    rng = np.random.default_rng(0)
    grain = np.repeat(rng.random((96, 96, 1), dtype=np.float32), 3, axis=2)
    blurred = degrade(grain, Degradation("visible", "motion_blur", 0.8), np.random.default_rng(2))
    assert blurred.mean() == pytest.approx(grain.mean(), abs=0.02)
    assert blurred.std() < 0.5 * grain.std()
    down, aside = np.gradient(blurred[..., 0].astype(np.float64))
    tensor = [[(down**2).mean(), (down * aside).mean()], [(down * aside).mean(), (aside**2).mean()]]
    along, across = np.linalg.eigvalsh(tensor)
    assert across > 3 * along


def test_order_of_the_list_does_not_matter_and_both_images_are_reached():
    defects = [Degradation("visible", "noise", 0.5), Degradation("visible", "low_light", 0.6),
               Degradation("infrared", "stripes", 0.5)]  # fmt: skip
    pair = (SCENE.visible, SCENE.infrared)
    one = apply(pair, defects, np.random.default_rng(5))
    other = apply(pair, defects[::-1], np.random.default_rng(5))
    for first, second, clean in zip(one, other, pair, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, clean)


@pytest.mark.parametrize("kind", sorted(WEATHER))
def test_weather_blurs_the_infrared_and_nothing_else_of_it(kind):
    pair = (SCENE.visible, SCENE.infrared)
    seen, heat = apply(pair, [Degradation("visible", kind, 1.0)], np.random.default_rng(0))
    blur = Degradation("infrared", "gaussian_blur", 0.5)
    np.testing.assert_array_equal(heat, degrade(pair[1], blur, np.random.default_rng(9)))
    assert np.abs(seen - pair[0]).mean() > 2 * np.abs(heat - pair[1]).mean()


def test_weather_blurs_the_scene_and_not_the_noise_of_the_camera():
    flat = np.full((64, 64), 0.5, np.float32)
    noise, haze = Degradation("infrared", "noise", 0.5), Degradation("visible", "haze", 1.0)
    seen = np.repeat(flat[..., None], 3, 2)
    alone, with_haze = (
        apply((seen, flat), items, np.random.default_rng(0))[1]
        for items in ([noise], [noise, haze])
    )
    np.testing.assert_allclose(with_haze, alone, atol=1e-6)


@pytest.mark.parametrize("kind", ["motion_blur", "gaussian_blur"])
def test_a_cut_out_is_blurred_like_the_whole_image(kind):
    rng = np.random.default_rng(0)
    whole = rng.random((64, 256, 3), dtype=np.float32)
    defect = Degradation("visible", kind, 0.6)
    of_whole = degrade(whole, defect, np.random.default_rng(1))[:, 64:192]
    cut = degrade(whole[:, 64:192], defect, np.random.default_rng(1), width=256)
    np.testing.assert_allclose(cut[16:-16, 16:-16], of_whole[16:-16, 16:-16], atol=1e-5)


def test_gaussian_blur_has_the_stated_width():
    point = np.zeros((101, 101), np.float32)
    point[50, 50] = 1.0
    blurred = degrade(point, Degradation("infrared", "gaussian_blur", 1.0), None, width=500)
    rows = np.arange(101) - 50
    assert np.sqrt((blurred.sum(1) * rows**2).sum()) == pytest.approx(4.0, rel=0.05)


def test_downsampling_leaves_a_quarter_of_the_frequencies():
    rng = np.random.default_rng(0)
    small = degrade(
        rng.random((128, 128), dtype=np.float32), Degradation("infrared", "downsampling", 1.0), rng
    )
    power = np.abs(np.fft.fft2(small - small.mean())) ** 2
    frequency = np.abs(np.fft.fftfreq(128))
    high = np.maximum(frequency[:, None], frequency[None]) > 0.25
    assert power[high].sum() < 0.05 * power.sum()


def test_haze_is_thickest_where_the_scene_is_far():
    dark = np.full((120, 160, 3), 0.1, np.float32)
    hazy = degrade(dark, Degradation("visible", "haze", 0.5), np.random.default_rng(0))
    rows = hazy[..., 0].mean(1)
    assert rows[:30].min() > rows[60] > rows[-1] > 0.15
    assert np.ptp(hazy, axis=2).max() < 1e-6  # gray on gray


def test_rain_falls_in_one_direction_and_snow_in_none():
    flat = np.full((160, 160, 3), 0.3, np.float32)
    slopes = {}
    for kind in ("rain", "snow"):
        image = degrade(flat, Degradation("visible", kind, 0.8), np.random.default_rng(0))[..., 0]
        assert image.max() > 0.5
        down, aside = np.gradient(image.astype(np.float64))
        tensor = [[(a * b).mean() for b in (down, aside)] for a in (down, aside)]
        low, high = np.linalg.eigvalsh(tensor)
        slopes[kind] = high / low
    assert slopes["rain"] > 2
    assert slopes["snow"] < 1.3


def test_drawn_degradations_are_one_to_three_that_make_sense_together():
    rng = np.random.default_rng(0)
    drawn = [draw_degradations(rng, 0.2, 0.6) for _ in range(600)]
    counts = np.bincount([len(items) for items in drawn], minlength=4) / 600
    np.testing.assert_allclose(counts, [0, 0.6, 0.3, 0.1], atol=0.06)
    assert {item.name for items in drawn for item in items} == {f"{m}/{k}" for m, k in ALL}
    for items in drawn:
        assert all(0.2 <= item.severity <= 0.6 for item in items)
        assert len({item.name for item in items}) == len(items)
        seen = {item.kind for item in items if item.modality == "visible"}
        assert not {"low_light", "over_exposure"} <= seen
        assert len(seen & WEATHER) <= 1


@pytest.mark.parametrize("names", [("infrared/noise",), ("visible/rain", "visible/snow")])
def test_only_what_is_asked_for_is_drawn(names):
    rng = np.random.default_rng(0)
    drawn = [draw_degradations(rng, names=names) for _ in range(40)]
    assert {len(items) for items in drawn} == {1}  # a kind once, and one weather at a time
    assert {item.name for items in drawn for item in items} == set(names)


def test_no_degradation_gives_the_pair_back():
    visible, infrared = apply((SCENE.visible, SCENE.infrared), (), np.random.default_rng(0))
    assert visible is SCENE.visible
    assert infrared is SCENE.infrared


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(ALL), st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 9))
def test_flat_and_tiny_images_stay_in_range(defect, severity, level, size):
    modality, kind = defect
    shape = (size, size, 3) if modality == "visible" else (size, size)
    flat = np.full(shape, level, np.float32)
    image = degrade(flat, Degradation(modality, kind, severity), np.random.default_rng(0))
    assert image.shape == shape
    assert np.isfinite(image).all()
    assert 0.0 <= image.min() <= image.max() <= 1.0
