"""Evaluating methods over pairs: values, references, order, and what users get wrong."""

import numpy as np
import pytest
import torch

from dtpf.core.errors import UserError
from dtpf.core.metrics import score
from dtpf.data.images import encode_png
from dtpf.evaluation.baselines import BASELINES, maximum
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import BaselineMethod, FolderMethod, NetworkMethod
from dtpf.evaluation.score import SCORE_SCHEMA, ScoreTable, evaluate
from tests.evaluation.support import PAIRS, load, make_pair

METHODS = [BaselineMethod(name) for name in BASELINES]
TEST = [pair for pair in PAIRS if pair.split == "test"]


class Blend(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(2.0))
        self.seen_text = []

    def forward(self, visible, infrared, text):
        self.seen_text.append(text)
        return self.share * visible - infrared


def test_long_table_holds_every_score_of_every_method():
    seen = []
    table = evaluate(METHODS, PAIRS, load, EvalConfig(), lambda *step: seen.append(step))
    assert table.scores.schema == SCORE_SCHEMA
    assert table.scores.num_rows == 5 * 3 * 6
    assert table.pair_ids == tuple(f"p{i:02d}" for i in range(5))
    assert table.methods == ("mean", "maximum", "laplacian_pyramid")
    assert table.metrics == EvalConfig().metrics
    assert seen == [(i, 5) for i in range(1, 6)]
    loaded = load(PAIRS[3])
    expected = score(maximum(loaded.visible, loaded.infrared), loaded.visible, loaded.infrared)
    for metric, value in expected.items():
        assert table.values("maximum", metric)[3] == pytest.approx(value.item())
        assert table.means()["maximum"][metric] == pytest.approx(
            np.mean(table.values("maximum", metric))
        )


def test_values_do_not_depend_on_the_order_of_rows():
    table = evaluate(METHODS, PAIRS, load, EvalConfig(metrics=("EN", "SD")))
    rows = table.scores.to_pylist()
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = ScoreTable.from_rows([rows[i] for i in order], "standard")
    assert shuffled.mean("mean", "SD") == pytest.approx(table.mean("mean", "SD"))
    by_pair = dict(zip(shuffled.pair_ids, shuffled.values("mean", "EN"), strict=True))
    assert [by_pair[p] for p in table.pair_ids] == list(table.values("mean", "EN"))


def test_guides_are_the_reference_unless_told_otherwise():
    def with_guides(pair):
        return load(pair, guides=True)

    config = EvalConfig(metrics=("Qabf",))
    guided = evaluate(METHODS, TEST, with_guides, config)
    plain = evaluate(METHODS, TEST, with_guides, EvalConfig(metrics=("Qabf",), reference="input"))
    unguided = evaluate(METHODS, TEST, load, config)
    assert plain.means() == unguided.means()
    assert guided.means() != plain.means()


def test_convention_and_split_of_the_config_are_used():
    standard = evaluate(METHODS, PAIRS, load, EvalConfig(metrics=("AG",)))
    compat = evaluate(METHODS, PAIRS, load, EvalConfig(metrics=("AG",), convention="compat"))
    assert compat.convention == "compat"
    assert compat.means() != standard.means()
    train = evaluate(METHODS, PAIRS, load, EvalConfig(metrics=("AG",), split="train"))
    assert train.pair_ids == ("p09",)


def test_network_output_is_clamped_and_text_goes_only_where_it_is_read():
    network = Blend().train()
    fused = NetworkMethod("net", network).fuse(load(PAIRS[0]))
    assert fused.min() >= 0.0
    assert fused.max() <= 1.0
    assert not fused.requires_grad
    assert not network.training
    NetworkMethod("net", network, uses_text=True).fuse(load(PAIRS[0]))
    assert network.seen_text[0] is None
    assert network.seen_text[1].shape == (1, 512)


def test_network_that_reads_text_needs_a_caption():
    loaded = load(PAIRS[0])
    bare = type(loaded)(loaded.pair, loaded.visible, loaded.infrared)
    with pytest.raises(UserError, match="teacher: no text for p00; caption"):
        NetworkMethod("teacher", Blend(), uses_text=True).fuse(bare)


def save(folder, stem, size=(48, 64)):
    image = np.random.default_rng(len(stem)).random((*size, 3)).astype(np.float32)
    (folder / f"{stem}.png").write_bytes(encode_png(image))


def test_folder_of_fused_images_is_matched_by_name(tmp_path):
    pairs = [make_pair(index, prefix="road/") for index in range(2)]
    for pair in pairs:
        save(tmp_path, pair.pair_id.removeprefix("road/"))
    method = FolderMethod.open("theirs", tmp_path, pairs)
    table = evaluate([method], pairs, load, EvalConfig(metrics=("EN",)))
    assert table.methods == ("theirs",)
    assert table.mean("theirs", "EN") > 7


def test_missing_and_extra_files_are_all_named(tmp_path):
    for stem in ("p00", "p02", "other"):
        save(tmp_path, stem)
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match=r"missing 3 \(p01, p03, p04\); extra 1 \(other\)"):
        FolderMethod.open("theirs", tmp_path, TEST)
    (tmp_path / "p00.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"several files for 1 \(p00\)"):
        FolderMethod.open("theirs", tmp_path, TEST)
    with pytest.raises(UserError, match="no folder"):
        FolderMethod.open("theirs", tmp_path / "absent", TEST)


def test_fused_file_of_another_size_or_damaged_is_named(tmp_path):
    save(tmp_path, "p00", size=(24, 32))
    method = FolderMethod.open("theirs", tmp_path, TEST[:1])
    with pytest.raises(UserError, match=r"p00.png: size \(24, 32\), the pair has \(48, 64\)"):
        method.fuse(load(TEST[0]))
    (tmp_path / "p00.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"p00\.png"):
        method.fuse(load(TEST[0]))


def test_what_cannot_be_scored_is_a_user_error_with_pair_and_method():
    config = EvalConfig(metrics=("MS-SSIM",))
    with pytest.raises(UserError, match="p00, method mean: MS-SSIM needs 176 pixels"):
        evaluate(METHODS, PAIRS, load, config)
    with pytest.raises(UserError, match="no pair in split 'val'; it has: test, train"):
        evaluate(METHODS, PAIRS, load, EvalConfig(split="val"))
    with pytest.raises(UserError, match="distinct names"):
        evaluate([METHODS[0], METHODS[0]], PAIRS, load, EvalConfig())
    with pytest.raises(UserError, match="unknown baseline 'median'; known: mean"):
        BaselineMethod("median")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"metrics": ["EN", "PSNR"]}, "unknown PSNR; known: EN"),
        ({"metrics": ["EN", "EN"]}, "named twice"),
        ({"metrics": []}, "metrics"),
        ({"convention": "mine"}, "unknown convention; known: standard"),
        ({"panels": -1}, "panels"),
        ({"panel": 3}, "panel"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(UserError, match=message):
        EvalConfig.parse(setting, "evaluate")


def test_worst_pairs_follow_the_direction_of_each_metric():
    rows = [
        {"pair_id": pair, "method": "m", "metric": metric, "value": value}
        for pair, values in {"a": (5.0, 0.1), "b": (1.0, 0.9), "c": (4.0, 0.2)}.items()
        for metric, value in zip(("EN", "Nabf"), values, strict=True)
    ]
    table = ScoreTable.from_rows(rows, "standard")
    assert table.worst_pairs("m", 2) == ("b", "c")
    assert table.worst_pairs("m", 99) == ("b", "c", "a")
