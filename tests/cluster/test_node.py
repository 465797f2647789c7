"""How a host of a cluster starts Ray: what it refuses, and which command and settings it takes."""

import shutil
import socket
import subprocess
from pathlib import Path

import node
import psutil
import pytest
from processes import ClusterError

LOOPBACK, OUTSIDE = "127.0.0.1", "203.0.113.9"


@pytest.fixture
def token(tmp_path) -> Path:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("0123456789abcdef")
    return file


@pytest.fixture
def outside(monkeypatch) -> str:
    """An address of this host that others reach: machines that run tests may have none."""
    cards = {name: list(entries) for name, entries in psutil.net_if_addrs().items()}
    entry = cards["lo"][0]._replace(family=socket.AF_INET, address=OUTSIDE)
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {**cards, "eno77": [entry]})
    return OUTSIDE


def parsed(*arguments: str):
    return node.parser().parse_args(arguments)


def test_a_head_and_a_worker_use_the_same_known_ports(token):
    head = node.command(parsed("head", "--address", LOOPBACK))
    worker = node.command(parsed("worker", "--address", LOOPBACK, "--head", "10.0.0.1:6379"))
    for line in (head, worker):
        assert line[1:4] == ["-m", "ray.scripts.scripts", "start"]
        assert {f"--{name}={port}" for name, port in node.PORTS.items()} <= set(line)
        assert "--block" in line
    assert "--head" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert "--address=10.0.0.1:6379" in worker
    assert "--head" not in worker


def test_ports_lie_apart():
    workers = range(node.PORTS["min-worker-port"], node.PORTS["max-worker-port"] + 1)
    single = [port for name, port in node.PORTS.items() if "worker" not in name]
    fixed = [*single, node.GCS_PORT, node.DASHBOARD_PORT, node.CLIENT_PORT]
    assert len(set(fixed)) == len(fixed)
    assert not set(fixed) & set(workers)


def test_data_lie_where_told(tmp_path):
    line = node.command(parsed("head", "--address", LOOPBACK, "--data-dir", str(tmp_path)))
    assert f"--temp-dir={tmp_path}" in line
    assert f"--object-spilling-directory={tmp_path}/spill" in line


def test_an_address_of_another_host_is_refused():
    with pytest.raises(ClusterError, match=r"203\.0\.113\.9: not an address of this host"):
        node.command(parsed("head", "--address", OUTSIDE))


def test_nothing_that_others_reach_starts_without_a_token(outside):
    with pytest.raises(ClusterError, match="--token-file"):
        node.environment(parsed("head", "--address", outside))
    assert node.environment(parsed("head", "--address", LOOPBACK))["RAY_AUTH_MODE"] == "disabled"


def test_the_token_is_named_never_shown(token):
    options = parsed("head", "--address", OUTSIDE, "--token-file", str(token))
    settings = node.environment(options)
    assert settings["RAY_AUTH_MODE"] == "token"
    assert settings["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert token.read_text() not in settings.values()


@pytest.mark.parametrize("spoil", ["missing", "empty", "readable"])
def test_a_token_file_that_cannot_be_right_is_refused(token, spoil):
    if spoil == "missing":
        token.unlink()
    elif spoil == "empty":
        token.write_text("\n")
    else:
        token.chmod(0o644)
    with pytest.raises(ClusterError, match=str(token)):
        node.environment(parsed("head", "--address", OUTSIDE, "--token-file", str(token)))


def test_settings_of_the_host_win_over_ours(monkeypatch):
    assert node.environment(parsed("head", "--address", LOOPBACK))["NCCL_P2P_DISABLE"] == "1"
    monkeypatch.setenv("NCCL_P2P_DISABLE", "0")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store")
    settings = node.environment(parsed("head", "--address", LOOPBACK))
    assert settings["NCCL_P2P_DISABLE"] == "0"
    assert settings["AWS_ENDPOINT_URL"] == "http://store"


def test_the_interface_must_exist():
    settings = node.environment(parsed("head", "--address", LOOPBACK, "--interface", "lo"))
    assert settings["NCCL_SOCKET_IFNAME"] == settings["GLOO_SOCKET_IFNAME"] == "lo"
    with pytest.raises(ClusterError, match=r"no such interface.* lo"):
        node.command(parsed("head", "--interface", "eno77"))


def test_the_address_is_by_default_that_of_the_interface():
    assert f"--node-ip-address={LOOPBACK}" in node.command(parsed("head", "--interface", "lo"))
    with pytest.raises(ClusterError, match="--interface that has it"):
        node.command(parsed("head"))


def test_encryption_wants_all_its_files(tmp_path):
    options = parsed("head", "--address", LOOPBACK, "--tls-dir", str(tmp_path))
    with pytest.raises(ClusterError, match=r"node\.crt is missing"):
        node.environment(options)
    for name in node.TLS_FILES.values():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text("x")
    settings = node.environment(options)
    assert settings["RAY_USE_TLS"] == "1"
    assert settings["RAY_TLS_CA_CERT"] == str(tmp_path / "ca.crt")
    (tmp_path / "node.key").chmod(0o640)
    with pytest.raises(ClusterError, match="others may read it"):
        node.environment(options)


def test_quotas_become_resources():
    options = ["worker", "--address", LOOPBACK, "--head", "10.0.0.1:6379"]
    line = node.command(parsed(*options, "--quota", "lab_a=4", "--quota", "lab_b=2"))
    assert '--resources={"lab_a": 4, "lab_b": 2}' in line
    assert not [word for word in node.command(parsed(*options)) if "resources" in word]
    for text in ("lab_a", "lab_a=", "=4", "lab_a=-1", "lab_a=many"):
        with pytest.raises(ClusterError, match="TENANT=COUNT"):
            node.command(parsed(*options, "--quota", text))


def test_the_command_line_ends_with_the_remedy(capsys):
    with pytest.raises(SystemExit) as end:
        node.main(["head", "--address", OUTSIDE])
    assert end.value.code == 2
    assert "not an address of this host" in capsys.readouterr().err


UNITS = sorted((Path(node.__file__).parent / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_understood_and_start_what_exists(unit, tmp_path):
    text = unit.read_text().replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()
    role = command[2]
    values = {"${DTPF_ADDRESS}": LOOPBACK, "${DTPF_INTERFACE}": "lo", "${DTPF_HEAD}": "10.0.0.1:1"}
    options = node.parser().parse_args([values.get(word, word) for word in command[2:]])
    assert options.role == role
    assert unit.name == f"dtpf-{role}.service"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here to check the unit with")
    # What it starts must exist, so the copy names something that does.
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/dtpf/.venv/bin/python", shutil.which("env")))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert unit.name not in checked.stderr, checked.stderr
    assert checked.returncode == 0, checked.stderr
