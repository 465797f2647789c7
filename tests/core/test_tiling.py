"""Large pairs in tiles: nothing shows of the tiles, and memory is that of one of them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dtpf.core.bundle import Bundle
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.models import build
from dtpf.core.tiling import MIN_TILE_PIXELS, _shrunk, _Tiles, fuse_tiled
from dtpf.data.images import decode_infrared, decode_visible
from dtpf.serving.config import ServeConfig
from tests.serving.fakes import MeanFuser, infrared_array, visible_array

SIZES = [(128, 128), (129, 128), (200, 300), (30, 2000), (2000, 30), (257, 1000), (16, 1025)]


class FarSighted(MeanFuser):
    """Looks 128 pixels far, and notes which columns it was shown, counted by the infrared."""

    reach = 128

    def __init__(self):
        super().__init__()
        self.spans = []

    def fuse(self, visible, infrared):
        first, last = (round(1000 * float(infrared[0, edge])) for edge in (0, -1))
        self.spans.append((first, last + 1))
        return super().fuse(visible, infrared)


class Levels(MeanFuser):
    """Answers each call with another level of gray."""

    def fuse(self, visible, infrared):
        return np.full_like(visible, 0.01 * self.calls)


@pytest.fixture(scope="module")
def fuser():
    torch.manual_seed(3)
    model = build("student_tiny")
    return Fuser(Bundle(model=model, uri="test", sha256="", provenance={}))


def scene(height, width):
    """Bright, busy left, dark and smooth right: tiles differ from the whole in every statistic."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / 64
    level = np.linspace(0.9, 0.1, width, dtype=np.float32)
    visible = np.stack([np.sin(9 * x) * level, np.sin(7 * y) * level, level + 0 * x], axis=-1)
    infrared = level[::-1] * (0.5 + 0.5 * np.sin(3 * x + 2 * y))
    return np.clip(0.5 + 0.5 * visible, 0, 1), np.clip(infrared, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pointwise_fusion_is_the_same_in_tiles(height, width):
    calls = []

    def call(network, visible, infrared):
        calls.append(infrared.shape)
        return network.fuse(visible, infrared)

    visible, infrared = visible_array(height, width), infrared_array(height, width)
    fused = fuse_tiled(MeanFuser(), visible, infrared, MIN_TILE_PIXELS, call)
    np.testing.assert_allclose(fused, (visible + infrared[..., None]) / 2, atol=1e-6)
    assert fused.dtype == np.float32
    assert all(rows * columns <= MIN_TILE_PIXELS for rows, columns in calls)
    assert min(min(shape) for shape in calls) >= min(height, width, 64)


@pytest.mark.parametrize(("tile", "overlap"), [(128, 64), (192, 128), (256, 128), (512, 128)])
def test_tiles_overlap_as_far_as_a_network_looks_or_as_there_is_room(tile, overlap):
    network = FarSighted()
    visible, infrared = visible_array(tile, 1000), infrared_array(tile, 1000)
    infrared[:] = np.arange(1000) / 1000  # tells where a tile begins
    fused = fuse_tiled(network, visible, infrared, tile**2)
    np.testing.assert_allclose(fused, (visible + infrared[..., None]) / 2, atol=1e-6)
    for (start, stop), (following, _) in pairwise(network.spans):
        assert stop - start == tile
        assert stop - following >= overlap
    assert network.spans[0][1] - network.spans[1][0] == overlap


def test_a_pair_that_fits_is_one_call():
    network = MeanFuser()
    fuse_tiled(network, visible_array(128, 128), infrared_array(128, 128), MIN_TILE_PIXELS)
    assert network.calls == 1


def test_tiles_that_differ_in_brightness_show_no_step():
    visible, infrared = visible_array(128, 640), infrared_array(128, 640)
    fused = fuse_tiled(Levels(), visible, infrared, MIN_TILE_PIXELS)
    steps = np.abs(np.diff(fused[..., 0], axis=1))
    assert 0 < steps.max() <= 0.01 / 40


def test_tiles_with_shared_statistics_agree_with_one_call(fuser):
    visible, infrared = scene(320, 448)
    whole = fuser.fuse(visible, infrared)
    shared = fuse_tiled(fuser, visible, infrared, 192**2)
    alone = fuse_tiled(Alone(fuser), visible, infrared, 192**2)
    differences = [np.abs(tiled - whole).mean() for tiled in (shared, alone)]
    assert differences[0] < 1 / 255
    assert differences[0] < 0.75 * differences[1]
    assert np.abs(whole - visible).mean() > 10 / 255  # the network does something


@pytest.mark.parametrize(("name", "passes"), [("roadscene_1m", 1), ("roadscene_2m", 3)])
def test_a_network_of_convolutions_shows_no_tiles(name, passes):
    """It fuses once; one that cleans looks at the light of all tiles before."""
    convolutions = Fuser.from_bundle(name)  # trained, so that it does something
    visible, infrared = scene(320, 448)
    calls = []

    def call(network, *tile):
        calls.append(network)
        return network.fuse_batch(*([image] for image in tile))[0]

    tiled = fuse_tiled(convolutions, visible, infrared, 192**2, call)
    assert len(set(calls)) == passes
    difference = tiled - convolutions.fuse(visible, infrared)
    assert np.abs(difference).mean() < 0.3 / 255
    # Where both sources are as strong it may decide a little otherwise, but nowhere suddenly.
    assert np.abs(difference).max() < 10 / 255
    for axis in (0, 1):
        assert np.abs(np.diff(difference, axis=axis)).max() < 1.5 / 255


class Alone:
    """A network that hides that it weighs whole images."""

    def __init__(self, fuser):
        self.info, self.fuse_batch = fuser.info, fuser.fuse_batch


def test_statistics_of_all_tiles_are_those_of_the_image(fuser):
    """Tiles that cover an image once, in a network that looks no further than a pixel."""
    from dtpf.core.models.attention import ChannelAttention
    from dtpf.core.models.moments import ImageMoments

    torch.manual_seed(0)
    layer = ChannelAttention(8, 2).eval()
    with torch.no_grad():
        layer.mix.weight[:] = 0
        layer.mix.weight[..., 1, 1] = torch.rand_like(layer.mix.weight[..., 1, 1])
    x = torch.randn(1, 12, 10, 8) * torch.linspace(0.1, 2, 12)[:, None, None]
    moments = ImageMoments()
    tiles = [x[:, :7], x[:, 7:]]
    with moments.collecting():
        alone = torch.cat([layer(tile) for tile in tiles], dim=1)
    better = ImageMoments(estimate=moments)
    with better.collecting():
        again = torch.cat([layer(tile) for tile in tiles], dim=1)
    with better.applied():
        shared = torch.cat([layer(tile) for tile in tiles], dim=1)
    torch.testing.assert_close(shared, layer(x))
    torch.testing.assert_close(again, layer(x))
    assert (alone - layer(x)).abs().max() > 1e-3


@pytest.mark.parametrize(("height", "width"), SIZES[1:])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_shrunk_image_keeps_its_means_and_fits(height, width, channels):
    image = np.random.default_rng(0).random((height, width, *channels), dtype=np.float32)
    small = _shrunk(image, MIN_TILE_PIXELS // 2)
    assert small.shape[2:] == channels
    assert min(small.shape[:2]) >= 16
    assert small.shape[0] * small.shape[1] <= MIN_TILE_PIXELS // 2
    assert small.mean() == pytest.approx(image.mean(), abs=0.01)
    constant = _shrunk(np.full_like(image, 0.25), MIN_TILE_PIXELS // 2)
    np.testing.assert_allclose(constant, 0.25)


@pytest.mark.real
@pytest.mark.parametrize("number", [0, 7, 14])
def test_no_seam_shows_on_real_pairs(fuser, real_data, number):
    name = sorted(path.name for path in (real_data / "roadscene/test/vi").iterdir())[number]
    files = [real_data / "roadscene/test" / folder / name for folder in ("vi", "ir")]
    visible = decode_visible(files[0].read_bytes(), name)
    infrared = decode_infrared(files[1].read_bytes(), name)
    whole = fuser.fuse(visible, infrared)
    tiled = fuse_tiled(fuser, visible, infrared, 192**2)
    assert np.abs(tiled - whole).mean() < 1 / 255
    for axis, length in enumerate(infrared.shape):
        spans = _Tiles.along(length, 192, fuser.reach).spans
        borders = sorted({edge for span in spans for edge in (span.start, span.stop)})
        steps = np.abs(np.diff(tiled - whole, axis=axis)).mean(axis=(1 - axis, 2))
        at_borders = steps[np.array(borders[1:-1]) - 1]
        assert at_borders.mean() < 1.1 * steps.mean()
        natural = np.abs(np.diff(whole, axis=axis)).mean(axis=(1 - axis, 2))
        assert at_borders.max() < 0.15 * np.median(natural)


def test_the_endpoint_asks_for_the_same_smallest_tile():
    with pytest.raises(UserError, match=f"max_call_pixels.*{MIN_TILE_PIXELS}"):
        ServeConfig.parse({"max_call_pixels": MIN_TILE_PIXELS - 1}, "settings")
    assert ServeConfig(max_call_pixels=MIN_TILE_PIXELS).max_call_pixels == MIN_TILE_PIXELS


def test_a_fuser_tiles_beyond_its_budget_and_leaves_no_trace(fuser):
    visible, infrared = scene(160, 256)
    whole = fuser.fuse(visible, infrared)
    small = Fuser(Bundle(fuser._model, "test", "", {}), max_call_pixels=MIN_TILE_PIXELS)
    tiled = small.fuse(visible, infrared)
    assert 0 < np.abs(tiled - whole).mean() < 1 / 255
    np.testing.assert_array_equal(fuser.fuse(visible, infrared), whole)


def test_a_budget_below_one_tile_is_refused(fuser):
    with pytest.raises(UserError, match="at least 16384, got 4096"):
        Fuser(Bundle(fuser._model, "test", "", {}), max_call_pixels=4096)
