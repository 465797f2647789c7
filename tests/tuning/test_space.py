"""Search spaces: what is wrong is named with its line; sampling is seeded and covers choices."""

from pathlib import Path

import pytest

from dtpf.core.errors import UserError
from dtpf.pipeline.specs import search_target
from dtpf.tuning.space import Space, find_space, load_space, override
from tests.small import small_config

TARGET = search_target(small_config())
SPACES = sorted((Path(__file__).resolve().parents[2] / "tune_spaces").glob("*.yaml"))


def load(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path, TARGET)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_of_the_project_fits_its_config(path):
    assert load_space(path, TARGET).trials(3, seed=0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model.widht: {choice: [8]}", "did you mean 'width'"),
        ("model.width: {choice: [wide]}", "valid integer"),
        ("model.width: {choice: [7]}", "width must be even"),
        ("model.width: {uniform: [8, 12]}", "valid integer"),
        ("distill.feature: {loguniform: [1e-4, 1.0]}", "write it as 0.0001"),
        ("distill.feature: {uniform: [2, 1]}", "low 2 is not below high 1"),
        ("distill.feature: {loguniform: [0, 1]}", "above 0"),
        ("distill.feature: {uniform: [1]}", "two numbers"),
        ("distill.feature: {normal: [0, 1]}", "expected one of choice"),
        ("distill.feature: {choice: []}", "at least one"),
        ("distill.feature: {choice: 3}", "needs a list"),
        ("distill.feature: 3", "expected a mapping"),
        ("train.steps: {randint: [1.5, 3]}", "integers"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, words):
    text = f"parameters:\n  loss.scale.color: {{uniform: [0.5, 1.5]}}\n  {line}\n"
    with pytest.raises(UserError, match=r"space\.yaml:3") as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "other: 1", "parameters: {}", "parameters: [", "[1]"])
def test_what_is_no_space_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"space\.yaml"):
        load(tmp_path, text)


def test_trials_are_seeded_and_deal_every_choice(tmp_path):
    space = load(
        tmp_path,
        "parameters:\n"
        "  model.width: {choice: [4, 8, 12]}\n"
        "  distill.feature: {loguniform: [0.01, 1]}\n",
    )
    trials = space.trials(6, seed=3)
    assert trials == space.trials(6, seed=3) != space.trials(6, seed=4)
    assert sorted(trial["model.width"] for trial in trials) == [4, 4, 8, 8, 12, 12]
    assert all(0.01 <= trial["distill.feature"] <= 1 for trial in trials)
    assert override(TARGET, trials[0]).model.width == trials[0]["model.width"]


def test_an_unknown_space_lists_the_known_ones():
    with pytest.raises(UserError, match=r"known spaces: .*smoke"):
        find_space("nowhere")
