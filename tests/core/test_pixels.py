"""Any usual pixel format becomes a float image in [0, 1]; nothing is clipped in silence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import infrared_to_unit, luma, unit_to_dtype, visible_to_unit

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_every_layout_and_dtype_runs(shape, dtype):
    image = np.zeros(shape, dtype)
    assert visible_to_unit(image).shape == (4, 5, 3)
    assert infrared_to_unit(image).shape == (4, 5)
    assert visible_to_unit(image).dtype == infrared_to_unit(image).dtype == np.float32


def test_visible_values():
    np.testing.assert_allclose(visible_to_unit(RGB), RGB / 255.0, rtol=1e-6)
    rgba = np.concatenate([RGB, np.zeros((2, 3, 1), np.uint8)], axis=2)
    np.testing.assert_array_equal(visible_to_unit(rgba), visible_to_unit(RGB))
    gray = visible_to_unit(RGB[..., 0])
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])


def test_gray_stored_as_rgb_is_read_exactly():
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    stored = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(infrared_to_unit(stored), infrared_to_unit(gray))


def test_false_colour_infrared_becomes_luminance():
    exact = RGB @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(infrared_to_unit(RGB) * 255.0, np.round(exact), rtol=1e-5)
    np.testing.assert_allclose(infrared_to_unit(RGB / 255.0), exact / 255.0, rtol=1e-5)


def test_alpha_takes_no_part_in_the_stretch():
    ramp = np.linspace(3000, 6000, 100).astype(np.uint16).reshape(10, 10)
    opaque = np.full_like(ramp, 65535)
    rgba = np.stack([ramp, ramp, ramp, opaque], axis=2)
    np.testing.assert_array_equal(infrared_to_unit(rgba), infrared_to_unit(ramp))


def test_a_14_bit_ramp_keeps_its_steps():
    ramp = np.linspace(3000, 16383, 10_000).astype(np.uint16).reshape(100, 100)
    unit = infrared_to_unit(ramp)
    assert len(np.unique(unit)) > 0.95 * len(np.unique(ramp))
    assert unit.min() == 0.0
    assert unit.max() == 1.0
    np.testing.assert_allclose(infrared_to_unit(ramp, scaling="full"), ramp / 65535.0, rtol=1e-6)


def test_a_constant_16_bit_image_is_no_division_by_zero():
    flat = infrared_to_unit(np.full((4, 4), 30000, np.uint16))
    np.testing.assert_allclose(flat, 30000 / 65535.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((2, 2, 5), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.zeros((2, 2), np.int32), "int32"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.full((2, 2), 7.0), r"\[7, 7\]"),
    ],
)
@pytest.mark.parametrize("reader", [visible_to_unit, infrared_to_unit])
def test_what_is_no_image_is_refused_by_name(reader, image, words):
    with pytest.raises(UserError, match=f"cam.png.*{words}"):
        reader(image, "cam.png")


@given(st.sampled_from([np.uint8, np.uint16]), st.integers(0, 2**32 - 1))
def test_integers_survive_the_round_trip(dtype, seed):
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (3, 3, 3), dtype)
    np.testing.assert_array_equal(unit_to_dtype(visible_to_unit(image), np.dtype(dtype)), image)


def test_luma_of_white_is_one():
    assert luma(np.ones((1, 1, 3), np.float32)) == pytest.approx(1.0)
