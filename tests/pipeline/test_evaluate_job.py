"""`jobs/evaluate.py --method`: `dtpf evaluate` as a job that leaves its files in the store."""

import json
import sys

import numpy as np
import pytest
import typer

from dtpf.data.images import encode_png
from jobs import evaluate


@pytest.fixture
def job(monkeypatch, capsys):
    """Run the job in this process; returns exit code, standard output and standard error."""

    def call(*options: object):
        monkeypatch.setattr(sys, "argv", ["evaluate", "--local", *map(str, options)])
        with pytest.raises(SystemExit) as caught:
            typer.run(evaluate.main)
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "roads"
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for side in ("vi", "ir"):
            (root / "test" / side).mkdir(parents=True, exist_ok=True)
            image = generator.random((44, 48)).astype(np.float32)
            (root / "test" / side / f"{name}.png").write_bytes(encode_png(image))
    return root


def test_methods_are_scored_without_a_pipeline(job, data, tmp_path):
    store = tmp_path / "store"
    options = ("--data", data, "--store", store, "--method", "mean", "--method", "max")
    code, out, _ = job(*options, "--set", "evaluation.panels=1")
    assert code == 0
    assert "mean over 3 pairs" in out
    folder = store / "evaluations" / "roads"
    assert f"file://{folder}/report.html" in out
    document = json.loads((folder / "scores.json").read_text())
    assert set(document["means"]) == {"mean", "max"}
    assert "<html" in (folder / "report.html").read_text()


def test_what_a_person_can_mend_ends_it_in_one_line(job, data):
    for options, said in (
        (["--method", "mean"], "--method needs --data"),
        (["--data", data, "--method", "median"], "unknown baseline 'median'"),
        (["--data", data, "--method", "max", "--set", "evaluation.split=val"], "split 'val'"),
    ):
        code, _, err = job(*options)
        assert code == 2, err
        assert said in err
        assert err.count("\n") == 1
