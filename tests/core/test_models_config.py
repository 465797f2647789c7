"""Presets: their counts are the paper's and stay so; configs that cannot work are refused."""

import pytest
import torch
from pydantic import ValidationError

from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.models import PRESETS, Cost, ModelConfig, build, count_parameters, measure_cost

# Pinned: a change here makes every stored bundle unreadable.
PARAMETERS = {
    "teacher_40m": 40_146_854,
    "student_4m": 4_090_704,
    "student_w8": 1_234_480,
    "student_w12": 2_502_896,
    "student_w16": 4_090_704,
    "student_w24": 8_775_728,
    "student_w32": 14_912_656,
    "student_w48": 32_633_744,
    "student_1m": 953_486,
    "student_50k": 52_398,
    "student_2m": 1_755_122,
    "teacher_tiny": 3_045_847,
    "student_tiny": 832_551,
}


@pytest.mark.parametrize("name", PRESETS)
def test_counts_are_pinned(name):
    with torch.device("meta"):
        assert count_parameters(build(name)) == PARAMETERS[name]


def test_counts_meet_the_paper():
    assert PARAMETERS["teacher_40m"] == pytest.approx(40.3e6, rel=0.005)
    assert 4.0e6 < PARAMETERS["student_4m"] <= 4.10e6


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (ModelConfig(), 40.29e6),
        (ModelConfig(width=32, refinement=2, ffn_expansion=2.0, text=False), 15.77e6),
        (ModelConfig(width=16, refinement=2, ffn_expansion=2.0, text=False), 4.37e6),
    ],
)
def test_the_authors_shapes_come_near_their_counts(config, published):
    with torch.device("meta"):
        assert count_parameters(build(config)) == pytest.approx(published, rel=0.04)


def test_text_is_all_that_a_student_lacks():
    teacher = build(ModelConfig(width=8, blocks=(1, 1, 1, 1)))
    student = build(ModelConfig(width=8, blocks=(1, 1, 1, 1), text=False))
    extra = set(teacher.state_dict()) - set(student.state_dict())
    assert extra
    assert all(name.startswith("modulation.") for name in extra)
    assert set(student.state_dict()) <= set(teacher.state_dict())


def test_cost_is_linear_in_pixels():
    config = PRESETS["student_tiny"]
    small, large = measure_cost(config, 64, 64), measure_cost(config, 64, 128)
    assert small == Cost(PARAMETERS["student_tiny"], small.flops, 64, 64, stride=64)
    fixed = 2 * small.flops - large.flops  # channel attention times output projection
    assert 0 <= fixed < 0.01 * small.flops


def test_cost_equals_a_count_by_hand():
    # By hand, a pixel of each level; a multiply-add is two operations.
    config = PRESETS["student_4m"]
    hidden = {16: 32, 32: 64, 64: 128, 128: 240}

    def channel(c, heads):
        return 2 * (4 * c * c + 27 * c) + 2 * c * c

    def spatial(c, heads):
        return 2 * 4 * c * 16 * heads + 2 * 2 * 144 * 16 * heads

    def feed_forward(c):
        return 2 * (3 * c * hidden[c] + 18 * hidden[c])

    def block(c, level):
        heads = config.channel_heads[level], config.spatial_heads[level]
        return channel(c, heads[0]) + spatial(c, heads[1]) + 2 * feed_forward(c)

    widths = config.widths
    total = 9 * 2 * 4 * 16 + 9 * 2 * 32 * 3 + 4 * block(32, 0)
    for level, c in enumerate(widths):
        total += 4 * block(c, level) / 4**level
    for level, c in enumerate(widths[:3]):
        total += 2 * 9 * 2 * c * c // 2 / 4**level
        total += (block(2 * c, level) + 2 * 2 * c * c) / 4**level
        total += 9 * 2 * (2 * c) * (4 * c) / 4 ** (level + 1)
    for level, c in ((1, 32), (2, 64)):
        total += (2 * block(c, level) + 2 * 2 * c * c) / 4**level
    total += 2 * block(128, 3) / 64
    total += 2 * (channel(128, 8) + spatial(128, 4) + 2 * feed_forward(128)) / 64
    total += 2 * 2 * 256 * 128 / 64
    measured = measure_cost(config, 128, 128).flops
    assert measured == pytest.approx(total * 128 * 128, rel=0.001)


def test_count_leaves_out_what_does_not_train():
    network = build("student_tiny")
    network.out.weight.requires_grad_(False)
    assert count_parameters(network) == PARAMETERS["student_tiny"] - network.out.weight.numel()


def test_derived_shapes():
    config = ModelConfig()
    assert config.widths == (48, 96, 192, 384)
    assert config.feature_widths == (96, 96, 192, 384)
    assert (config.stride, config.margin) == (64, 2)


def test_a_config_survives_json():
    for config in PRESETS.values():
        assert ModelConfig.parse(config.as_dict(), "test") == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("width=15", "width must be even"),
        ("width=12.5", "width"),
        ("channel_heads=[1,2,4,7]", "7 heads do not divide"),
        ("blocks=[2,2,2]", "blocks"),
        ("blocks=[2,-1,2,2]", "blocks must all be 0 or more"),
        ("overlap=1.5", "overlap"),
        ("fusion=sum", "fusion"),
        ("widht=16", "width"),
    ],
)
def test_impossible_configs_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        apply_overrides(PRESETS["student_4m"], [setting])


def test_configs_are_frozen():
    with pytest.raises(ValidationError):
        PRESETS["student_4m"].width = 8
