import numpy as np
import pytest

from dtpf.cameras.scaling import Scaler, ScalingConfig
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import infrared_to_unit

RAMP = np.arange(7000, 11000, dtype=np.uint16).reshape(40, 100)  # 12 used bits of 16


def scaled(array, **settings):
    return Scaler(ScalingConfig(**settings))(array)


def test_the_default_is_what_the_library_does_everywhere():
    flat = np.full((8, 8), 7000, np.uint16)
    for array in (RAMP, flat, np.uint8(RAMP // 64), (RAMP / 20000).astype(np.float32)):
        image, _ = scaled(array)
        np.testing.assert_array_equal(image, infrared_to_unit(array))


def test_8_bit_is_left_as_stored_to_the_bit():
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image, record = scaled(array)
    assert record.policy == "as stored"
    np.testing.assert_array_equal(np.round(image * 255).astype(np.uint8), array)


def test_a_ramp_keeps_its_order_and_says_what_it_clipped():
    image, record = scaled(RAMP)
    assert (np.diff(image.reshape(-1)) >= 0).all()
    assert record.below + record.above == pytest.approx(0.01, abs=0.002)  # tails of 0.5 percent
    assert ((image == 0) | (image == 1)).mean() < 0.012
    assert "0.5%" in str(record)


def test_a_fixed_range_means_the_same_value_in_every_frame():
    fixed = Scaler(ScalingConfig(policy="fixed", low=8000, high=10000))
    image, record = fixed(RAMP)
    assert image[RAMP == 9000] == pytest.approx(0.5)
    assert (record.below, record.above) == (0.25, pytest.approx(0.25, abs=0.001))
    hotter, _ = fixed(np.where(RAMP > 10990, 60000, RAMP).astype(np.uint16))
    np.testing.assert_array_equal(hotter, image)


def test_radiometric_floats_are_taken_in_degrees():
    degrees = np.linspace(-5.0, 45.0, 400, dtype=np.float32).reshape(20, 20)
    image, record = scaled(degrees, policy="fixed", low=20.0, high=40.0)
    assert image.max() == 1
    assert record.below == pytest.approx(0.5, abs=0.01)
    assert scaled(degrees)[0].std() > 0.2


def test_a_sequence_has_one_range_where_percentiles_jump():
    calm, hot = RAMP, RAMP.copy()
    hot[:10] = 30000
    sequence = Scaler(ScalingConfig(policy="sequence"))
    assert sequence.wants_frames
    sequence.learn([calm, hot])
    rest = np.s_[10:]
    np.testing.assert_array_equal(sequence(calm)[0][rest], sequence(hot)[0][rest])
    assert np.abs(scaled(calm)[0][rest] - scaled(hot)[0][rest]).mean() > 0.3


def test_a_sequence_without_frames_is_an_error():
    with pytest.raises(UserError, match="videos and folders"):
        scaled(RAMP, policy="sequence")
    with pytest.raises(UserError, match="no frame"):
        Scaler(ScalingConfig(policy="sequence")).learn([])


def test_the_histogram_gives_contrast_to_what_is_there():
    lopsided = (
        np.concatenate(
            [np.full(3000, 7000), np.linspace(7000, 7200, 900), np.linspace(15000, 15200, 100)]
        )
        .astype(np.uint16)
        .reshape(40, 100)
    )
    equalised, _ = scaled(lopsided, policy="histogram", tails=0.0)
    stretched, _ = scaled(lopsided)
    crowd = (lopsided > 7000) & (lopsided < 7200)
    assert np.ptp(equalised[crowd]) > 5 * np.ptp(stretched[crowd])
    order = np.argsort(lopsided.reshape(-1), kind="stable")
    assert (np.diff(equalised.reshape(-1)[order]) >= -1e-6).all()


def test_a_flat_image_stays_flat():
    for policy in ("percentile", "histogram"):
        image, _ = scaled(np.full((8, 8), 7000, np.uint16), policy=policy)
        assert np.ptp(image) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy": "fixed"}, "low and high"),
        ({"policy": "fixed", "low": 3}, "low and high"),
        ({"low": 1.0, "high": 2.0}, "low and high"),
        ({"policy": "fixed", "low": 40.0, "high": 20.0}, "above"),
    ],
)
def test_contradictions_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        ScalingConfig.parse(settings, "here")


@pytest.mark.parametrize("bad", [np.full((4, 4), np.nan, np.float32), np.zeros((4, 4), np.int32)])
def test_unusable_values_are_named(bad):
    with pytest.raises(UserError, match="cam7"):
        Scaler(ScalingConfig())(bad, "cam7")
