import os

import numpy as np
import pytest
from PIL import Image

from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.records import pairs_from_table, pairs_to_table
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_visible
from dtpf.data.index import DataConfig, build_index, listing_fingerprint
from dtpf.data.synthetic import SyntheticConfig
from tests.data.files import file_of, picture, png16, write_pair


def config_of(root, **settings):
    return DataConfig(source=str(root), name="here", **settings)


def index(root, **settings):
    counts = []
    report = build_index(
        config_of(root, **settings), Store(root / "store"), "x", lambda *c: counts.append(c)
    )
    assert counts == [(i + 1, len(counts)) for i in range(len(counts))]
    return report


def folders(root, count=4, split=None):
    for i in range(count):
        sides = (f"{split}/vi", f"{split}/ir") if split else ("vi", "ir")
        write_pair(root, f"{split or 'n'}{i}", *sides, seed=i)


def splits(report):
    return {pair.pair_id: pair.split for pair in report.pairs}


def test_a_pair_carries_what_later_stages_need(tmp_path):
    folders(tmp_path, 1, "train")
    pair = index(tmp_path).pairs[0]
    assert (pair.pair_id, pair.height, pair.width) == ("train0", 40, 56)
    assert (pair.visible_dtype, pair.infrared_dtype) == ("uint8", "uint8")
    assert pair.visible_uri == f"file://{tmp_path}/train/vi/train0.jpg"
    assert pair.guide_uris == (pair.visible_uri, pair.infrared_uri)
    assert decode_visible(read_bytes(pair.visible_uri), "x").shape == (40, 56, 3)
    assert len(pair.visible_sha256) == 64
    assert pair.visible_sha256 != pair.infrared_sha256
    assert pairs_from_table(pairs_to_table([pair])) == [pair]


def test_sixteen_bit_infrared_keeps_its_dtype(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "ir/a.png").write_bytes(png16(picture(channels=1).astype(np.uint16) * 200))
    assert index(tmp_path).pairs[0].infrared_dtype == "uint16"


def test_rotated_visible_matches_upright_infrared(tmp_path):
    write_pair(tmp_path, "a")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(picture()).copy()
    (tmp_path / "vi/a.jpg").write_bytes(file_of(turned, "JPEG", exif=exif))
    pair = index(tmp_path).pairs[0]
    assert (pair.height, pair.width) == (40, 56)


def test_folders_decide_the_splits(tmp_path):
    for split in ("train", "val", "test"):
        folders(tmp_path, 2, split)
    found = splits(index(tmp_path))
    assert {pair_id: pair_id[:-1] for pair_id in found} == found


def test_missing_val_split_is_drawn_from_train_and_stays(tmp_path):
    folders(tmp_path, 24, "train")
    folders(tmp_path, 2, "test")
    before = splits(index(tmp_path, val_fraction=0.25))
    counts = [list(before.values()).count(s) for s in ("train", "val", "test")]
    assert counts[2] == 2
    assert 2 <= counts[1] <= 12
    folders(tmp_path, 30, "train")
    after = splits(index(tmp_path, val_fraction=0.25))
    assert before.items() <= after.items()


def test_without_split_folders_all_three_are_drawn(tmp_path):
    folders(tmp_path, 40)
    found = splits(index(tmp_path, test_fraction=0.25, val_fraction=0.25))
    assert set(found.values()) == {"train", "val", "test"}
    assert 3 <= list(found.values()).count("test") <= 18


def test_a_small_set_has_at_least_one_of_each_split(tmp_path):
    folders(tmp_path, 3)
    found = splits(index(tmp_path, test_fraction=0.01, val_fraction=0.01))
    assert sorted(found.values()) == ["test", "train", "val"]


def test_fractions_of_zero_draw_nothing(tmp_path):
    folders(tmp_path, 5)
    assert set(splits(index(tmp_path, test_fraction=0.0, val_fraction=0.0)).values()) == {"train"}


def test_limit_counts_each_split(tmp_path):
    folders(tmp_path, 3, "train")
    folders(tmp_path, 3, "val")
    folders(tmp_path, 3, "test")
    found = splits(index(tmp_path, limit=2))
    assert sorted(found) == ["test0", "test1", "train0", "train1", "val0", "val1"]


def test_same_name_in_two_splits_gets_two_ids(tmp_path):
    for split in ("train", "test"):
        write_pair(tmp_path, "7", f"{split}/vi", f"{split}/ir")
    assert sorted(splits(index(tmp_path))) == ["test-vi-7", "train-vi-7"]


def test_digest_follows_contents_and_not_places(tmp_path):
    for name in ("one", "two"):
        folders(tmp_path / name, 3, "train")
    first, second = index(tmp_path / "one"), index(tmp_path / "two")
    assert first.digest == second.digest
    write_pair(tmp_path / "two", "train1", "train/vi", "train/ir", seed=99)
    assert index(tmp_path / "two").digest != first.digest
    assert index(tmp_path / "one", infrared_scaling="full").digest != first.digest


def test_listing_fingerprint_notices_changed_new_and_renamed_files(tmp_path):
    folders(tmp_path, 3)
    seen = [listing_fingerprint(config_of(tmp_path))]
    assert listing_fingerprint(config_of(tmp_path)) == seen[0]
    os.utime(tmp_path / "vi/n0.jpg", ns=(1, 1))
    seen.append(listing_fingerprint(config_of(tmp_path)))
    write_pair(tmp_path, "new")
    seen.append(listing_fingerprint(config_of(tmp_path)))
    (tmp_path / "vi/new.jpg").rename(tmp_path / "vi/newer.jpg")
    seen.append(listing_fingerprint(config_of(tmp_path)))
    assert len(set(seen)) == 4


def test_listing_fingerprint_reads_no_file(tmp_path):
    folders(tmp_path, 1)
    (tmp_path / "vi/n0.jpg").write_bytes(b"no image at all")
    assert len(listing_fingerprint(config_of(tmp_path))) == 12


def test_synthetic_fingerprint_follows_its_settings():
    plain, more = DataConfig(), DataConfig(synthetic=SyntheticConfig(train=49))
    assert listing_fingerprint(plain) == listing_fingerprint(DataConfig())
    assert listing_fingerprint(plain) != listing_fingerprint(more)


def test_unpaired_names_are_counted_and_ten_listed(tmp_path):
    folders(tmp_path, 2)
    for i in range(12):
        (tmp_path / f"vi/alone{i:02d}.png").write_bytes(b"")
    (tmp_path / "ir/ghost.png").write_bytes(b"")
    with pytest.raises(UserError, match="13 images without a partner of the same name") as caught:
        index(tmp_path)
    message = str(caught.value)
    assert "vi/alone09.png, ...; add the missing ones or remove these" in message
    assert "alone10" not in message
    assert "\n" not in message


def test_a_split_without_infrared_is_unpaired_not_forgotten(tmp_path):
    folders(tmp_path, 2, "train")
    (tmp_path / "test/vi").mkdir(parents=True)
    (tmp_path / "test/vi/z.png").write_bytes(file_of(picture()))
    with pytest.raises(UserError, match=r"1 images without a partner.*test/vi/z\.png"):
        index(tmp_path)


def spoil(root, how):
    data = (root / "vi/n1.jpg").read_bytes()
    if how == "truncated":
        (root / "vi/n1.jpg").write_bytes(data[: len(data) // 2])
    elif how == "text":
        (root / "ir/n1.png").write_bytes(b"this is a text")
    elif how == "empty":
        (root / "ir/n1.png").write_bytes(b"")
    else:
        (root / "ir/n1.png").write_bytes(file_of(picture(30, 30, channels=1)))


SPOILT = [
    ("truncated", "vi/n1.jpg", "damaged or truncated"),
    ("text", "ir/n1.png", "not an image"),
    ("empty", "ir/n1.png", "0 bytes"),
    ("size", "ir/n1.png", "30x30 pixels, its visible partner has 56x40; register and resize them"),
]


@pytest.mark.parametrize(("how", "file", "reason"), SPOILT)
def test_a_bad_pair_among_good_ones_is_reported_and_left_out(tmp_path, how, file, reason):
    folders(tmp_path, 3)
    spoil(tmp_path, how)
    report = index(tmp_path)
    assert sorted(splits(report)) == ["n0", "n2"]
    (rejected,) = report.rejected
    assert rejected.pair_id == "n1"
    assert rejected.file == f"file://{tmp_path}/{file}"
    assert reason in rejected.reason


@pytest.mark.parametrize(("how", "file", "reason"), SPOILT)
def test_a_bad_pair_is_an_error_if_strict(tmp_path, how, file, reason):
    folders(tmp_path, 3)
    spoil(tmp_path, how)
    with pytest.raises(UserError) as caught:
        index(tmp_path, strict=True)
    message = str(caught.value)
    assert message.startswith(f"file://{tmp_path}/{file}: ")
    assert reason in message
    assert "1 of 3 pairs cannot be used" in message
    assert "\n" not in message


def test_only_bad_pairs_are_an_error(tmp_path):
    folders(tmp_path, 1)
    (tmp_path / "vi/n0.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match="1 of 1 pairs cannot be used"):
        index(tmp_path)


def test_nothing_is_written_for_two_folders(tmp_path):
    folders(tmp_path, 2)
    before = sorted(tmp_path.rglob("*"))
    index(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("name=../evil", "name"),
        ("limit=0", "limit"),
        ("val_fraction=1.0", "val_fraction"),
        ("infrared_scaling=log", "infrared_scaling"),
        ("strct=true", "did you mean 'strict'"),
        ("synthetic.width=8", r"synthetic\.width"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        apply_overrides(DataConfig(), [setting])


def test_synthetic_source_is_indexed_with_its_guides(tmp_path):
    small = SyntheticConfig(train=4, val=1, test=1, height=32, width=40, degraded_fraction=1.0)
    store, calls = Store(tmp_path), []
    report = build_index(
        DataConfig(synthetic=small), store, "data", lambda *count: calls.append(count)
    )
    assert calls[-1] == (6, 6)
    assert [p.split for p in report.pairs] == ["train"] * 4 + ["val", "test"]
    assert all(p.guide_uris != (p.visible_uri, p.infrared_uri) for p in report.pairs)
    assert build_index(DataConfig(synthetic=small), store, "data") == report


def copy_to_store(root, uri):
    store = Store(uri)
    for path in root.rglob("*.*"):
        store.write_bytes(str(path.relative_to(root)), path.read_bytes())


@pytest.mark.s3
def test_the_same_pairs_on_s3_give_the_same_index(tmp_path, s3_store):
    folders(tmp_path / "here", 3, "train")
    folders(tmp_path / "here", 2, "test")
    copy_to_store(tmp_path / "here", s3_store)
    local = index(tmp_path / "here")
    config = DataConfig(source=s3_store, name="here")
    report = build_index(config, Store(s3_store), "unused")
    assert report.digest == local.digest
    assert splits(report) == splits(local)
    assert report.pairs[0].visible_uri.startswith(f"{s3_store}/test/vi/")
    before = listing_fingerprint(config)
    assert listing_fingerprint(config) == before
    Store(s3_store).write_bytes("train/vi/train0.jpg", file_of(picture(seed=50), "JPEG"))
    assert listing_fingerprint(config) != before


@pytest.mark.s3
def test_empty_s3_prefix_and_missing_bucket_are_named(s3_store):
    for uri in (f"{s3_store}/nothing", "s3://no-such-bucket-here/x"):
        with pytest.raises(UserError) as caught:
            listing_fingerprint(DataConfig(source=uri, name="x"))
        assert uri in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "counts"),
    [
        ("roadscene", (116, 15, 30)),
        ("msrs", (0, 0, 10)),
        ("harvard/ct-mri", (12, None, 3)),
        ("harvard/pet-mri", (24, None, 6)),
        ("harvard/spect-mri", (42, None, 10)),
    ],
)
def test_real_pairs_are_indexed_whole(real_data, tmp_path, folder, counts):
    if not (real_data / folder).is_dir():
        pytest.skip(f"no real pairs in {real_data / folder}")
    report = build_index(
        DataConfig(source=str(real_data / folder), name="real"), Store(tmp_path), "x"
    )
    found = list(splits(report).values())
    train, val, test = (found.count(name) for name in ("train", "val", "test"))
    assert report.rejected == ()
    assert test == counts[2]
    if counts[1] is None:
        assert train + val == counts[0]
        assert val >= 1
    else:
        assert (train, val) == counts[:2]
