"""Somebody's folder of fused images: matched by name, nothing skipped in silence."""

from dataclasses import replace

import numpy as np
import pytest

from dtpf.core.errors import UserError
from dtpf.data.images import encode_png
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.folders import FolderMethod
from dtpf.evaluation.score import evaluate
from tests.evaluation.support import PAIRS, load, make_pair

TEST = [pair for pair in PAIRS if pair.split == "test"]


def save(folder, stem, size=(48, 64)):
    image = np.random.default_rng(len(stem)).random((*size, 3)).astype(np.float32)
    (folder / f"{stem}.png").write_bytes(encode_png(image))


def test_folder_of_fused_images_is_matched_by_name(tmp_path):
    pairs = [make_pair(index, prefix="road/") for index in range(2)]
    for pair in pairs:
        save(tmp_path, pair.pair_id.removeprefix("road/"))
    method = FolderMethod.open("theirs", str(tmp_path), pairs)
    table = evaluate([method], pairs, load, EvalConfig(metrics=("EN",)))
    assert table.methods == ("theirs",)
    assert table.mean("theirs", "EN") > 7


def test_missing_and_extra_files_are_all_named(tmp_path):
    for stem in ("p00", "p02", "other"):
        save(tmp_path, stem)
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match=r"missing 3 \(p01, p03, p04\); extra 1 \(other\)"):
        FolderMethod.open("theirs", str(tmp_path), TEST)
    (tmp_path / "p00.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"several files for 1 \(p00\)"):
        FolderMethod.open("theirs", str(tmp_path), TEST)
    with pytest.raises(UserError, match="no folder"):
        FolderMethod.open("theirs", str(tmp_path / "absent"), TEST)


def test_fused_file_of_another_size_or_damaged_is_named(tmp_path):
    save(tmp_path, "p00", size=(24, 32))
    method = FolderMethod.open("theirs", str(tmp_path), TEST[:1])
    with pytest.raises(UserError, match=r"p00.png: size \(24, 32\), the pair has \(48, 64\)"):
        method.fuse(load(TEST[0]))
    (tmp_path / "p00.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"p00\.png"):
        method.fuse(load(TEST[0]))


def test_images_of_other_splits_are_set_aside_by_name(tmp_path):
    for pair in PAIRS:
        save(tmp_path, pair.pair_id)
    others = [pair for pair in PAIRS if pair.split != "test"]
    method = FolderMethod.open("theirs", str(tmp_path), TEST, others)
    assert method.set_aside == ("p09",)
    assert len(method.files) == 5
    with pytest.raises(UserError, match=r"extra 1 \(p09\)"):
        FolderMethod.open("theirs", str(tmp_path), TEST)


def test_names_may_differ_in_case_and_be_those_of_the_visible_file(tmp_path):
    save(tmp_path, "FLIR_07")
    pair = replace(make_pair(1), pair_id="test-vi-FLIR_07", visible_uri="file:///x/vi/flir_07.jpg")
    method = FolderMethod.open("theirs", str(tmp_path), [pair])
    assert method.files["test-vi-FLIR_07"].endswith("FLIR_07.png")
