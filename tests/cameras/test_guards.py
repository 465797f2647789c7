import numpy as np
import pytest
from PIL import Image

from dtpf.cameras.guards import as_header, check_result, partial_correlation

RNG = np.random.default_rng(0)
SEEN = RNG.random((48, 64, 3)).astype(np.float32)
HEAT = RNG.random((48, 64)).astype(np.float32)


def kinds(fused, seen=SEEN, heat=HEAT):
    return {found.kind for found in check_result(fused, seen, heat)}


def test_a_mean_is_fine_in_colour_and_gray():
    assert kinds((SEEN + HEAT[..., None]) / 2) == set()
    assert kinds((SEEN.mean(axis=2) + HEAT) / 2) == set()


def test_each_defect_is_named():
    assert kinds(SEEN) == {"ignores-infrared"}
    assert kinds(np.repeat(HEAT[..., None], 3, 2)) == {"ignores-visible"}
    assert kinds(np.full_like(SEEN, 0.4)) == {"blank"}
    assert "saturated" in kinds((SEEN + HEAT[..., None] > 1.0).astype(np.float32))


def test_flat_sources_are_not_missed():
    dark = np.zeros_like(SEEN)
    assert kinds(np.repeat(HEAT[..., None], 3, 2), dark) == set()
    assert kinds(dark, dark, np.zeros_like(HEAT)) == set()


def test_the_header_lists_kinds():
    assert as_header(check_result(SEEN, SEEN, HEAT)) == "ignores-infrared"
    assert as_header([]) == "none"


def test_partial_correlation_is_that_of_residuals():
    own, other = HEAT, SEEN.mean(axis=2)
    picture = 0.3 * own + 0.5 * other + 0.1 * RNG.random(own.shape)
    columns = np.stack([np.ones(own.size), other.ravel()], axis=1)

    def rest(image):
        return image.ravel() - columns @ np.linalg.lstsq(columns, image.ravel(), rcond=None)[0]

    expected = np.corrcoef(rest(picture), rest(own))[0, 1]
    assert partial_correlation(picture, own, other) == pytest.approx(expected, abs=1e-4)


@pytest.mark.real
def test_on_real_pairs_copies_are_caught_and_baselines_are_not(real_data):
    for path in sorted((real_data / "roadscene/test/vi").iterdir())[::3]:
        (other,) = (real_data / "roadscene/test/ir").glob(f"{path.stem}.*")
        seen = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        heat = np.asarray(Image.open(other).convert("L"), np.float32) / 255
        assert kinds((seen + heat[..., None]) / 2, seen, heat) == set(), path.stem
        copy = np.round(seen * 255) / np.float32(255)
        assert kinds(copy, seen, heat) == {"ignores-infrared"}, path.stem
