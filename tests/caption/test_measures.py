import numpy as np
import pytest
from scipy import ndimage

from dtpf.caption import measures
from tests.caption.scenes import texture

RNG_SEED = 7


def rng():
    return np.random.default_rng(RNG_SEED)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
def test_noise_level_recovers_the_standard_deviation_of_added_noise(sigma):
    flat = np.full((256, 256), 0.5, np.float32)
    noisy = flat + rng().normal(0, sigma, flat.shape)
    # The lower quartile of 64-sample blocks lies a little below the true value.
    assert measures.noise_level(noisy) == pytest.approx(sigma, rel=0.12)


def test_noise_level_hardly_sees_texture_and_stripes():
    gray = texture()
    stripes = rng().normal(0, 0.1, (1, gray.shape[1]))
    assert measures.noise_level(gray) < 0.012
    assert measures.noise_level(gray * 0.5 + 0.25 + stripes) < 0.012


def test_noise_level_of_blown_out_image_ignores_clipped_blocks():
    blown = np.ones((128, 128), np.float32)
    assert measures.noise_level(blown) == 0.0
    half = blown.copy()
    half[:, :64] = 0.5 + rng().normal(0, 0.05, (128, 64))
    assert measures.noise_level(half) == pytest.approx(0.05, rel=0.15)


@pytest.mark.parametrize("axis", [0, 1])
def test_stripe_level_recovers_stripes_of_both_directions_under_noise(axis):
    shape = (1, 256) if axis else (256, 1)
    stripes = rng().normal(0, 0.05, shape)
    image = 0.5 + stripes + rng().normal(0, 0.02, (256, 256))
    # Steps of independent columns have sqrt(2) of their standard deviation.
    assert measures.stripe_level(image) == pytest.approx(0.05 * np.sqrt(2), rel=0.2)


def test_stripe_level_is_small_on_noise_and_on_straight_edges():
    noise = 0.5 + rng().normal(0, 0.1, (200, 200))
    bars = np.zeros((100, 200)) + (np.arange(200) // 20 % 2)
    assert measures.stripe_level(noise) < 0.02
    assert measures.stripe_level(bars) == 0.0


@pytest.mark.parametrize("axis", [0, 1])
def test_motion_blur_grows_with_directional_blur_only(axis):
    gray = texture()
    sharp = measures.motion_blur(gray)
    moved = measures.motion_blur(ndimage.uniform_filter1d(gray, 11, axis=axis))
    defocused = measures.motion_blur(ndimage.gaussian_filter(gray, 1.0))
    assert moved > sharp + 2.0
    assert moved > defocused + 1.0


def test_motion_blur_does_not_take_noise_for_blur():
    gray = texture() * 0.6 + 0.2
    noisy = gray + rng().normal(0, 0.08, gray.shape)
    assert measures.motion_blur(noisy) < 2.5


def test_exposure_and_contrast_measures_of_known_images():
    ramp = np.linspace(0, 1, 1001)[None].repeat(20, 0)
    assert measures.darkness(ramp) == pytest.approx(0.0, abs=2e-3)
    assert measures.darkness(ramp * 0.3) == pytest.approx(1 - (0.3 + 0.45) / 2, abs=2e-3)
    night = np.where(ramp > 0.95, 1.0, 0.1)  # dark, with lamps
    assert measures.darkness(night) == pytest.approx(0.35)
    assert measures.brightness(ramp) == pytest.approx(0.2, abs=2e-3)
    assert measures.brightness(np.ones((20, 20))) == 1.0
    assert measures.brightness(ramp * 0.5 + 0.5) == pytest.approx((2 * 0.525 + 0.75) / 3, abs=2e-3)
    assert measures.flatness(ramp) == pytest.approx(0.02, abs=1e-3)
    assert measures.flatness(0.5 + 0.1 * ramp) == pytest.approx(0.902, abs=1e-3)


def test_flatness_sees_through_noise_and_stripes():
    gray = 0.35 + 0.3 * texture()
    clean = measures.flatness(gray)
    noisy = gray + rng().normal(0, 0.05, gray.shape) + rng().normal(0, 0.05, (1, gray.shape[1]))
    assert np.quantile(noisy, 0.99) - np.quantile(noisy, 0.01) > (1 - clean) * 1.1
    assert measures.flatness(noisy) == pytest.approx(clean, abs=0.05)


@pytest.mark.parametrize("shape", [(16, 16), (17, 33), (31, 200)])
@pytest.mark.parametrize(
    "measure",
    [
        measures.darkness,
        measures.brightness,
        measures.flatness,
        measures.noise_level,
        measures.stripe_level,
        measures.motion_blur,
    ],
)
def test_every_measure_is_finite_on_small_constant_and_random_images(measure, shape):
    for image in (np.zeros(shape), np.ones(shape), rng().random(shape)):
        assert np.isfinite(measure(image.astype(np.float32)))
