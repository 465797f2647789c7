"""Evaluating methods over pairs: values, references, order, and what users get wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dtpf.core.errors import UserError
from dtpf.core.metrics import score
from dtpf.core.records import Pair
from dtpf.evaluation.baselines import BASELINES, maximum
from dtpf.evaluation.batches import Batch, group_pairs
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import BaselineMethod, NetworkMethod
from dtpf.evaluation.score import evaluate
from dtpf.evaluation.score_table import SCORE_SCHEMA, ScoreTable
from tests.evaluation.support import PAIRS, load

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
    assert seen == [(4, 5), (5, 5)]
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
    assert compat.convention.name == "compat"
    assert compat.means() != standard.means()
    train = evaluate(METHODS, PAIRS, load, EvalConfig(metrics=("AG",), split="train"))
    assert train.pair_ids == ("p09",)


@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_batches_do_not_change_a_score(size):
    other = Pair("q07", "test", "v", "i", 45, 50, "uint8", "uint8", "", "")
    mixed = [*TEST[:2], other, *TEST[2:]]

    def read(pair):
        batch = load(pair)
        if pair is other:
            return replace(
                batch, visible=batch.visible[..., :45, :50], infrared=batch.infrared[..., :45, :50]
            )
        return batch

    methods = [*METHODS, NetworkMethod("net", Blend())]
    config = EvalConfig(resources={"batch": size})
    alone = evaluate(methods, mixed, read, EvalConfig(resources={"batch": 1}))
    table = evaluate(methods, mixed, read, config)
    assert table.pair_ids == tuple(pair.pair_id for pair in mixed)
    for method in table.methods:
        for metric in table.metrics:
            np.testing.assert_allclose(
                table.values(method, metric), alone.values(method, metric), rtol=1e-9
            )


def test_batches_hold_what_their_parts_hold():
    parts = [load(pair, guides=True) for pair in TEST[:3]]
    batch = Batch.join(parts)
    assert [pair.pair_id for pair in batch.pairs] == ["p00", "p01", "p02"]
    assert batch.visible.shape == (3, 3, 48, 64)
    assert batch.text.shape == (3, 512)
    torch.testing.assert_close(batch.references("guide")[0][1:2], parts[1].guides[0])
    torch.testing.assert_close(batch.references("input")[1][2:], parts[2].infrared)
    assert [[p.pair_id for p in g] for g in group_pairs(TEST, 2)] == [
        ["p00", "p01"],
        ["p02", "p03"],
        ["p04"],
    ]


def test_convention_fields_can_be_chosen_singly():
    config = EvalConfig(metrics=("SF",), gray="mean", rounding="floor")
    table = evaluate(METHODS, PAIRS, load, config)
    assert table.convention.name == "standard with gray mean, rounding floor"
    assert "gray mean, cut to 8 bit, float64" in table.convention.statement
    assert table.means() != evaluate(METHODS, PAIRS, load, EvalConfig(metrics=("SF",))).means()


def test_short_names_of_baselines():
    batch = load(PAIRS[0])
    assert torch.equal(BaselineMethod("max").fuse(batch), BaselineMethod("maximum").fuse(batch))


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
    bare = load(PAIRS[0], text=False)
    with pytest.raises(UserError, match="teacher: no text for p00; caption"):
        NetworkMethod("teacher", Blend(), uses_text=True).fuse(bare)


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
        ({"gray": "green"}, "gray"),
        ({"limit": ["VIF*3"]}, "write it like VIF\\+3\\*Qabf"),
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
