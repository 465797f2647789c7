"""Every recipe, and every row of the paper's ablations on top of it, is a network and a loss."""

import pytest
import torch

from dtpf.ablations import ABLATIONS
from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.losses import LossConfig, weights_for
from dtpf.core.models import FusionNet, build, count_parameters
from dtpf.recipes import RECIPES, recipe


def built(config) -> FusionNet:
    with torch.device("meta"):
        return build(config)


@pytest.mark.parametrize("row", ABLATIONS)
def test_every_row_builds(row):
    config = recipe(f"student_4m_8x4090@{row}")
    for model in (config.student.model, config.teacher.model):
        assert built(model).config == model
    # What a row leaves as it is: table VI's last, table III's and IV's own, table V's 16.
    same = {"table_iii/color_grad_ssim_int", "table_iv/scfm", "table_vi/base_feature_result"}
    if row in same | {"table_v/w16"}:
        return
    assert config != recipe("student_4m_8x4090")


@pytest.mark.parametrize("hardware", ["1gpu", "8x4090"])
def test_a_teacher_is_found_again_by_its_student(hardware):
    assert recipe(f"teacher_40m_{hardware}") == recipe(f"student_4m_{hardware}")


def test_cards_without_peer_to_peer_get_their_settings_and_may_be_fewer():
    config = recipe("teacher_40m_8x4090")
    assert config.scaling.environment == {"NCCL_P2P_DISABLE": "1"}
    assert config.scaling.min_workers == 4
    assert config.teacher.train.batch == 32


def test_a_restoration_goes_in_front_of_its_teacher():
    config = recipe("student_2m_cpu")
    shape = config.student.model.model_copy(update={"restoration": 0})
    assert shape == config.teacher.model
    assert config.teacher == recipe("student_1m_cpu").teacher  # found again in the same store
    assert config.run == recipe("student_1m_cpu").run


def test_the_smallest_student_has_a_tenth_of_its_teacher_at_most():
    config = recipe("student_50k_cpu")
    teacher, student = (count_parameters(built(m.model)) for m in (config.teacher, config.student))
    assert student <= teacher / 10
    assert config.teacher == recipe("student_1m_cpu").teacher  # found again in the same store
    assert config.run == recipe("student_1m_cpu").run


def test_the_shipped_network_learns_what_is_sharp_and_where_it_is_too_much():
    config = recipe("student_1m_cpu")
    assert config.loss.preset == "crisp"
    assert config.teacher.model.fine
    assert config.teacher.train.softened > 0
    assert config.teacher.train.grainy > 0
    assert config.loss.dull.edges > 1.0 > config.loss.dull.information


def test_slices_know_no_other_cameras():
    config = recipe("student_1m_medical")
    for train in (config.teacher.train, config.student.train):
        assert (train.dimmed, train.softened, train.grainy) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_every_row(name):
    for row in ABLATIONS:
        config = recipe(f"{name}@{row}")
        assert apply_overrides(config, ABLATIONS[row]) == config


@pytest.mark.parametrize(
    ("table", "rows"), [("table_iii", 6), ("table_iv", 5), ("table_v", 3), ("table_vi", 3)]
)
def test_all_rows_of_the_paper_are_there(table, rows):
    assert sum(name.startswith(f"{table}/") for name in ABLATIONS) == rows


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ("int", {"intensity", "consistency"}),
        ("int_color_grad", {"intensity", "consistency", "color", "gradient"}),
        ("color_grad_ssim", {"color", "gradient", "ssim", "ssim_infrared"}),
    ],
)
def test_terms_of_a_row_are_those_with_a_weight(row, kept):
    config = recipe(f"tiny_cpu@table_iii/{row}").loss
    assert isinstance(config, LossConfig)
    weights = weights_for([], config).as_dict()
    assert {name for name, weight in weights.items() if weight} == kept


def test_widths_of_table_v_have_its_counts():
    for width, millions in ((48, 39.1), (32, 15.8), (16, 4.1)):
        model = recipe(f"student_4m_8x4090@table_v/w{width}").student.model
        assert count_parameters(built(model)) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [("huge", "known: tiny_cpu"), ("tiny_cpu@table_ix/x", "known: text/off, table_iii/int")],
)
def test_unknown_names_are_told_with_the_known_ones(name, message):
    with pytest.raises(UserError, match=message):
        recipe(name)
