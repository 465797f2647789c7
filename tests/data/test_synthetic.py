import numpy as np
import pytest
from pydantic import ValidationError

from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_infrared, decode_visible
from dtpf.data.synthetic import SyntheticConfig, make_pair, write_synthetic

SMALL = SyntheticConfig(train=6, val=2, test=1, height=32, width=48, degraded_fraction=0.5)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    store, calls = Store(tmp_path_factory.mktemp("store")), []
    pairs = write_synthetic(SMALL, store, "set", lambda *count: calls.append(count))
    return store, pairs, calls


def test_counts_splits_and_progress(written):
    _, pairs, calls = written
    assert [pair.split for pair in pairs] == ["train"] * 6 + ["val"] * 2 + ["test"]
    assert len({pair.pair_id for pair in pairs}) == 9
    assert calls == [(i, 9) for i in range(1, 10)]


def test_stored_images_are_those_of_the_pair(written):
    _, pairs, _ = written
    made = make_pair(SMALL, "train", 1)
    pair = pairs[1]
    assert (pair.pair_id, pair.height, pair.width) == ("train_00001", 32, 48)
    visible = decode_visible(read_bytes(pair.visible_uri), "x")
    infrared = decode_infrared(read_bytes(pair.infrared_uri), "x")
    assert np.abs(visible - made.visible).max() <= 0.5 / 255 + 1e-6
    assert np.abs(infrared - made.infrared).max() <= 0.5 / 255 + 1e-6


def test_guides_stand_where_and_only_where_an_image_is_degraded(written):
    store, pairs, _ = written
    truth = {row["pair_id"]: row for row in store.read_json("set/truth.json")["pairs"]}
    assert 0 < sum(bool(row["degradations"]) for row in truth.values()) < len(pairs)
    for pair in pairs:
        defects = {item["modality"] for item in truth[pair.pair_id]["degradations"]}
        assert (pair.visible_guide_uri is not None) == ("visible" in defects)
        assert (pair.infrared_guide_uri is not None) == ("infrared" in defects)
        if pair.visible_guide_uri:
            clean = decode_visible(read_bytes(pair.visible_guide_uri), "x")
            assert np.abs(clean - decode_visible(read_bytes(pair.visible_uri), "x")).mean() > 0.005


def test_truth_names_lighting_and_targets(written):
    store, pairs, _ = written
    rows = store.read_json("set/truth.json")["pairs"]
    assert [row["pair_id"] for row in rows] == [pair.pair_id for pair in pairs]
    assert [row["lighting"] for row in rows[:3]] == ["day", "dusk", "night"]
    assert any(row["targets"] for row in rows)


def test_writing_again_gives_the_same_bytes(written, tmp_path):
    store, _, _ = written
    other = Store(tmp_path)
    write_synthetic(SMALL, other, "set")
    keys = store.keys("set")
    assert other.keys("set") == keys
    assert all(other.read_bytes(key) == store.read_bytes(key) for key in keys)


def test_more_pairs_leave_the_others_as_they_are():
    larger = SMALL.model_copy(update={"train": 60, "test": 9})
    for split, index in (("train", 2), ("val", 1), ("test", 0)):
        one, two = make_pair(SMALL, split, index), make_pair(larger, split, index)
        np.testing.assert_array_equal(one.visible, two.visible)
        assert one.degradations == two.degradations


def test_seeds_and_splits_differ():
    first = make_pair(SMALL, "train", 0)
    for other in (
        make_pair(SMALL, "test", 0),
        make_pair(SMALL.model_copy(update={"seed": 1}), "train", 0),
    ):
        assert np.abs(first.scene.visible - other.scene.visible).mean() > 0.02


def test_fraction_zero_and_one():
    clean = SMALL.model_copy(update={"degraded_fraction": 0.0})
    worst = SMALL.model_copy(update={"degraded_fraction": 1.0})
    for index in range(6):
        assert make_pair(clean, "train", index).degradations == ()
        defects = make_pair(worst, "train", index).degradations
        assert 1 <= len(defects) == len({defect.modality for defect in defects})
        assert all(0.4 <= defect.severity <= 0.9 for defect in defects)


@pytest.mark.parametrize(
    "settings", [{"train": 0}, {"width": 8}, {"degraded_fraction": 1.5}, {"seed": -1}, {"depth": 3}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        SyntheticConfig(**settings)
