"""Graphics cards: nvidia-smi is a script here, that answers as the real one does."""

import stat
import sys
from pathlib import Path

import pytest
import torch

from dtpf.doctor.gpus import Card, check_gpus, check_peer_setting, driver_cards

RTX = "NVIDIA GeForce RTX 4090"


@pytest.fixture
def smi(tmp_path):
    """Makes a command that prints lines, and ends with a code."""

    def make(*lines: str, code: int = 0) -> list[str]:
        script: Path = tmp_path / "nvidia-smi"
        printed = "\n".join(f"print({line!r})" for line in lines)
        script.write_text(f"#!{sys.executable}\n{printed}\nraise SystemExit({code})\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return [str(script)]

    return make


def two(driver: str = "570.86.15", free: int = 24000) -> list[str]:
    return [f"{index}, {RTX}, {driver}, 24564, {free}" for index in (0, 1)]


def by_name(found) -> dict:
    return {item.name: item for item in found}


def test_cards_are_read_as_the_driver_prints_them(smi):
    cards = driver_cards(smi(*two()))
    assert cards == [Card(index, RTX, "570.86.15", 24564.0, 24000.0) for index in (0, 1)]
    shared = driver_cards(smi("0, NVIDIA GB10, 580.1, [N/A], [N/A]"))
    assert shared == [Card(0, "NVIDIA GB10", "580.1", 0.0, 0.0)]


def test_good_cards_pass(smi, monkeypatch):
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    found = by_name(check_gpus(smi(*two()), seen_by_torch=2))
    assert {item.status for item in found.values()} == {"pass"}
    assert set(found) == {"gpu.seen", "gpu.driver", "gpu.memory", "nccl.peers"}


def test_a_machine_without_a_driver_passes():
    (found,) = check_gpus(["no-such-nvidia-smi"], seen_by_torch=0)
    assert found.status == "pass"
    assert "CPU" in found.found


def test_a_driver_that_fails_is_a_failure(smi):
    message = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    (found,) = check_gpus(smi(message, code=9), seen_by_torch=0)
    assert found.status == "fail"
    assert "communicate" in found.found


def test_cards_that_torch_does_not_see_are_a_failure(smi, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    seen = by_name(check_gpus(smi(*two()), seen_by_torch=0))["gpu.seen"]
    assert seen.status == "fail"
    assert "CUDA build" in seen.remedy
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert by_name(check_gpus(smi(*two()), seen_by_torch=1))["gpu.seen"].status == "fail"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    hidden = by_name(check_gpus(smi(*two()), seen_by_torch=1))["gpu.seen"]
    assert hidden.status == "warn"
    assert "CUDA_VISIBLE_DEVICES" in hidden.remedy


def test_an_old_driver_is_warned_of(smi):
    found = by_name(check_gpus(smi(*two(driver="535.104.05")), seen_by_torch=2))
    assert found["gpu.driver"].status == "warn"
    assert "550" in found["gpu.driver"].remedy


def test_memory_that_others_hold_is_warned_of(smi):
    found = by_name(check_gpus(smi(*two(free=9000)), seen_by_torch=2))["gpu.memory"]
    assert found.status == "warn"
    assert "card 0: 8.8 of 24.0 GiB" in found.found


@pytest.mark.parametrize(
    ("name", "cards", "setting", "status"),
    [
        (RTX, 2, None, "warn"),
        (RTX, 2, "0", "warn"),
        (RTX, 2, "1", "pass"),
        (RTX, 1, None, "pass"),
        ("NVIDIA H200", 2, None, "pass"),
    ],
)
def test_nccl_must_not_try_what_the_cards_cannot(name, cards, setting, status):
    found = check_peer_setting([Card(i, name, "570", 1.0, 1.0) for i in range(cards)], setting)
    assert found.status == status
