"""What a person reads while a pipeline runs."""

import pytest

from dtpf.pipeline import console as module
from dtpf.pipeline.console import Console
from dtpf.training.loop import StepReport


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    return []


def report(step: int, loss: float, steps: int = 60) -> StepReport:
    return StepReport(step, steps, {"loss": loss}, 1.0, 1e-3, 0.1, 0.0)


def test_losses_are_means_of_the_first_and_the_last_steps(lines):
    show = Console(lines.append).losses()
    for step in range(1, 61):
        show(report(step, 10.0 if step <= 20 else 4.0 if step > 40 else 100.0))
    assert len(lines) == 60
    assert "loss 10.00 -> 4.00" in lines[-1]
    assert "60/60" in lines[-1]


def test_one_odd_batch_does_not_pass_for_the_start(lines):
    show = Console(lines.append).losses()
    for step, loss in enumerate([0.0, *[10.0] * 19, *[8.0] * 20], start=1):
        show(report(step, loss))
    assert "loss 9.50 -> 8.00" in lines[-1]


def test_a_resumed_run_counts_its_speed_from_where_it_went_on(lines):
    show = Console(lines.append).losses()
    show(report(41, 5.0))
    assert "41/60" in lines[0]
    assert "loss 5.00 -> 5.00" in lines[0]


def test_stages_and_counts_are_named(lines):
    console = Console(lines.append)
    console.stage(2, 7, "caption", "name what is wrong")
    console.counter("pair")(3, 6)
    assert lines[0].strip() == "[2/7] caption: name what is wrong"
    assert "50%" in lines[1]
    assert "3/6" in lines[1]
