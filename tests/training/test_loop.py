"""The loop on a tiny network with batches made here: what no data, store or caption changes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from dtpf.core.errors import UserError
from dtpf.core.losses import (
    WEIGHT_OF,
    DistillLossConfig,
    LossConfig,
    TermWeights,
    weights_for,
)
from dtpf.core.models import FusionNet, ModelConfig
from dtpf.core.storage.store import Store
from dtpf.training.checkpoints import Checkpoints
from dtpf.training.config import TrainConfig
from dtpf.training.health import ailment, memory_errors
from dtpf.training.loop import FitResult, Hooks, StepReport, fit
from dtpf.training.state import new_state
from dtpf.training.tasks import DistillTask, FusionTask, TrainBatch
from tests.training.test_run import ALONE, Killed

MODEL = ModelConfig(width=4, blocks=(1, 1, 1, 1), refinement=0, text=False)
CONFIG = TrainConfig(steps=6, batch=4, crop=32, warmup=2, learning_rate=1e-3)


def batch_at(step: int, size: int = 4) -> TrainBatch:
    draw = torch.Generator().manual_seed(step)
    seen, heat = (torch.rand(size, channels, 32, 32, generator=draw) for channels in (3, 1))
    row = weights_for((), LossConfig()).as_dict()
    weights = {name: torch.full((size,), value) for name, value in row.items()}
    names = tuple(f"pair_{step}_{number}" for number in range(size))
    guides = seen.clone(), heat.clone()
    dull = torch.zeros(size, dtype=torch.bool)
    return TrainBatch(names, seen, heat, *guides, dull, torch.zeros(size, 8), weights)


def feed(first: int) -> Iterator[tuple[TrainBatch, float]]:
    for step in range(first, 1000):
        yield batch_at(step), 0.0


def poisoned(steps: set[int]):
    def made(first: int) -> Iterator[tuple[TrainBatch, float]]:
        for step, (batch, waited) in enumerate(feed(first), start=first):
            if step in steps:
                batch.visible_guide_B3HW.fill_(torch.nan)
            yield batch, waited

    return made


def train(folder, config: TrainConfig = CONFIG, source=feed, hooks: Hooks | None = None):
    torch.manual_seed(0)
    task = FusionTask(MODEL)
    checkpoints = Checkpoints(Store(folder), "checkpoints", config.keep)
    return fit(task, source, config, ALONE, checkpoints, hooks or Hooks())


def changed(**settings) -> TrainConfig:
    return CONFIG.model_copy(update=settings)


def curve(result: FitResult) -> list[float]:
    return [row["loss"] for row in result.history]


def test_a_student_weighs_dull_crops_by_their_factors():
    batch = replace(batch_at(0), dull_B=torch.tensor([True, False, False, True]))
    loss = LossConfig(preset="paper", dull=TermWeights(color=0.0, ssim=3.0))
    task = DistillTask(MODEL, FusionNet(MODEL), loss, DistillLossConfig())
    _, terms = task(batch, task.trainable)
    even = sum(terms[n] * task.base_weights[w] for n, w in WEIGHT_OF.items() if n in terms)
    changed = 2.0 * 40.0 * terms["ssim_visible"] - 12.0 * terms["color"]
    torch.testing.assert_close(terms["base"] - even, changed * batch.dull_B)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_parts_give_the_gradient_of_the_whole(tmp_path, accumulate):
    whole = train(tmp_path / "whole")
    parts = train(tmp_path / "parts", changed(accumulate=accumulate))
    assert curve(parts) == pytest.approx(curve(whole), rel=1e-5)


def test_more_parts_than_samples_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"train.batch=4 .*train.accumulate=5"):
        train(tmp_path, changed(accumulate=5))


def test_the_average_follows_its_definition(tmp_path):
    """Against a loop written here: decay min(ema, (1 + n) / (10 + n)) after the first step."""
    seen: list[dict[str, torch.Tensor]] = []
    torch.manual_seed(0)
    task = FusionTask(MODEL)

    def remember(report: StepReport) -> None:
        seen.append({name: value.clone() for name, value in task.network.state_dict().items()})

    checkpoints = Checkpoints(Store(tmp_path), "checkpoints", 1)
    result = fit(task, feed, changed(ema=0.15), ALONE, checkpoints, Hooks(on_step=remember))
    expected = seen[0]
    for count, weights in enumerate(seen[1:], start=1):
        decay = min(0.15, (1 + count) / (10 + count))
        expected = {
            name: decay * expected[name] + (1 - decay) * value for name, value in weights.items()
        }
    for name, value in result.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    assert not all(torch.equal(value, seen[-1][name]) for name, value in expected.items())


def test_validation_sees_the_average_and_training_does_not(tmp_path):
    shown = []
    hooks = Hooks(on_validate=lambda step, network: shown.append(network))
    averaged = train(tmp_path / "a", changed(ema=0.9, validate_every=6), hooks=hooks)
    plain = train(tmp_path / "b")
    assert curve(averaged) == curve(plain)
    assert shown == [averaged.network]
    assert not all(
        torch.equal(value, plain.network.state_dict()[name])
        for name, value in averaged.network.state_dict().items()
    )


@pytest.mark.parametrize("killed_at", [1, 4])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(tmp_path, killed_at):
    config = changed(ema=0.9, accumulate=2, checkpoint_every=2)
    expected = train(tmp_path / "unbroken", config)

    def kill(report: StepReport) -> None:
        if report.step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "broken", config, hooks=Hooks(on_step=kill))
    resumed = train(tmp_path / "broken", config)
    assert resumed.history == expected.history
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected.network.state_dict()[name])


def test_a_bad_loss_stops_with_step_pairs_and_checkpoint(tmp_path):
    config = changed(checkpoint_every=2)
    line = r"loss is nan at step 3, pairs pair_3_0.*pair_3_3; last good checkpoint at step 2"
    with pytest.raises(UserError, match=line):
        train(tmp_path, config, poisoned({3}))


def test_a_bad_loss_is_skipped_on_demand(tmp_path):
    """Weights stay as they were: the step before and the step after see the same network."""
    reports: list[StepReport] = []
    config = changed(on_bad_loss="skip", learning_rate=1e-3)
    result = train(tmp_path, config, poisoned({3}), Hooks(on_step=reports.append))
    assert [report.step for report in reports if report.skipped] == [4]
    assert [row["step"] for row in result.history] == [1.0, 2.0, 3.0, 5.0, 6.0]
    assert all(torch.isfinite(value).all() for value in result.network.state_dict().values())


def test_too_many_skipped_steps_end_the_run(tmp_path):
    config = changed(on_bad_loss="skip", max_skipped=2)
    with pytest.raises(UserError, match="3 steps in a row were skipped"):
        train(tmp_path, config, poisoned({2, 3, 4, 5}))


def test_an_explosion_is_measured_against_the_usual_loss():
    usual = [2.0 + 0.1 * (step % 5) for step in range(40)]
    assert ailment(150.0, 1.0, usual, CONFIG) is None
    assert "100 times the usual" in ailment(230.0, 1.0, usual, CONFIG)
    assert ailment(1e6, 1.0, usual[:5], CONFIG) is None  # too early to tell
    assert "norm" in ailment(2.0, float("inf"), usual, CONFIG)


def test_a_lack_of_memory_names_the_settings():
    """The real allocator of the CPU refuses the first; the second is what CUDA raises."""
    line = r"out of memory on cpu at step 7.*train.batch=4.*raise train.accumulate"
    with pytest.raises(UserError, match=line), memory_errors(7, CONFIG, ALONE.device):
        torch.empty(2**60)
    with pytest.raises(UserError, match=line), memory_errors(7, CONFIG, ALONE.device):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), memory_errors(7, CONFIG, ALONE.device):
        torch.zeros(2).view(3)


def test_state_survives_the_way_through_its_tensors():
    torch.manual_seed(0)
    first, second = (new_state(FusionTask(MODEL).trainable, changed(ema=0.5)) for _ in range(2))
    first.module(*(torch.rand(1, channels, 32, 32) for channels in (3, 1))).mean().backward()
    first.optimizer.step()
    first.average_in()
    second.load(first.tensors())
    copied = second.tensors()
    assert copied.keys() == first.tensors().keys()
    assert all(torch.equal(value, copied[name]) for name, value in first.tensors().items())
