import numpy as np
import pytest
from scipy import ndimage

from dtpf.data.scenes.actors import HIDINGS
from dtpf.data.scenes.canvas import Canvas, Region, fractal_texture
from dtpf.data.scenes.render import LIGHTINGS, render_scene

SCENES = {
    (lighting, seed): render_scene(np.random.default_rng(seed), 96, 128, lighting)
    for lighting in LIGHTINGS
    for seed in range(6)
}


@pytest.fixture
def canvas():
    texture = fractal_texture(np.random.default_rng(0))
    return Canvas(80, 100, horizon=40.0, centre=50.0, focal=80.0, texture=texture)


def luma(image):
    return image @ np.array([0.299, 0.587, 0.114])


def contrast(image, mask):
    """Difference of the means of a body and of the ring around it."""
    ring = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask)
    return abs(float(image[mask].mean() - image[ring].mean()))


def test_same_seed_same_scene_other_seed_other_scene():
    first, again = (render_scene(np.random.default_rng(7), 64, 80) for _ in range(2))
    other = render_scene(np.random.default_rng(8), 64, 80)
    np.testing.assert_array_equal(first.visible, again.visible)
    np.testing.assert_array_equal(first.infrared, again.infrared)
    assert first.targets == again.targets
    assert np.abs(first.visible - other.visible).mean() > 0.03


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 57), (128, 160), (200, 90)])
def test_any_size_gives_images_in_unit_range(height, width):
    scene = render_scene(np.random.default_rng(0), height, width)
    assert scene.visible.shape == (height, width, 3)
    assert scene.infrared.shape == scene.target_mask.shape == (height, width)
    for image in (scene.visible, scene.infrared):
        assert image.dtype == np.float32
        assert 0.0 <= image.min() <= image.max() <= 1.0


def test_day_is_brighter_than_dusk_and_dusk_than_night():
    means = [
        np.mean([s.visible.mean() for (light, _), s in SCENES.items() if light == wanted])
        for wanted in ("day", "dusk", "night")
    ]
    assert means[0] > 1.2 * means[1] > 1.2 * 1.2 * means[2]


def test_hidden_bodies_stand_out_in_infrared_and_hardly_in_visible():
    seen = [contrast(luma(s.visible), s.target_mask) for s in SCENES.values() if s.targets]
    felt = [contrast(s.infrared, s.target_mask) for s in SCENES.values() if s.targets]
    assert len(felt) >= 0.8 * len(SCENES)
    assert np.median(felt) > 0.2
    assert np.median(felt) > 2.5 * np.median(seen)


def test_visible_has_the_fine_texture_that_infrared_lacks():
    def detail(image):
        return np.abs(image - ndimage.gaussian_filter(image, 1.5)).mean()

    ratios = [detail(luma(s.visible)) / detail(s.infrared) for (light, _), s in SCENES.items()
              if light == "day"]  # fmt: skip
    assert np.median(ratios) > 1.5


def test_boxes_frame_the_mask_and_say_what_hides():
    for scene in SCENES.values():
        framed = np.zeros_like(scene.target_mask)
        for target in scene.targets:
            left, top, right, low = target.box
            assert target.hidden_by in HIDINGS
            assert scene.target_mask[top:low, left:right].any()
            framed[top:low, left:right] = True
        assert not (scene.target_mask & ~framed).any()


def test_projection_puts_the_ground_below_the_horizon_and_nearer_things_larger(canvas):
    assert canvas.project(0, 1.5, 10) == (50.0, 40.0)
    near, far = canvas.project(1, 0, 5), canvas.project(1, 0, 20)
    assert near[1] > far[1] > 40.0
    assert near[0] > far[0] > 50.0


def test_polygon_and_ellipse_cover_their_area(canvas):
    square = canvas.polygon([(10, 10), (30, 10), (30, 30), (10, 30)])
    assert square.coverage.sum() == pytest.approx(21 * 21, rel=0.1)
    assert canvas.ellipse(50, 40, 20, 10).coverage.sum() == pytest.approx(np.pi * 200, rel=0.03)


@pytest.mark.parametrize("place", [(-500.0, 20.0), (900.0, 900.0), (50.0, -300.0)])
def test_shapes_outside_the_canvas_paint_nothing(canvas, place):
    x, y = place
    for region in (
        canvas.polygon([(x, y), (x + 5, y), (x, y + 5)]),
        canvas.ellipse(x, y, 5, 5),
        canvas.blob(x, y, 5, 5),
    ):
        canvas.paint(region, (1.0, 1.0, 1.0), 1.0)
    assert canvas.reflectance.max() == canvas.warmth.max() == 0.0


def test_paint_covers_by_its_coverage_and_in_the_named_spectra_only(canvas):
    region = Region((slice(0, 2), slice(0, 2)), np.full((2, 2), 0.5, np.float32))
    canvas.paint(region, color=(1.0, 0.5, 0.0))
    np.testing.assert_allclose(canvas.reflectance[0, 0], [0.5, 0.25, 0.0])
    assert canvas.warmth.max() == 0.0
    canvas.paint(region, warmth=0.8)
    np.testing.assert_allclose(canvas.warmth[:2, :2], 0.4)
    np.testing.assert_allclose(canvas.reflectance[0, 0], [0.5, 0.25, 0.0])


def test_what_covers_a_target_in_infrared_takes_it_away(canvas):
    canvas.targets.append(("smoke", np.ones((80, 100), np.float32)))
    region = Region((slice(0, 10), slice(0, 10)), np.ones((10, 10), np.float32))
    canvas.paint(region, color=(0.5, 0.5, 0.5))
    assert canvas.targets[0][1].all()
    canvas.paint(region, warmth=0.3)
    assert canvas.targets[0][1].sum() == 80 * 100 - 100


def test_texture_repeats_without_a_seam():
    texture = fractal_texture(np.random.default_rng(1))
    inner = np.abs(np.diff(texture, axis=1)).mean()
    assert np.abs(texture[:, 0] - texture[:, -1]).mean() < 1.5 * inner
    assert texture.min() == 0.0
    assert texture.max() == 1.0
