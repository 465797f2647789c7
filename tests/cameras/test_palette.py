import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from dtpf.cameras.palette import PALETTES, find_false_colour, undo_palette

PLACES = np.add.outer(np.linspace(0, 0.6, 60), np.linspace(0, 0.4, 80))


def coloured(name: str, jpeg: bool = False) -> np.ndarray:
    rgb = np.uint8(np.round(255 * colormaps[PALETTES[name]](PLACES)[..., :3]))
    if jpeg:
        sink = io.BytesIO()
        Image.fromarray(rgb).save(sink, "jpeg", quality=90)
        rgb = np.asarray(Image.open(sink))
    return rgb


@pytest.mark.parametrize("name", PALETTES)
def test_known_palettes_are_named_and_undone(name):
    found = find_false_colour(coloured(name, jpeg=True))
    assert found is not None
    assert found.palette == name
    assert name in str(found)
    back = undo_palette(coloured(name), name) / 65535
    assert np.abs(back - PLACES).max() < 0.02


def test_gray_is_no_false_colour_however_it_is_stored():
    gray = np.uint8(255 * PLACES)
    assert find_false_colour(gray) is None
    rgb = np.repeat(gray[..., None], 3, axis=2)
    assert find_false_colour(rgb) is None
    rgb[..., 2] = np.clip(rgb[..., 2].astype(int) + 3, 0, 255)  # as codecs leave it
    assert find_false_colour(rgb) is None
    np.testing.assert_array_equal(undo_palette(gray, "jet"), gray)


def test_an_unknown_palette_is_reported_as_such():
    rgb = np.uint8(255 * np.stack([PLACES * 0.2, 1 - PLACES, PLACES], axis=2))
    found = find_false_colour(rgb)
    assert found is not None
    assert found.palette is None
    assert "unknown palette" in str(found)


@pytest.mark.real
def test_no_infrared_image_of_roadscene_or_msrs_is_taken_for_false_colour(real_data):
    files = [*(real_data / "roadscene/test/ir").iterdir(), *(real_data / "msrs/test/ir").iterdir()]
    assert len(files) == 40
    assert not [file.name for file in files if find_false_colour(np.asarray(Image.open(file)))]
