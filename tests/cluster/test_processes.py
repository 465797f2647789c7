"""Processes that outlive their command: remembered, recognised and ended by pid."""

import os
import sys

import psutil
import pytest

from cluster import processes

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def running(tmp_path):
    """A process that ignores SIGTERM, with the file that remembers it."""
    state = tmp_path / "state.json"
    command = [sys.executable, "-c", STUBBORN]
    process = processes.launch(command, tmp_path / "log", os.environ, tmp_path)
    processes.remember(state, process.pid, {"what": "test"})
    yield state, process
    if process.poll() is None:
        process.kill()
    process.wait()


def test_is_recalled_with_its_facts_and_ended(running):
    state, process = running
    assert processes.recall(state)["what"] == "test"
    assert processes.end(state, stop_seconds=1.0)
    assert not psutil.pid_exists(process.pid)
    assert not state.exists()


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(running, tmp_path):
    state, process = running
    processes.remember(state, os.getpid(), {})
    text = state.read_text()
    state.write_text(text.replace('"created": ', '"created": 1'))
    assert processes.recall(state) is None
    assert not processes.end(state)
    assert process.poll() is None


def test_a_process_that_ends_by_itself_meanwhile_is_no_error(running, monkeypatch):
    state, process = running
    head = psutil.Process(process.pid)

    def too_late(family, timeout):
        process.kill()
        process.wait()
        return [], [head]

    monkeypatch.setattr(processes.psutil, "wait_procs", too_late)
    assert processes.end(state)
