"""The job's own options: they reach the search, and the last word is that of the command line."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dtpf.core.storage.store import Store
from jobs.tune_student import tune
from tests.small import SETTINGS


@pytest.fixture
def job():
    app = typer.Typer()
    app.command()(tune)

    def call(*options: str):
        return CliRunner().invoke(app, ["--local", *options])

    return call


def planned(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.JSONDecoder().raw_decode(result.output)[0]["tune"]


def test_space_and_budgets_reach_the_search(job, tmp_path):
    budget = ("--trials", "7", "--hours", "0.5", "--gpu-hours", "2")
    found = planned(job("--space", "joint", *budget, "--dry-run", "--store", str(tmp_path / "s")))
    assert found["space"] == "joint"
    assert (found["trials"], found["hours"], found["gpu_hours"]) == (7, 0.5, 2.0)
    assert not (tmp_path / "s").exists()


def test_a_space_asks_and_the_command_line_has_the_last_word(job, tmp_path):
    options = ("--space", "table_vi", "--dry-run", "--store", str(tmp_path))
    asked = planned(job(*options))
    assert (asked["search"], asked["stopping"], asked["steps"]) == ("grid", "none", None)
    assert planned(job(*options, "--set", "tune.steps=3"))["steps"] == 3


def test_an_unknown_last_stage_is_refused(job):
    assert job("--until", "nowhere").exit_code == 2


def test_a_table_of_the_paper_by_one_command(job, tmp_path):
    """Table VI in miniature: three rows, each scored on the test split, nothing published."""
    small = [text for item in SETTINGS if not item.startswith("tune.") for text in ("--set", item)]
    store = ["--store", str(tmp_path)]
    result = job("--space", "table_vi", "--until", "tune", *store, *small, "--set", "tune.rounds=1")
    assert result.exit_code == 0, result.output
    (key,) = [key for key in Store(tmp_path).keys("runs/tiny") if key.endswith("table.md")]
    lines = Path(tmp_path, key).read_text().splitlines()
    assert lines[2] == "| Setting | Params (M) | EN | VIF | Qabf |"
    rows = [line for line in lines if line.startswith("| distill")]
    assert len(rows) == 3
    assert len({row.split("|")[3] for row in rows}) == 3  # the terms change what is learned
    assert "| paper, MSRS: base |  | 6.728 | 0.989 | 0.681 |" in lines
    assert not (tmp_path / "models").exists()
    assert "winner" in result.output
    # As long as the student already: the winner is not trained a second time.
    assert "training it in full" not in result.output
