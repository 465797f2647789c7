"""Search spaces: what is wrong is named with its line; sampling is seeded and covers choices."""

import itertools
from pathlib import Path

import pytest

from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.pipeline.specs import search_target
from dtpf.tuning.space import Domain, Space, override
from dtpf.tuning.space_file import find_space, load_space, search_settings
from tests.small import small_config

TARGET = search_target(apply_overrides(small_config(), ["student.train.crop=48"]))
SPACES = sorted((Path(__file__).resolve().parents[2] / "tune_spaces").glob("*.yaml"))
NEEDED = {"student_width", "distill_weights", "loss_weights", "joint", "smoke"}


def load(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path, TARGET)


def first(space: Space, count: int, seed: int = 0) -> list[dict]:
    return list(itertools.islice(space.draws(seed), count))


def test_the_projects_spaces_are_there():
    assert {path.stem for path in SPACES} >= NEEDED | {"table_v", "table_v_tiny", "table_vi"}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_of_the_project_fits_its_config(path):
    space = load_space(path, TARGET)
    for setting in first(space, 3):
        override(TARGET, setting)
    assert space.names


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model.widht: {choice: [8]}", "did you mean 'width'"),
        ("model.width: {choice: [wide]}", "valid integer"),
        ("model.width: {choice: [7]}", "width must be even"),
        ("model.width: {uniform: [8, 12]}", "valid integer"),
        ("model.text: {choice: [yes please]}", "valid boolean"),
        ("distill.feature: {loguniform: [1e-4, 1.0]}", "write it as 0.0001"),
        ("distill.feature: {choice: [1e-4]}", "write it as 0.0001"),
        ("distill.feature: {choice: [2020-01-01]}", "date"),
        ("distill.feature: {uniform: [2, 1]}", "low 2 is not below high 1"),
        ("distill.feature: {uniform: [0, .inf]}", "finite"),
        ("distill.feature: {loguniform: [0, 1]}", "above 0"),
        ("distill.feature: {uniform: [1]}", "two numbers"),
        ("distill.feature: {uniform: [true, 3]}", "two numbers"),
        ("distill.feature: {normal: [0, 1]}", "expected one of choice"),
        ("distill.feature: {choice: []}", "at least one"),
        ("distill.feature: {choice: 3}", "needs a list"),
        ("distill.feature: 3", "expected a mapping"),
        ("loss.scale.color: {choice: [1.0]}", "named twice"),
        ("train.steps: {randint: [1.5, 3]}", "integers"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, words):
    text = f"parameters:\n  loss.scale.color: {{uniform: [0.5, 1.5]}}\n  {line}\n"
    with pytest.raises(UserError, match=r"space\.yaml:3") as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("tune: {trails: 3}", "did you mean 'trials'"),
        ("tune: {search: genetic}", "'optuna', 'random' or 'grid'"),
        ("tune: {hours: 1e-1}", "write it as 0.1"),
        ("tune: {space: smoke}", "cannot name another"),
        ("table: {title: T, metrics: [ENN]}", "unknown metric ENN"),
        ("table: {title: T}", "metrics"),
        ("table: 3", "expected a mapping"),
    ],
)
def test_errors_in_other_sections_name_the_line_too(tmp_path, section, words):
    with pytest.raises(UserError, match=r"space\.yaml:3") as caught:
        load(tmp_path, f"parameters:\n  model.width: {{choice: [8]}}\n{section}\n")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("points: {model.width: 8}", "space.yaml:1.*list"),
        ("points:\n- {model.width: 8}\n- {model.widht: 8}", "space.yaml:3.*did you mean"),
        ("points:\n- {model.width: 8}\n- {distill.base: 1.0}", "space.yaml:3.*same"),
        ("points:\n- {model.width: 7}", "space.yaml:2.*even"),
        ("points: []", "empty"),
        ("points: []\nparameters: {}", "one of"),
    ],
)
def test_points_are_checked_like_parameters(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["", "other: 1", "parameters: {}", "parameters: [", "[1]"])
def test_what_is_no_space_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"space\.yaml"):
        load(tmp_path, text)


def test_draws_are_seeded_and_deal_every_choice(tmp_path):
    space = load(
        tmp_path,
        "parameters:\n"
        "  model.width: {choice: [4, 8, 12]}\n"
        "  distill.feature: {loguniform: [0.01, 1]}\n",
    )
    trials = first(space, 6, seed=3)
    assert trials == first(space, 6, seed=3) != first(space, 6, seed=4)
    assert trials[:2] == first(space, 2, seed=3)
    assert sorted(trial["model.width"] for trial in trials) == [4, 4, 8, 8, 12, 12]
    assert all(0.01 <= trial["distill.feature"] <= 1 for trial in trials)
    assert override(TARGET, trials[0]).model.width == trials[0]["model.width"]


def test_choices_of_equal_number_meet_in_every_combination():
    space = Space("s", {"a": Domain("choice", (0, 1)), "b": Domain("choice", (0, 1))})
    assert len({tuple(setting.values()) for setting in first(space, 20)}) == 4


def test_a_randint_reaches_both_ends():
    space = Space("s", {"a": Domain("randint", (1, 3))})
    assert {setting["a"] for setting in first(space, 50)} == {1, 2, 3}


def test_a_grid_has_every_combination_and_refuses_ranges():
    choices = {"a": Domain("choice", (1, 2)), "b": Domain("choice", ("x", "y", "z"))}
    grid = Space("s", choices).grid()
    assert len(grid) == 6
    assert {"a": 2, "b": "z"} in grid
    with pytest.raises(UserError, match="c of space s is a range"):
        Space("s", {**choices, "c": Domain("uniform", (0, 1))}).grid()


def test_the_tables_of_the_paper_ask_for_full_length_and_every_row():
    for name in ("table_v", "table_vi"):
        space = load_space(find_space(name), TARGET)
        assert space.table is not None
        assert len(space.grid()) == len(space.table.paper) == space.search["trials"] == 3
        assert search_settings(find_space(name)) == space.search
        assert (space.search["stopping"], space.search["steps"]) == ("none", None)


def test_an_unknown_space_lists_the_known_ones():
    with pytest.raises(UserError, match=r"known spaces: .*smoke"):
        find_space("nowhere")
