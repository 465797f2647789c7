"""Training runs as users see them: losses fall, interrupted runs end like unbroken ones."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.errors import UserError
from dtpf.core.losses import LossConfig, TermWeights
from dtpf.core.models import ModelConfig
from dtpf.core.records import pairs_from_table
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.training.config import TrainSpec
from dtpf.training.feed import TrainingFeed
from dtpf.training.group import Group
from dtpf.training.loop import StepReport
from dtpf.training.run import run_training

ALONE = Group(0, 1, torch.device("cpu"))


def changed(spec: TrainSpec, *, root: str | None = None, task: dict | None = None, **train):
    update = {"train": spec.train.model_copy(update=train), **(task or {})}
    return spec.model_copy(update=update | ({"root": root} if root else {}))


def weights_of(spec: TrainSpec) -> dict[str, torch.Tensor]:
    return load_bundle(Store(spec.store).uri_of(f"{spec.root}/bundle")).model.state_dict()


def student_of(spec: TrainSpec, teacher: TrainSpec) -> TrainSpec:
    model = spec.model.model_copy(update={"text": False})
    more = {"task": "student", "model": model, "teacher_bundle": f"{teacher.root}/bundle"}
    return changed(spec, root=f"{spec.root}-student", task=more)


class Killed(Exception):
    pass


def test_losses_fall_and_everything_is_left_in_the_store(spec):
    long = changed(spec, steps=30, checkpoint_every=10, validate_every=30, learning_rate=3e-3)
    result = run_training(long, ALONE)
    losses = [row["loss"] for row in result.losses]
    assert len(losses) == 30
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert set(result.scores) == {"VIF", "Qabf", "SSIM"}
    store = Store(spec.store)
    kept = store.keys(f"{spec.root}/checkpoints")
    assert [key[-20:] for key in kept] == ["00000020.safetensors", "00000030.safetensors"]
    assert any("tfevents" in key for key in store.keys(f"{spec.root}/tensorboard"))
    json.dumps(asdict(result))


def test_the_same_seed_gives_the_same_bits(spec):
    runs = [changed(spec, root=f"{spec.root}-{name}") for name in ("a", "b")]
    first, second = (run_training(run, ALONE) for run in runs)
    assert first.losses == second.losses
    assert first.sha256 == second.sha256
    other = run_training(changed(spec, root=f"{spec.root}-c", seed=1), ALONE)
    assert other.sha256 != first.sha256


@pytest.mark.parametrize(
    ("task", "killed_at"), [pytest.param("teacher", 1, marks=pytest.mark.long), ("student", 3)]
)
def test_a_killed_run_goes_on_to_the_same_bits(spec, task, killed_at):
    unbroken = changed(spec, root=f"{spec.root}-unbroken", checkpoint_every=2)
    broken = changed(spec, root=f"{spec.root}-broken", checkpoint_every=2)
    if task == "student":
        teacher = changed(spec, root=f"{spec.root}-teacher", steps=1)
        run_training(teacher, ALONE)
        unbroken, broken = (student_of(run, teacher) for run in (unbroken, broken))
    expected = run_training(unbroken, ALONE)

    def kill(report: StepReport) -> None:
        if report.step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        run_training(broken, ALONE, on_step=kill)
    assert run_training(broken, ALONE) == expected
    assert all(torch.equal(a, weights_of(unbroken)[name]) for name, a in weights_of(broken).items())


def test_a_finished_run_trains_no_further(spec):
    first = run_training(spec, ALONE)
    steps: list[int] = []
    again = run_training(spec, ALONE, on_step=lambda report: steps.append(report.step))
    assert steps == []
    assert again == first


def feed_of(spec: TrainSpec, loss: LossConfig | None = None) -> TrainingFeed:
    store = Store(spec.store)
    pairs = pairs_from_table(store.read_table(spec.pairs))
    texts = read_texts(store, spec.captions, spec.embeddings)
    return TrainingFeed(pairs, PairDataset(pairs), texts, loss or spec.loss)


def test_two_workers_see_the_crops_of_one(spec):
    feed = feed_of(spec)
    whole = feed.batch(3, spec.train)
    shares = [feed.batch(3, spec.train, rank, 3) for rank in range(3)]
    assert sorted(i for share in shares for i in share.pair_ids) == sorted(whole.pair_ids)
    for rank, share in enumerate(shares):
        assert torch.equal(share.visible_B3HW, whole.visible_B3HW[rank::3])
        assert torch.equal(share.weights["gradient"], whole.weights["gradient"][rank::3])


def test_dimmed_crops_have_the_weights_of_dull_ones(spec):
    config = spec.train.model_copy(update={"dimmed": 0.5, "batch": 16})
    factors = LossConfig(dull=TermWeights(gradient=3.0))
    plain, batch = (feed_of(spec, loss).batch(0, config) for loss in (None, factors))
    assert 0 < batch.dull_B.sum() < 16
    ratio = batch.weights["gradient"] / plain.weights["gradient"]
    assert torch.equal(ratio, torch.where(batch.dull_B, 3.0, 1.0))
    assert torch.equal(batch.weights["ssim"], plain.weights["ssim"])


def test_an_exploding_loss_names_step_pairs_and_checkpoint(spec):
    wild = changed(spec, learning_rate=1e30, warmup=0, steps=8)
    with pytest.raises(UserError, match=r"loss is .* at step \d+, pairs .*checkpoint at step"):
        run_training(wild, ALONE)


def test_errors_before_the_first_step(spec):
    with pytest.raises(UserError, match="teacher_bundle"):
        run_training(spec.model_copy(update={"task": "student"}), ALONE)
    with pytest.raises(UserError, match=r"train.batch=1 is smaller than the 2 workers"):
        run_training(changed(spec, batch=1), Group(0, 2, torch.device("cpu")))
    with pytest.raises(UserError, match="no Parquet files"):
        run_training(spec.model_copy(update={"captions": "captions/none"}), ALONE)


@pytest.mark.parametrize("field", ["captioner", "text_encoder"])
def test_captions_of_another_kind_than_the_teachers_are_refused(spec, field):
    run_training(changed(spec, steps=1), ALONE)
    student = student_of(spec, spec)
    other = student.model_copy(update={"provenance": {**spec.provenance, field: "another"}})
    seen = []
    with pytest.raises(UserError, match=rf"trained with {field} .*these captions are of 'another'"):
        run_training(other, ALONE, on_step=seen.append)
    assert not seen


def test_the_best_network_is_kept_and_shipped_on_demand(spec):
    runs = {
        ship: changed(spec, root=f"{spec.root}-{ship}", ship=ship, validate_every=1)
        for ship in ("last", "best")
    }
    found: dict[str, dict[int, float]] = {ship: {} for ship in runs}
    for ship, run in runs.items():
        result = run_training(
            run,
            ALONE,
            on_validation=lambda step, scores, to=ship: found[to].update(
                {step: float(np.mean(list(scores.values())))}
            ),
        )
        kept = {key.split("/")[-2] for key in Store(run.store).keys(f"{run.root}/best")}
        best = max(found[ship], key=found[ship].__getitem__)
        assert kept == {f"step-{best:08d}"}
        if ship == "best":
            assert np.mean(list(result.scores.values())) == max(found[ship].values())
    assert found["last"] == found["best"]


def test_a_run_leaves_a_receipt(spec):
    result = run_training(spec, ALONE)
    receipt = Store(spec.store).read_json(f"{spec.root}/run.json")
    assert receipt["spec"] == spec.as_dict()
    assert receipt["sha256"] == result.sha256
    assert receipt["validation"] == result.scores
    assert receipt["hardware"]["workers"] == 1
    assert receipt["environment"]["commit"]
    assert receipt["steps_here"] == spec.train.steps
    assert 0 <= receipt["data_wait_share"] < 1
    assert len(receipt["data"]) == 12


def test_the_teacher_is_neither_trained_nor_saved(spec):
    from dtpf.training.run import build_task

    run_training(spec, ALONE)
    student = student_of(spec, spec)
    before = weights_of(spec)
    task = build_task(student, Store(spec.store))
    names = set(task.state_dict())
    assert not any("teacher" in name for name in names)
    run_training(student, ALONE)
    after = task.teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not task.teacher.training
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())


def test_text_reaches_the_teacher(spec):
    """Modulation starts as identity, so it must be training that gives text its effect."""
    run_training(changed(spec, steps=6, learning_rate=3e-3, warmup=0), ALONE)
    model = load_bundle(Store(spec.store).uri_of(f"{spec.root}/bundle")).model
    visible, infrared = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        dark, noisy = (model(visible, infrared, torch.randn(1, 512)) for _ in range(2))
    assert not torch.equal(dark, noisy)


def test_crops_too_small_for_the_loss_are_refused_before_the_first_step(spec):
    document = spec.as_dict() | {"loss": {"preset": "transfer"}}
    document["train"]["crop"] = 40
    with pytest.raises(UserError, match=r"train.crop is 40; VIF.*needs 41 pixels"):
        TrainSpec.parse(document, "test")


def test_degraded_crops_are_refused_where_captions_would_not_name_them(spec):
    document = spec.as_dict()
    document["train"]["degraded"] = 0.5
    with pytest.raises(UserError, match=r"train.degraded is 0.5, but .* model.text=false"):
        TrainSpec.parse(document, "test")


def test_a_network_without_text_trains_on_degraded_crops(spec):
    plain = ModelConfig(width=4, block="convolution", fusion="concat", text=False, start="bands")
    losses = {
        degraded: run_training(
            changed(
                spec, root=f"plain-{degraded}", task={"model": plain}, steps=3, degraded=degraded
            ),
            ALONE,
        ).losses
        for degraded in (0.0, 1.0)
    }
    assert losses[0.0][0]["ssim_visible"] < losses[1.0][0]["ssim_visible"]


def test_the_transfer_loss_raises_what_it_measures(spec):
    task = {"loss": LossConfig(preset="transfer")}
    more = {"steps": 20, "crop": 48, "validate_every": 20, "learning_rate": 3e-3}
    losses = run_training(changed(spec, task=task, **more), ALONE).losses
    early, late = (
        {name: np.mean([row[name] for row in part]) for name in part[0]}
        for part in (losses[:7], losses[-7:])
    )
    assert late["loss"] < early["loss"]
    assert "consistency" not in late
