import json

import numpy as np
import pytest
from PIL import Image

from dtpf.cameras.alignment import check_alignment
from dtpf.cameras.calibration import Calibration, calibrate, calibrate_points, load_calibration
from dtpf.cameras.homography import apply, covered, distance, from_points, resizing, warp
from dtpf.core.errors import UserError

PROJECTIVE = np.array([[1.02, 0.03, 4.0], [-0.02, 0.98, -3.0], [1e-4, -5e-5, 1.0]])


def moved(angle=0.0, scale=1.0, x=0.0, y=0.0, size=(160, 200)) -> np.ndarray:
    """Turn about the centre in degrees, scale, then shift."""
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    turn = np.deg2rad(angle)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre + [x, y]
    return matrix


def real_pair(root, stem) -> tuple[np.ndarray, np.ndarray]:
    (seen,) = (root / "roadscene/test/vi").glob(f"{stem}.*")
    (heat,) = (root / "roadscene/test/ir").glob(f"{stem}.*")
    return tuple(np.asarray(Image.open(path).convert("L"), np.float32) for path in (seen, heat))


def blobs(seed: int, size=(208, 248)) -> np.ndarray:
    """Rectangles of many grays: edges everywhere, exactly known."""
    rng, image = np.random.default_rng(seed), np.zeros(size, np.float32)
    for _ in range(60):
        y, x = rng.integers(0, size[0] - 20), rng.integers(0, size[1] - 20)
        image[y : y + rng.integers(8, 50), x : x + rng.integers(8, 50)] = rng.random()
    return image


def cross_spectral(motion, seed=0, margin=24):
    """A scene and its negative with other contrasts, moved, both without an empty border."""
    scene = blobs(seed)
    size = (scene.shape[0] - 2 * margin, scene.shape[1] - 2 * margin)
    shift = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1.0]])
    heat = warp((1 - scene) ** 3 * 400, shift @ motion @ np.linalg.inv(shift), scene.shape)
    inner = np.s_[margin : margin + size[0], margin : margin + size[1]]
    return scene[inner], heat[inner], np.linalg.inv(motion)


def test_points_give_the_homography_they_come_from():
    given = np.array([[0, 0], [90, 5], [100, 80], [3, 70], [50, 30], [20, 60.0]])
    matrix, rms = from_points(given, apply(PROJECTIVE, given))
    np.testing.assert_allclose(apply(matrix, given), apply(PROJECTIVE, given), atol=1e-3)
    assert rms < 1e-3


def test_three_points_give_an_affine_mapping_that_is_not_called_sure():
    given = np.array([[0, 0], [90, 5], [20, 60.0]])
    found = calibrate_points(given, given * 2 + 3, (100, 100), (200, 200))
    np.testing.assert_allclose(found.matrix, [[2, 0, 3], [0, 2, 3], [0, 0, 1]], atol=1e-6)
    assert (found.model, found.sure) == ("affine", False)


@pytest.mark.parametrize("given", [[[0, 0], [1, 1]], [[0, 0], [1, 1], [2, 2], [3, 3]]])
def test_too_few_points_or_a_line_are_refused(given):
    with pytest.raises(UserError, match="points"):
        from_points(np.array(given, float), np.array(given, float))


def test_warping_and_what_it_covers_agree():
    image = np.ones((40, 60), np.float32)
    known = covered(moved(x=10, size=(40, 60)), (40, 60), (40, 60))
    assert known[:, 10:].all()
    assert not known[:, :10].any()
    ramp = np.tile(np.arange(60, dtype=np.float32), (40, 1))
    np.testing.assert_allclose(
        warp(ramp, moved(x=10, size=(40, 60)), (40, 60))[:, 10:], ramp[:, :50]
    )
    half = warp(image, resizing((40, 60), (20, 30)), (20, 30))
    np.testing.assert_allclose(half, 1.0)


@pytest.mark.parametrize(
    "motion",
    [
        moved(x=17, y=-9),
        moved(angle=4.0),
        moved(scale=1.06, x=-6),
        moved(angle=-3, scale=0.95, x=8, y=6),
    ],
    ids=["shift", "turn", "scale", "all"],
)
def test_known_motions_between_spectra_are_found(motion):
    seen, heat, truth = cross_spectral(motion)
    found = calibrate([(seen, heat)])
    assert found.sure
    assert distance(found.matrix, truth, heat.shape) < 0.5


def test_several_pairs_find_a_perspective_that_one_similarity_cannot():
    motion = moved(x=5, y=3)
    motion[2, :2] = [1.5e-4, -1e-4]
    pairs, truth = [], None
    for seed in range(3):
        seen, heat, truth = cross_spectral(motion, seed)
        pairs.append((seen, heat))
    found = calibrate(pairs)
    assert found.model == "homography"
    assert distance(found.matrix, truth, pairs[0][1].shape) < 0.6
    plain = calibrate(pairs, "similarity")
    assert distance(plain.matrix, truth, pairs[0][1].shape) > 1.0


def test_another_resolution_and_field_of_view():
    seen, heat, truth = cross_spectral(moved(x=4, y=-5))
    size = (heat.shape[0] // 2, heat.shape[1] // 2)
    small = warp(heat, resizing(heat.shape, size), size)
    found = calibrate([(seen, small)])
    assert found.sure
    expected = truth @ resizing(size, heat.shape)
    assert distance(found.matrix, expected, size) < 0.8
    narrow = heat[20:-20, 25:-25]
    cut = truth @ np.array([[1, 0, 25], [0, 1, 20], [0, 0, 1.0]])
    found = calibrate([(seen, narrow)], ratio=0.75)
    assert distance(found.matrix, cut, narrow.shape) < 0.5


def test_two_scenes_that_differ_are_not_called_aligned():
    found = calibrate([(blobs(1), blobs(2))])
    assert not found.sure
    noise = np.random.default_rng(0).random((2, 120, 160)).astype(np.float32)
    assert not calibrate([(noise[0], noise[1])]).sure


def test_a_stored_calibration_comes_back_and_follows_the_size(tmp_path):
    found = calibrate_points(
        np.array([[0, 0], [90, 5], [100, 80], [3, 70], [50, 30.0]]),
        apply(PROJECTIVE, np.array([[0, 0], [90, 5], [100, 80], [3, 70], [50, 30.0]])),
        (90, 120),
        (90, 120),
    )
    (tmp_path / "rig.json").write_text(found.model_dump_json())
    loaded = load_calibration(f"file://{tmp_path}/rig.json")
    assert loaded == found
    doubled = loaded.for_sizes((180, 240), (180, 240))
    point = np.array([[40.0, 30.0]])
    twice = apply(doubled, point * 2 + 0.5)
    np.testing.assert_allclose(twice, apply(found.matrix, point) * 2 + 0.5, atol=1e-6)
    with pytest.raises(UserError, match="120x90"):
        loaded.for_sizes((100, 100), (90, 120))
    document = json.loads(found.model_dump_json())
    with pytest.raises(UserError, match="sure"):
        Calibration.parse({**document, "sure": "perhaps"}, "rig.json")


def test_pairs_of_several_sizes_are_refused():
    with pytest.raises(UserError, match="one size"):
        calibrate([(blobs(1), blobs(1)), (blobs(1)[:100], blobs(1))])


@pytest.mark.real
@pytest.mark.parametrize("stem", ["FLIR_00060", "FLIR_00977", "FLIR_08874"])
def test_a_real_pair_that_is_off_is_measured(real_data, stem):
    seen, heat = real_pair(real_data, stem)
    off = warp(heat, moved(angle=2, x=12, y=-7, size=heat.shape), heat.shape)
    inner = np.s_[20:-20, 24:-24]
    straight = check_alignment(seen[inner] / 255, heat[inner] / 255)
    crooked = check_alignment(seen[inner] / 255, off[inner] / 255)
    assert straight.sure
    assert not straight.off
    assert crooked.off
    assert crooked.offset == pytest.approx(14, abs=3.5)


def test_nothing_is_said_of_pictures_without_edges():
    flat = np.full((80, 80), 0.5, np.float32)
    assert not check_alignment(flat, flat).sure
    assert "not sure" in str(check_alignment(flat[:20], flat[:20]))
