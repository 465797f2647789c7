"""What every source file keeps to: size, docstrings, and nothing that ties it to one machine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.relative_to(ROOT) for folder in ("dtpf", "jobs") for path in (ROOT / folder).rglob("*.py")
)
JOBS = [path for path in MODULES if path.parts[0] == "jobs" and path.name != "common.py"]
MODULE_LINES, JOB_LINES = 300, 80

# Absolute paths of a checkout or a home folder; and hosts of package mirrors.
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:work|root|home/\w+|Users/\w+)/")
MIRROR = re.compile(r"artifactory|\bnexus\d*\.|pypi\.(?!org\b)[\w.-]+|--(?:extra-)?index-url", re.I)


def lines_of(path: Path) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def test_there_are_sources():
    assert len(MODULES) > 50
    assert len(JOBS) >= 8


@pytest.mark.parametrize("path", JOBS, ids=str)
def test_a_job_is_thin(path):
    assert lines_of(path) < JOB_LINES


def test_modules_are_of_readable_size():
    sizes = {str(path): lines_of(path) for path in MODULES}
    assert {path: size for path, size in sizes.items() if size >= MODULE_LINES} == {}


def test_every_module_says_what_it_is():
    def silent(path: Path) -> bool:
        return ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) is None

    assert [str(path) for path in MODULES if silent(path)] == []


def tracked_lines() -> list[tuple[str, str]]:
    """All lines of all tracked text files but this one, which spells what it forbids."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name.decode() for name in done.stdout.split(b"\0") if name]
    found = []
    for path in paths:
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            name = str(path.relative_to(ROOT))
            found += [(name, line) for line in data.decode("utf-8", "replace").splitlines()]
    return found


@pytest.mark.parametrize("pattern", [MACHINE_PATH, MIRROR], ids=["paths", "mirrors"])
def test_nothing_ties_the_sources_to_one_machine(pattern):
    assert [(name, line.strip()) for name, line in tracked_lines() if pattern.search(line)] == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATH, "open('/root/data')"),
        (MACHINE_PATH, "cd /work/main"),
        (MACHINE_PATH, "file:///home/anna/pairs"),
        (MIRROR, "pip install --index-url https://example.org/simple"),
        (MIRROR, "https://pypi.example.org/simple"),
    ],
)
def test_the_patterns_find_what_they_forbid(pattern, line):
    assert pattern.search(line)


def test_benchmarks_start_as_their_documents_say():
    """`python benchmarks/NAME.py` finds its own folder and the installed package, nothing else."""
    folder = ROOT / "benchmarks"
    names = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
    program = f"import sys; sys.path[0] = {str(folder)!r}; import {names}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
