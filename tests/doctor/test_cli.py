"""`dtpf doctor`: what it prints, and its exit code."""

import json

import pytest
from typer.testing import CliRunner

from dtpf.cli.app import app
from dtpf.doctor import machine
from dtpf.doctor.findings import failed, passed


@pytest.fixture
def sound(monkeypatch):
    """Of this machine's hardware and ports nothing is known: tests must not depend on them."""
    monkeypatch.setattr(machine, "check_hardware", lambda folder: [passed("disk", folder)])
    monkeypatch.setattr(machine, "check_ports", lambda: [passed("port", "free")])
    monkeypatch.setattr(machine, "ray_address", lambda port: None)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["doctor", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def checks_of(*arguments: object, code: int = 0) -> dict[str, dict]:
    report = json.loads(run(*arguments, "--json", code=code).stdout)
    assert set(report) == {"status", "counts", "checks"}
    return {check["name"]: check for check in report["checks"]}


def test_json_and_text_say_the_same(sound, tmp_path):
    options = ("--no-exchange", "--store", tmp_path, "--temp", "/data")
    checks = checks_of(*options)
    assert checks["disk"]["found"] == "/data"
    assert checks["store.create"]["status"] == "pass"
    text = run(*options).stdout
    assert all(name in text for name in checks)
    assert "0 fail" in text.splitlines()[-1]


def test_a_failure_ends_with_code_1(sound, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    checks = checks_of("--no-exchange", "--store", tmp_path / "file", code=1)
    assert checks["store.objects"]["status"] == "fail"
    monkeypatch.setattr(machine, "check_ports", lambda: [failed("port", "taken", "end it")])
    assert "-> end it" in run("--no-exchange", code=1).stdout


def test_without_a_store_none_is_looked_at(sound):
    assert not [name for name in checks_of("--no-exchange") if name.startswith("store")]


def test_an_open_cluster_is_a_failure_and_none_at_all_a_warning(sound, monkeypatch):
    assert checks_of("--no-exchange")["token.mode"]["status"] == "warn"
    monkeypatch.setattr(machine, "ray_address", lambda port: f"127.0.0.1:{port}")
    monkeypatch.setattr(machine, "check_dashboard", lambda address: passed("dash", address))
    monkeypatch.setattr(machine, "check_agent", lambda address: passed("agent", address))
    checks = checks_of("--no-exchange", code=1)
    assert checks["token.mode"]["status"] == "fail"
    assert checks["dash"]["found"].endswith(":8265")
    assert checks["agent"]["found"].endswith(":52365")


def test_the_exchange_is_part_of_it(sound, monkeypatch):
    monkeypatch.setattr(machine, "check_exchange", lambda seconds: [passed("copies", f"{seconds}")])
    assert checks_of("--seconds", 7)["copies"]["found"] == "7.0"


def test_a_store_of_an_unknown_kind_is_the_users_to_mend(sound):
    assert "unknown scheme" in run("--store", "gs://x", code=2).stderr


def test_the_real_machine_is_looked_at_to_the_end(monkeypatch):
    result = CliRunner().invoke(app, ["doctor", "--no-exchange", "--json"])
    assert result.exit_code in (0, 1)
    names = {check["name"] for check in json.loads(result.stdout)["checks"]}
    assert {"versions.torch", "gloo.interface", "disk.speed", "port 6379", "open files"} <= names
