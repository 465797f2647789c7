from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import dtpf.data.dataset as module
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.dataset import PairDataset, draw, training_crops
from dtpf.data.images import encode_png
from dtpf.data.index import DataConfig, build_index
from dtpf.data.synthetic import SyntheticConfig, write_synthetic
from tests.data.files import png16, write_pair


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    config = SyntheticConfig(train=5, val=0, test=0, height=40, width=64, degraded_fraction=0.6)
    return write_synthetic(config, Store(tmp_path_factory.mktemp("store")), "set")


def coordinates(tmp_path, height=30, width=50):
    """One pair whose visible red and green tell row and column, infrared the row."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8) * 4
    store = Store(tmp_path)
    store.write_bytes("vi/a.png", encode_png(np.dstack([rows, columns, rows])))
    store.write_bytes("ir/a.png", encode_png(rows))
    return build_index(DataConfig(source=str(tmp_path), name="x"), store, "x").pairs


def test_a_pair_comes_as_float_tensors_with_its_guides(pairs):
    dataset = PairDataset(pairs)
    for index, pair in enumerate(pairs):
        item = dataset[index]
        assert item.pair_id == pair.pair_id
        assert item.visible.shape == item.visible_guide.shape == (3, 40, 64)
        assert item.infrared.shape == item.infrared_guide.shape == (1, 40, 64)
        assert {tensor.dtype for tensor in item.tensors} == {torch.float32}
        degraded = pair.visible_guide_uri is not None
        assert torch.equal(item.visible, item.visible_guide) != degraded
        degraded = pair.infrared_guide_uri is not None
        assert torch.equal(item.infrared, item.infrared_guide) != degraded
    assert len(dataset) == 5


def test_memory_keeps_eight_bit_values_apart(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    store = Store(tmp_path)
    store.write_bytes("vi/a.png", encode_png(np.dstack([ramp] * 3)))
    store.write_bytes("ir/a.png", encode_png(ramp))
    pairs = build_index(DataConfig(source=str(tmp_path), name="x"), store, "x").pairs
    back = (PairDataset(pairs)[0].infrared[0] * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(back, ramp)


def test_scaling_reaches_sixteen_bit_infrared(tmp_path):
    write_pair(tmp_path, "a")
    heat = np.linspace(20_000, 24_000, 40 * 56).astype(np.uint16).reshape(40, 56)
    (tmp_path / "ir/a.png").write_bytes(png16(heat))
    pairs = build_index(DataConfig(source=str(tmp_path), name="x"), Store(tmp_path), "x").pairs
    spans = [float(np.ptp(PairDataset(pairs, s)[0].infrared)) for s in ("percentile", "full")]
    assert spans[0] == pytest.approx(1.0, abs=1e-3)
    assert spans[1] == pytest.approx(4000 / 65535, abs=1e-3)


def test_cache_is_bounded_and_keeps_the_latest(pairs, monkeypatch):
    reads = []
    monkeypatch.setattr(module, "read_bytes", lambda uri: reads.append(uri) or read_bytes(uri))
    one = 2 * (3 + 1) * 40 * 64 * 2  # an upper bound: inputs and guides as float16
    dataset = PairDataset(pairs, cache_bytes=2 * one)
    for index in (0, 1, 1, 1, 0):
        dataset[index]
    first = len(reads)
    assert len(set(reads)) == first
    for index in range(5):
        dataset[index]
    dataset[4]
    assert dataset._cache._used <= 2 * one
    count = len(reads)
    dataset[4]
    assert len(reads) == count
    assert count > first


def test_results_of_the_cache_may_be_changed_without_harm(pairs):
    dataset = PairDataset(pairs)
    dataset[0].visible.zero_()
    assert dataset[0].visible.abs().sum() > 0


def test_threads_see_what_one_thread_sees(pairs):
    alone = [PairDataset(pairs)[i].visible for i in range(5)]
    shared = PairDataset(pairs, cache_bytes=60_000)
    order = [i % 5 for i in range(60)]
    with ThreadPoolExecutor(6) as pool:
        for index, item in zip(order, pool.map(shared.__getitem__, order), strict=True):
            assert torch.equal(item.visible, alone[index])


@pytest.mark.parametrize("count", [1, 7, 20])
def test_every_epoch_takes_each_pair_once_in_an_order_of_its_own(count):
    epochs = [[draw(e * count + i, count, seed=3) for i in range(count)] for e in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count == 20:
        assert epochs[0] != epochs[1] != epochs[2]
        assert epochs[0] != [draw(i, count, seed=4) for i in range(count)]


def test_an_order_is_made_once_an_epoch(monkeypatch):
    """Of a million pairs it takes a tenth of a second: as long as a training step."""
    made = []
    generator = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda key: made.append(key) or generator(key))
    count = 50
    orders = [draw(position, count, seed=17) for position in range(2 * count)]
    assert made == [(17, 0), (17, 1)]
    assert orders[:count] == list(generator((17, 0)).permutation(count))


def test_a_batch_has_the_stated_shapes(pairs):
    batch = training_crops(PairDataset(pairs), range(3), seed=0, side=24)
    assert len(batch.pair_ids) == 3
    assert batch.visible.shape == batch.visible_guide.shape == (3, 3, 24, 24)
    assert batch.infrared.shape == batch.infrared_guide.shape == (3, 1, 24, 24)
    assert batch.visible.dtype == torch.float32


def test_workers_together_see_what_one_sees(pairs):
    whole = training_crops(PairDataset(pairs), range(8, 16), seed=5, side=16)
    parts = [training_crops(PairDataset(pairs), range(8, 16)[r::2], 5, 16) for r in range(2)]
    for rank, part in enumerate(parts):
        assert part.pair_ids == whole.pair_ids[rank::2]
        assert torch.equal(part.visible, whole.visible[rank::2])
        assert torch.equal(part.infrared_guide, whole.infrared_guide[rank::2])


def test_positions_and_seeds_decide_the_crops(pairs):
    dataset = PairDataset(pairs)
    first, again = (training_crops(dataset, range(4), 0, 16) for _ in range(2))
    assert torch.equal(first.visible, again.visible)
    assert not torch.equal(first.visible, training_crops(dataset, range(4), 1, 16).visible)
    assert not torch.equal(first.visible, training_crops(dataset, range(5, 9), 0, 16).visible)


def test_all_images_of_a_pair_are_cut_and_turned_alike(tmp_path):
    dataset = PairDataset(coordinates(tmp_path))
    batch = training_crops(dataset, range(40), seed=0, side=12)
    # Red of the visible image and the infrared image hold the same values.
    torch.testing.assert_close(batch.visible[:, :1], batch.infrared)
    torch.testing.assert_close(batch.visible, batch.visible_guide)
    rows = (batch.visible[:, 0] * 255 / 4).round()
    columns = (batch.visible[:, 1] * 255 / 4).round()
    orientations = set()
    for row, column in zip(rows, columns, strict=True):
        assert row.max() - row.min() == column.max() - column.min() == 11
        steps = (row[1, 0] - row[0, 0], row[0, 1] - row[0, 0],
                 column[1, 0] - column[0, 0], column[0, 1] - column[0, 0])  # fmt: skip
        orientations.add(tuple(int(step) for step in steps))
    assert len(orientations) == 8
    corners = {(int(r.min()), int(c.min())) for r, c in zip(rows, columns, strict=True)}
    assert len(corners) > 30


def test_shrunk_crops_show_the_whole_image(tmp_path):
    dataset = PairDataset(coordinates(tmp_path))
    height, width = dataset[0].infrared.shape[1:]
    side = min(height, width) // 2
    whole = training_crops(dataset, range(30), seed=0, side=side, shrunk=1.0)
    short = 0 if height <= width else 1  # the channel that counts along the shorter side
    for crop, image in zip(
        whole.visible[:, short], dataset[0].visible[short].expand(30, -1, -1), strict=True
    ):
        assert crop.min() - image.min() < 2 * 4 / 255
        assert image.max() - crop.max() < 2 * 4 / 255
    some = training_crops(dataset, range(200), seed=0, side=side, shrunk=0.25)
    cut = training_crops(dataset, range(200), seed=0, side=side)
    span = lambda batch: batch.visible[:, short].amax((1, 2)) - batch.visible[:, short].amin((1, 2))  # noqa: E731
    assert 0.15 < (span(some) > 1.5 * span(cut).median()).float().mean() < 0.35


@pytest.mark.parametrize("side", [64, 150])
def test_images_smaller_than_the_crop_are_extended_by_reflection(tmp_path, side):
    dataset = PairDataset(coordinates(tmp_path))
    batch = training_crops(dataset, range(3), seed=0, side=side)
    assert batch.visible.shape == (3, 3, side, side)
    steps = [(batch.infrared.diff(dim=dim) * 255 / 4).round().abs().max().item() for dim in (2, 3)]
    assert max(steps) == 1  # a mirrored ramp has no jumps, repetition or zeros would


def test_a_share_of_the_crops_is_degraded_and_their_guides_stay_clean(tmp_path):
    dataset = PairDataset(coordinates(tmp_path, height=60, width=63))
    clean = training_crops(dataset, range(60), seed=0, side=48)
    some = training_crops(dataset, range(60), seed=0, side=48, degraded=0.5)
    again = training_crops(dataset, range(60), seed=0, side=48, degraded=0.5)
    assert torch.equal(some.visible, again.visible)
    assert torch.equal(some.infrared, again.infrared)
    assert torch.equal(clean.visible, clean.visible_guide)
    changed = [
        not (torch.equal(seen, clean_seen) and torch.equal(heat, clean_heat))
        for seen, heat, clean_seen, clean_heat in zip(
            some.visible, some.infrared, some.visible_guide, some.infrared_guide, strict=True
        )
    ]
    assert 0.3 < sum(changed) / 60 < 0.7
    # Guides are cut and turned like the images: red and infrared hold the same values.
    torch.testing.assert_close(some.visible_guide[:, :1], some.infrared_guide)
    assert some.visible.min() >= 0.0
    assert some.visible.max() <= 1.0


def test_dimmed_crops_are_darker_scenes_not_degraded_ones(tmp_path):
    dataset = PairDataset(coordinates(tmp_path, height=60, width=63))
    plain = training_crops(dataset, range(60), seed=0, side=48)
    dim = training_crops(dataset, range(60), seed=0, side=48, dimmed=1.0)
    assert torch.equal(dim.visible, dim.visible_guide)
    assert torch.equal(dim.infrared, dim.infrared_guide)
    light, heat = (
        dimmed.amax((1, 2, 3)) / bright.amax((1, 2, 3)).clamp(min=1e-3)
        for dimmed, bright in ((dim.visible, plain.visible), (dim.infrared, plain.infrared))
    )
    assert light.min() < 0.4
    assert heat.min() < 0.4
    assert (light - heat).abs().max() > 0.2  # each has a factor of its own
    some = training_crops(dataset, range(60), seed=0, side=48, dimmed=0.25)
    untouched = [torch.equal(a, b) for a, b in zip(some.visible, plain.visible, strict=True)]
    assert 0.5 < sum(untouched) / 60 < 0.95
    assert torch.equal(some.dull, ~torch.tensor(untouched))
