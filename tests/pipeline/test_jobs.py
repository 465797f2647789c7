"""Jobs as programs: wrong input ends in one line and exit code 2, a dry run touches nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dtpf.core.storage.store import Store
from dtpf.data.images import encode_png
from dtpf.pipeline.plan import STAGES
from jobs.common import run_job
from tests.small import as_options

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def job(monkeypatch, capsys):
    """Run a job in this process; returns exit code, standard output and standard error."""

    def call(*options: str, stages=("data",)):
        monkeypatch.setattr(sys, "argv", ["job", "--local", *options])
        with pytest.raises(SystemExit) as caught:
            run_job(stages)
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six pairs of gray images in two folders."""
    root = tmp_path / "pairs"
    for index in range(6):
        image = np.random.default_rng(index).random((32, 40), np.float32)
        for side in ("vi", "ir"):
            (root / side).mkdir(parents=True, exist_ok=True)
            (root / side / f"{index}.png").write_bytes(encode_png(image))
    return root


def in_use(port: int) -> list[str]:
    return ["--set", f"serve.port={port}"]


def spoil_unpaired(folder: Path) -> None:
    (folder / "ir" / "3.png").rename(folder / "ir" / "three.png")


def spoil_empty(folder: Path) -> None:
    for file in folder.rglob("*.png"):
        file.unlink()


def spoil_unknown_layout(folder: Path) -> None:
    (folder / "vi").rename(folder / "left")


SPOILED = {
    "unpaired": (spoil_unpaired, ["ir/three.png", "vi/3.png", "without a partner"]),
    "empty": (spoil_empty, ["no images", "pairs"]),
    "layout": (spoil_unknown_layout, ["left", "data.visible_folder"]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_source_that_cannot_be_used(job, folder, tmp_path, name):
    spoil, words = SPOILED[name]
    spoil(folder)
    store = tmp_path / "store"
    code, _, err = job("--data", str(folder), "--store", str(store))
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert not store.exists() or not any(path.is_file() for path in store.rglob("*"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def replace_by_text(path: Path) -> None:
    path.write_text("this is no picture")


def resize(path: Path) -> None:
    path.write_bytes(encode_png(np.zeros((16, 16), np.float32)))


@pytest.mark.parametrize("spoil", [truncate, replace_by_text, resize])
def test_one_bad_pair_is_left_out_and_named_or_an_error_if_strict(job, folder, tmp_path, spoil):
    spoil(folder / "ir" / "2.png")
    store = ["--store", str(tmp_path / "store")]
    code, _, err = job("--data", str(folder), *store, "--strict")
    assert code == 2
    assert "ir/2.png" in err
    assert err.count("\n") == 1
    code, out, err = job("--data", str(folder), *store)
    assert (code, err) == (0, "")
    assert "left out 2" in out
    assert "ir/2.png" in out
    assert "1 left out" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "teacher.train.stepz=3"], ["teacher.train.stepz", "did you mean 'steps'"]),
        (["--set", "teacher.train.steps=many"], ["teacher.train.steps", "many"]),
        (["--set", "teacher.model.width=7"], ["teacher.model", "even"]),
        (["--set", "tune.space=nowhere"], ["nowhere", "known spaces"]),
        (["--recipe", "giant"], ["giant", "tiny_cpu"]),
        (["--force", "training"], ["training", "known"]),
        (["--store", "ftp://host/x"], ["ftp"]),
        (["--store", "/proc/store"], ["/proc/store"]),
        (["--data", "/no/such/folder"], ["/no/such/folder"]),
    ],
)
def test_wrong_options_are_named(job, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = job(*options)
    assert code == 2
    assert err.count("\n") == 1
    assert all(word in err for word in words)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "AWS_ENDPOINT_URL"),
        (None, None, "bucket does not exist"),
    ],
)
def test_a_store_that_refuses(job, s3_store, monkeypatch, variable, value, words):
    if variable:
        monkeypatch.setenv(variable, value)
    else:
        s3_store = "s3://there-is-no-such-bucket"
    code, _, err = job("--store", s3_store)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_a_dry_run_shows_all_and_touches_nothing(job, tmp_path):
    store = tmp_path / "store"
    code, out, _ = job("--dry-run", "--store", str(store), *as_options(), stages=STAGES)
    assert code == 0
    assert not store.exists()
    assert '"learning_rate"' in out
    assert "teacher: " in out
    assert "student: " in out
    assert "would write datasets/synthetic/" in out


def test_stages_run_one_by_one_as_jobs_of_their_own(job, tmp_path):
    options = ["--store", str(tmp_path / "store"), *as_options()]
    for stage in ("data", "caption"):
        code, out, _ = job(*options, stages=[stage])
        assert code == 0
        assert f"{stage}: " in out
    _, out, _ = job("--dry-run", *options, stages=STAGES)
    assert out.count("would skip") == 2
    assert out.count("would write") == 1


@pytest.mark.long
@pytest.mark.kill
def test_a_driver_killed_in_each_stage_ends_like_an_unbroken_one(tmp_path):
    """SIGKILL, a real process, no Ray: the result is the same to the last bit."""
    program = [sys.executable, str(ROOT / "jobs" / "pipeline.py"), "--local", *as_options()]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    quiet = {**os.environ, "PYTHONUNBUFFERED": "1"}
    subprocess.run([*program, "--store", str(whole)], check=True, env=quiet, capture_output=True)
    for stage in STAGES[:-1]:
        _kill_in(stage, [*program, "--store", str(broken)], quiet)
    subprocess.run([*program, "--store", str(broken)], check=True, env=quiet, capture_output=True)
    first, second = (
        Store(root).read_json("models/student/current.json") for root in (whole, broken)
    )
    assert first["sha256"] == second["sha256"]
    # A killed write may leave a hidden file; none of what readers see is cut short.
    whole_data, broken_data = (
        {key: Store(root).read_bytes(key) for key in Store(root).keys("datasets")}
        for root in (whole, broken)
    )
    assert broken_data.keys() == whole_data.keys()
    images = [key for key in whole_data if key.endswith(".png")]
    assert images
    assert all(broken_data[key] == whole_data[key] for key in images)


def _kill_in(stage: str, program: list[str], environment: dict[str, str]) -> None:
    """Start the pipeline and end it by SIGKILL shortly after it announces a stage."""
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if f"] {stage}:" in line:
                time.sleep(0.3)
                process.kill()
                break
    assert process.returncode in (-9, 0)
