import contextlib
import io
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from dtpf.core.errors import UserError
from dtpf.data.images import (
    decode_array,
    decode_infrared,
    decode_visible,
    encode,
    encode_png,
    probe_size,
)
from tests.data.files import RAMP16, file_of, picture, png16

ORIENTATION = 0x0112


def with_orientation(array, orientation, kind="PNG", **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return file_of(array, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_visible_rgb_is_scaled_to_unit_range(kind):
    image = decode_visible(file_of(picture(), kind), "a")
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, picture() / 255.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_close(kind):
    image = decode_visible(file_of(picture(), kind, quality=95), "a")
    assert np.abs(image - picture() / 255.0).mean() < 0.02


def test_gray_visible_becomes_three_equal_channels():
    image = decode_visible(file_of(picture(channels=1)), "a")
    assert image.shape == (40, 56, 3)
    np.testing.assert_allclose(image, np.repeat(picture(channels=1)[..., None] / 255.0, 3, 2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(mode):
    gray = picture(channels=1)
    alpha = np.full_like(gray, 7)
    opaque = picture() if mode == "RGBA" else gray
    transparent = file_of(Image.fromarray(np.dstack([opaque, alpha]), mode))
    expected = decode_visible(file_of(opaque), "b")
    np.testing.assert_array_equal(decode_visible(transparent, "a"), expected)


def test_palette_is_looked_up():
    image = Image.fromarray(picture()).quantize(32)
    assert image.mode == "P"
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_array(file_of(image), "a"), expected)


def test_palette_with_transparency_keeps_its_colors():
    image = Image.fromarray(picture()).quantize(16)
    decoded = decode_visible(file_of(image, transparency=0), "a")
    np.testing.assert_allclose(decoded, np.asarray(image.convert("RGB")) / 255.0, atol=1e-6)


def test_one_bit_image_is_black_and_white():
    mask = picture(channels=1) > 128
    decoded = decode_array(file_of(Image.fromarray(mask)), "a")
    np.testing.assert_array_equal(decoded, mask * np.uint8(255))


def test_cmyk_becomes_rgb():
    data = file_of(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=98)
    assert np.abs(decode_visible(data, "a") - picture() / 255.0).mean() < 0.03


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
)
def test_orientation_is_applied_like_pillow_does(orientation, kind, options):
    data = with_orientation(picture(), orientation, kind, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_array(data, "a"), expected)
    assert probe_size(data, "a") == expected.shape[:2]


def test_orientation_of_a_jpeg_swaps_its_sides():
    data = with_orientation(picture(), 6, "JPEG")
    assert decode_visible(data, "a").shape == (56, 40, 3)


@pytest.mark.parametrize("source", ["png", "tiff", "tiff_zlib", "tiff_lzw", "pgm"])
def test_sixteen_bit_gray_keeps_every_value(source):
    sink = io.BytesIO()
    if source in ("tiff", "tiff_zlib"):
        tifffile.imwrite(sink, RAMP16, compression="zlib" if source == "tiff_zlib" else None)
    elif source == "tiff_lzw":
        Image.fromarray(RAMP16).save(sink, "TIFF", compression="tiff_lzw")
    elif source == "pgm":
        sink.write(b"P5\n48 64\n65535\n" + RAMP16.astype(">u2").tobytes())
    data = sink.getvalue() or png16(RAMP16)
    decoded = decode_array(data, "a")
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, RAMP16)


def test_sixteen_bit_ramp_is_stretched_not_clipped():
    image = decode_infrared(png16(RAMP16), "a")
    assert len(np.unique(image)) > 0.98 * RAMP16.size
    low, high = np.percentile(RAMP16, (0.5, 99.5))
    np.testing.assert_allclose(image, np.clip((RAMP16 - low) / (high - low), 0, 1), atol=1e-4)


def test_sixteen_bit_full_scaling_divides_by_the_range():
    image = decode_infrared(png16(RAMP16), "a", scaling="full")
    np.testing.assert_allclose(image, RAMP16 / 65535.0, atol=1e-6)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_color_png_keeps_every_value(channels):
    array = np.dstack([RAMP16 ^ np.uint16(1000 * i) for i in range(channels)])
    np.testing.assert_array_equal(decode_array(png16(array), "a"), array)


def test_sixteen_bit_gray_with_alpha_is_refused_and_not_cut_to_eight_bits():
    with pytest.raises(UserError, match=r"heat\.png: 16-bit gray PNG with alpha; store it without"):
        decode_array(png16(np.dstack([RAMP16, RAMP16])), "heat.png")


@pytest.mark.parametrize("encoder", [file_of, png16])
def test_gray_stored_as_rgb_is_read_as_gray(encoder):
    gray = picture(channels=1) if encoder is file_of else RAMP16
    colored = encoder(np.dstack([gray] * 3))
    expected = decode_infrared(encoder(gray), "b", scaling="full")
    np.testing.assert_array_equal(decode_infrared(colored, "a", scaling="full"), expected)


def test_float_tiff_is_taken_as_it_is():
    sink = io.BytesIO()
    values = np.linspace(0, 1, 30 * 20, dtype=np.float32).reshape(30, 20)
    tifffile.imwrite(sink, values)
    np.testing.assert_array_equal(decode_infrared(sink.getvalue(), "a"), values)


def test_float_tiff_in_kelvin_names_its_range():
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.full((8, 8), 293.15, np.float32))
    with pytest.raises(UserError, match=r"k\.tif: float values span .*scale them to \[0, 1\]"):
        decode_infrared(sink.getvalue(), "k.tif")


def test_planar_tiff_has_its_channels_last():
    sink = io.BytesIO()
    tifffile.imwrite(
        sink, np.moveaxis(picture(), -1, 0), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(decode_array(sink.getvalue(), "a"), picture())


def test_white_is_zero_tiff_is_inverted():
    sink = io.BytesIO()
    tifffile.imwrite(sink, picture(channels=1), photometric="miniswhite")
    np.testing.assert_array_equal(decode_array(sink.getvalue(), "a"), 255 - picture(channels=1))


def half(data):
    return data[: len(data) // 2]


def tiff():
    sink = io.BytesIO()
    tifffile.imwrite(sink, RAMP16)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"These are not pixels.\n" * 20, "not an image .* whatever its name says; convert it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (half(file_of(picture(), "JPEG")), "damaged or truncated image .*; replace it"),
        (half(file_of(picture())), "damaged or truncated"),
        (half(png16(np.dstack([RAMP16] * 3))), "damaged or truncated"),
        (half(tiff()), "damaged or truncated"),
        (tiff()[:6], "damaged or truncated"),
        (file_of(picture())[:20], "damaged or truncated|not an image"),
    ],
)
def test_bad_files_give_one_line_that_names_them(data, message):
    with pytest.raises(UserError, match=message) as caught:
        decode_array(data, "folder/night.png")
    assert str(caught.value).startswith("folder/night.png: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_and_nothing_else(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]))
    content = bytearray(file_of(picture(16, 16), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UserError):
        decoded = decode_array(bytes(content), "x", max_pixels=10_000)
        assert decoded.ndim in (2, 3)
        assert decoded.size > 0


def test_a_tiff_file_without_image_is_refused():
    content = bytearray(file_of(picture(16, 16), "TIFF"))
    content[134] = 0  # the tag that says where the pixels lie
    with pytest.raises(UserError, match="holds no image"):
        decode_array(bytes(content), "x.tif")


@pytest.mark.parametrize("data", [file_of(picture()), tiff()])
def test_pixel_limit_is_checked_before_decoding(data):
    with pytest.raises(UserError, match="pixels, the limit is 100; scale it down"):
        decode_array(data, "big", max_pixels=100)


def test_header_that_claims_a_huge_image_is_refused():
    bomb = bytearray(png16(RAMP16))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    with pytest.raises(UserError, match="pixels"):
        decode_array(bytes(bomb), "bomb.png")


arrays = hnp.arrays(
    np.uint8, st.one_of(st.tuples(st.integers(1, 20), st.integers(1, 20)),
                        st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))),
)  # fmt: skip


@given(arrays, st.sampled_from(["png", "tiff"]))
@settings(max_examples=40, deadline=None)
def test_lossless_round_trip_is_exact(array, kind):
    np.testing.assert_array_equal(decode_array(encode(array, kind), "x"), array)


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(max_examples=30, deadline=None)
def test_sixteen_bit_gray_round_trip_is_exact(array):
    np.testing.assert_array_equal(decode_array(encode_png(array), "x"), array)


def test_floats_are_rounded_and_clamped_to_eight_bits():
    image = np.array([[-0.5, 0.0, 0.5, 0.999, 7.0]], np.float32)
    np.testing.assert_array_equal(decode_array(encode_png(image), "x"), [[0, 0, 128, 255, 255]])


def test_quality_reaches_the_encoder():
    assert len(encode(picture(200, 200), "jpeg", 30)) < len(encode(picture(200, 200), "jpg", 95))


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (picture(), "gif", "use png, tiff, jpeg or webp"),
        (RAMP16, "jpeg", "jpeg cannot hold uint16"),
        (np.dstack([RAMP16] * 3), "png", "png cannot hold uint16"),
    ],
)
def test_impossible_encodings_are_refused(image, kind, message):
    with pytest.raises(UserError, match=message):
        encode(image, kind)
