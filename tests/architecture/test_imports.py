"""What importing the library may do: keep to its layers, do without Ray, and leave no trace."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Runs in a fresh interpreter and folder; prints what importing every module has left behind.
IMPORT_ALL = """
import importlib, json, logging, os, pathlib, pkgutil, sys, threading

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "vllm"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

def handlers():
    names = [None, *(n for n in logging.root.manager.loggerDict if n.startswith("dtpf"))]
    return sum(len(logging.getLogger(name).handlers) for name in names)

# What other libraries do is not ours to answer for.
import av, boto3, cv2, matplotlib, pyarrow.fs, sklearn, torch

sys.meta_path.insert(0, Blocked())
environment, before = dict(os.environ), handlers()
threads = set(threading.enumerate())
import dtpf
found = pkgutil.walk_packages(dtpf.__path__, "dtpf.")
names = [m.name for m in found if not m.name.endswith("on_ray")]
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps({
    "names": names,
    "failed": failed,
    "files": [str(path) for path in pathlib.Path().rglob("*")],
    "threads": [thread.name for thread in set(threading.enumerate()) - threads],
    "environment": sorted(dict(set(os.environ.items()) ^ set(environment.items()))),
    "handlers": handlers() - before,
}))
"""


def test_import_contracts_hold():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=tmp_path_factory.mktemp("fresh"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_modules_are_found(imported):
    files = [path for path in (ROOT / "dtpf").rglob("*.py") if path.stem not in ("on_ray",)]
    assert len(imported["names"]) == len(files) - 1  # dtpf itself is imported by name


def test_everything_but_the_doors_imports_without_ray(imported):
    assert imported["failed"] == {}


@pytest.mark.parametrize("trace", ["files", "threads", "environment"])
def test_imports_leave_no_trace(imported, trace):
    assert imported[trace] == []


def test_imports_add_no_logging_handlers(imported):
    assert imported["handlers"] == 0
