"""jobs/ship.py: a bundle becomes a network of the package, complete at once, with its scores."""

import json

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import jobs.ship as job
from dtpf.core.bundle import load_bundle, save_bundle
from dtpf.core.models import build
from dtpf.core.storage.store import Store
from tests.evaluation.test_session import write_pairs


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    save_bundle(Store(tmp_path), "run/bundle", build("student_1m"), provenance={"steps": 7})
    return str(tmp_path / "run/bundle")


@pytest.fixture
def ship(tmp_path):
    app = job.typer.Typer()
    app.command()(job.ship)
    data = write_pairs(tmp_path / "roads")

    def run(*options):
        into = ["--data", str(data), "--into", str(tmp_path / "weights")]
        return CliRunner().invoke(app, [*options, *into])

    return run


def test_weights_are_float16_and_the_card_tells_scores_and_notes(ship, bundle, tmp_path):
    result = ship(bundle, "roads", "--note", "limits=none=known")
    assert result.exit_code == 0, result.output
    shipped = load_bundle(tmp_path / "weights/roads")
    with safe_open(tmp_path / "weights/roads/model.safetensors", "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118
    assert set(shipped.metrics) == set(job.METRICS)
    assert shipped.provenance["steps"] == 7
    assert shipped.provenance["limits"] == "none=known"
    assert shipped.provenance["scores"].startswith("mean over the 2 test pairs")
    assert json.dumps(shipped.metrics["VIF"]) in (tmp_path / "weights/roads/card.md").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--note", "limits"), "--note 'limits': expected KEY=TEXT"), ((), "no bundle there")],
)
def test_what_cannot_be_shipped_is_said_and_leaves_nothing(ship, bundle, tmp_path, options, words):
    result = ship(bundle if options else str(tmp_path / "nothing"), "roads", *options)
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "weights").exists()
