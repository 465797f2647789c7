"""Stored teacher outputs: the values of a live teacher, whole shards alone, never another's."""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dtpf.core.bundle import save_bundle
from dtpf.core.errors import UserError
from dtpf.core.losses import feature_loss, result_loss
from dtpf.core.models import FusionNet
from dtpf.core.records import pairs_from_table
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.training.config import ScalingConfig, TrainSpec
from dtpf.training.feed import TrainingFeed, crop_positions
from dtpf.training.group import Group
from dtpf.training.run import build_task, run_training
from dtpf.training.tasks import TrainBatch, run_teacher
from dtpf.training.teacher_outputs.reader import OutputReader, open_outputs
from dtpf.training.teacher_outputs.shards import (
    SHARD_CROPS,
    OutputShards,
    bytes_per_crop,
    shards_of,
)
from dtpf.training.teacher_outputs.writer import ShardWriter, write_teacher_outputs

ALONE = Group(0, 1, torch.device("cpu"))
FIXED = 6  # no multiple of the batch, nor of a shard


class Killed(Exception):
    pass


def student_of(spec: TrainSpec, seed: int, **train) -> TrainSpec:
    """A student with stored outputs, and a teacher of its own whose text has an effect."""
    torch.manual_seed(seed)
    teacher = FusionNet(spec.model)
    with torch.no_grad():
        for weight in teacher.modulation.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    bundle = f"{spec.root}-{seed}/teacher"
    save_bundle(Store(spec.store), bundle, teacher, provenance={})
    more = {"fixed_crops": FIXED, "validate_every": 100, "checkpoint_every": 100, **train}
    return spec.model_copy(
        update={
            "task": "student",
            "model": spec.model.model_copy(update={"text": False, "width": 4}),
            "root": f"{spec.root}-{seed}/student",
            "teacher_bundle": bundle,
            "teacher_outputs": "stored",
            "train": spec.train.model_copy(update=more),
        }
    )


@pytest.fixture
def student(spec, request) -> TrainSpec:
    return student_of(spec, zlib.crc32(request.node.name.encode()))


def live(spec: TrainSpec) -> TrainSpec:
    return spec.model_copy(update={"teacher_outputs": "live", "root": f"{spec.root}-live"})


def with_train(spec: TrainSpec, **train) -> TrainSpec:
    return spec.model_copy(update={"train": spec.train.model_copy(update=train)})


def training_pairs(spec: TrainSpec):
    pairs = pairs_from_table(Store(spec.store).read_table(spec.pairs))
    return [pair for pair in pairs if pair.split == "train"]


def shards(spec: TrainSpec) -> OutputShards:
    return shards_of(spec, Store(spec.store), training_pairs(spec))


def feed(spec: TrainSpec) -> TrainingFeed:
    store, pairs = Store(spec.store), training_pairs(spec)
    texts = read_texts(store, spec.captions, spec.embeddings)
    outputs = open_outputs(spec, store, pairs)
    return TrainingFeed(pairs, PairDataset(pairs), texts, spec.loss, outputs)


def objects(spec: TrainSpec) -> dict[str, bytes]:
    store = Store(spec.store)
    return {key: store.read_bytes(key) for key in store.keys(shards(spec).prefix)}


# Values


def test_crops_start_again_after_fixed_crops(student):
    endless = student.train.model_copy(update={"fixed_crops": None})
    assert crop_positions(2, endless) == [8, 9, 10, 11]
    assert crop_positions(1, student.train) == [4, 5, 0, 1]
    repeating = feed(live(student))
    first, again = repeating.batch(0, student.train), repeating.batch(3, student.train)
    assert torch.equal(first.visible_B3HW, again.visible_B3HW)
    assert first.pair_ids == again.pair_ids
    assert not torch.equal(first.visible_B3HW, repeating.batch(3, endless).visible_B3HW)


@pytest.fixture(scope="module")
def written(captioned, tmp_path_factory):
    """A student whose outputs are in the store, and what its teacher says live, crop by crop."""
    from dtpf.pipeline.specs import teacher_spec

    receipts = captioned.need("data"), captioned.need("caption")
    spec = teacher_spec(captioned.config, captioned.store.uri, "runs/written", *receipts)
    student = student_of(spec, 1)
    report = write_teacher_outputs(student, ALONE)
    assert (report.crops, report.written) == (8, 8)
    task, source = build_task(live(student), captioned.store), feed(live(student))
    config = student.train.model_copy(update={"fixed_crops": None})
    batches = [run_teacher(task.teacher, source.batch(step, config)) for step in range(2)]
    expected = tuple(torch.cat(column) for column in zip(*batches, strict=True))
    return student, expected, report


@settings(max_examples=20, deadline=None)
@given(
    positions=st.lists(st.integers(0, 2 * SHARD_CROPS - 1), min_size=1, max_size=9),
    room=st.sampled_from([0, 2**30]),
)
def test_any_positions_give_the_live_teachers_values_in_float16(written, positions, room):
    student, expected, _ = written
    found = OutputReader(shards(student), room)(positions)
    for value, goal in zip(found, expected, strict=True):
        assert value.dtype == torch.float16
        assert torch.equal(value, goal[positions].half())


def test_rounding_is_that_of_float16(written):
    student, expected, _ = written
    for value, goal in zip(OutputReader(shards(student))(range(8)), expected, strict=True):
        torch.testing.assert_close(value.float(), goal, rtol=2**-11, atol=2**-24)


@pytest.mark.parametrize("side", [32, 64, 72])
def test_the_size_in_the_store_is_foretold(captioned, spec, side):
    network = FusionNet(spec.model)
    images = torch.rand(1, 3, side, side), torch.rand(1, 1, side, side)
    text = torch.rand(1, 512)
    with torch.no_grad():
        fused, features = network(*images, text, return_features=True)
    values = sum(value.numel() for value in (fused, *features))
    assert bytes_per_crop(spec.model, side) == 2 * values


def test_the_report_says_what_the_store_holds(written):
    student, _, report = written
    size = sum(map(len, objects(student).values()))
    assert report.bytes < size < 1.02 * report.bytes + 2000 * len(objects(student))
    assert Store(student.store).keys(report.prefix) == sorted(objects(student))


def test_each_worker_gets_the_outputs_of_its_crops(written):
    source, config = feed(written[0]), written[0].train
    whole = source.batch(1, config)
    for rank in range(2):
        share = source.batch(1, config, rank, 2)
        for own, all_of_them in zip(share.teacher_outputs, whole.teacher_outputs, strict=True):
            assert torch.equal(own, all_of_them[rank::2])


# The loss


def losses_of(spec: TrainSpec, batch: TrainBatch):
    task = build_task(spec, Store(spec.store))
    samples, terms = task(batch, task.trainable)
    samples.sum().backward()
    grads = {name: p.grad for name, p in task.trainable.named_parameters() if p.grad is not None}
    return task, terms, grads


def test_terms_are_equations_17_and_18_of_the_stored_values(written):
    student = written[0]
    batch = feed(student).batch(0, student.train)
    task, terms, _ = losses_of(student, batch)
    goal, *levels = (value.float() for value in batch.teacher_outputs)
    fused, own, projected = task.trainable(batch.visible_B3HW, batch.infrared_B1HW, tuple(levels))
    torch.testing.assert_close(terms["result"], result_loss(fused, goal))
    torch.testing.assert_close(terms["feature"], feature_loss(own, projected))


def test_gradients_are_those_with_a_live_teacher(written):
    student = written[0]
    _, terms, grads = losses_of(student, feed(student).batch(0, student.train))
    _, expected_terms, expected = losses_of(
        live(student), feed(live(student)).batch(0, student.train)
    )
    for name, value in expected_terms.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-3, atol=1e-4)
    assert set(grads) == set(expected)
    largest = max(float(grad.abs().max()) for grad in expected.values())
    for name, grad in expected.items():
        assert float((grads[name] - grad).abs().max()) < 0.01 * largest, name


def test_a_student_of_stored_outputs_holds_no_teacher(written):
    student = written[0]
    task, twin = (build_task(spec, Store(student.store)) for spec in (student, live(student)))
    weights, expected = task.trainable.state_dict(), twin.trainable.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    with pytest.raises(ValueError, match="no teacher_outputs"):
        task(feed(live(student)).batch(0, student.train), task.trainable)


def test_a_live_teacher_moves_with_its_task(written):
    """It is no submodule, yet has to be where the batches are."""
    task = build_task(live(written[0]), Store(written[0].store)).to(torch.float64)
    assert {weight.dtype for weight in task.teacher.parameters()} == {torch.float64}
    assert len(list(task.parameters())) == len(list(task.trainable.parameters()))


def test_the_loss_curve_is_that_of_a_live_teacher(written):
    """The same crops and weights: float16 moves the loss by less than 0.02% in four steps."""
    student = with_train(written[0], steps=4, warmup=0)
    stored, running = run_training(student, ALONE), run_training(live(student), ALONE)
    curves = [np.array([row["loss"] for row in run.losses]) for run in (stored, running)]
    assert len(curves[0]) == 4
    np.testing.assert_allclose(curves[0][:2], curves[1][:2], rtol=2e-5)
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-4)


# The shards


def test_killed_between_shards_it_goes_on_with_the_next(student, monkeypatch):
    student = with_train(student, fixed_crops=12)
    written: list[int] = []
    write = ShardWriter.write

    def counted(self, shard):
        written.append(shard)
        write(self, shard)

    def kill(done, total):
        raise Killed

    monkeypatch.setattr(ShardWriter, "write", counted)
    with pytest.raises(Killed):
        write_teacher_outputs(student, ALONE, kill)
    seen = []
    report = write_teacher_outputs(student, ALONE, lambda *counts: seen.append(counts))
    assert written == [0, 1, 2]
    assert seen == [(8, 12), (12, 12)]
    assert (report.crops, report.written) == (12, 8)
    whole = objects(student)
    Store(student.store).delete(shards(student).prefix)
    write_teacher_outputs(student, ALONE)
    assert objects(student) == whole


def test_killed_in_the_middle_of_a_shard_nothing_is_left_of_it(student, monkeypatch):
    def kill(*arguments, **more):
        raise Killed

    monkeypatch.setattr(os, "replace", kill)  # what makes a finished object visible
    with pytest.raises(Killed):
        write_teacher_outputs(student, ALONE)
    assert objects(student) == {}


def test_more_crops_go_on_with_those_that_are_there(student):
    write_teacher_outputs(student, ALONE)
    before = objects(student)
    more = with_train(student, fixed_crops=2 * FIXED)
    assert write_teacher_outputs(more, ALONE).written == SHARD_CROPS
    assert before.items() < objects(more).items()


def test_processes_share_the_shards(student):
    class Apart(Group):
        def sum(self, values: Tensor) -> Tensor:
            return values

    student = with_train(student, fixed_crops=12)
    for rank, count in ((1, 1), (0, 3)):
        write_teacher_outputs(student, Apart(rank, 2, torch.device("cpu")))
        assert len(objects(student)) == count


def damaged(data: bytes) -> dict[str, bytes]:
    header = 8 + int.from_bytes(data[:8], "little")
    flipped = bytearray(data)
    flipped[header + 1000] ^= 1
    return {
        "empty": b"",
        "header alone": data[:header],
        "cut": data[:-1],
        "flipped": bytes(flipped),
        "text": b"not a shard",
    }


@pytest.mark.parametrize("kind", list(damaged(b"\0" * 2000)))
def test_a_damaged_shard_is_named_with_the_remedy(written, captioned, kind, tmp_path):
    place = replace(shards(written[0]), store=Store(tmp_path))
    name = "part-00001.safetensors"
    data = captioned.store.read_bytes(f"{place.prefix}/{name}")
    place.store.write_bytes(f"{place.prefix}/{name}", damaged(data)[kind])
    with pytest.raises(UserError, match=rf"{name}: damaged .*delete it and run") as caught:
        place.read(1)
    assert "\n" not in str(caught.value)


def test_no_byte_of_the_header_can_change_unseen(written, captioned, tmp_path):
    place = replace(shards(written[0]), store=Store(tmp_path))
    key = f"{place.prefix}/part-00001.safetensors"
    data = captioned.store.read_bytes(key)
    for index in range(8 + int.from_bytes(data[:8], "little")):
        changed = bytearray(data)
        changed[index] ^= 1
        local_path(place.store.uri_of(key)).parent.mkdir(parents=True, exist_ok=True)
        local_path(place.store.uri_of(key)).write_bytes(changed)
        with pytest.raises(UserError, match="delete it and run the same command again"):
            place.read(1)


def test_a_deleted_shard_is_written_anew(student):
    write_teacher_outputs(student, ALONE)
    before = objects(student)
    Store(student.store).delete(sorted(before)[0])
    with pytest.raises(UserError, match=r"1 shards .*missing \(first: 0\); run jobs/distill_st"):
        feed(student)
    assert write_teacher_outputs(student, ALONE).written == SHARD_CROPS
    assert objects(student) == before


def test_another_teachers_shard_is_refused_wherever_it_lies(written, captioned, spec):
    other = shards(student_of(spec, 7))
    own = shards(written[0])
    assert own.prefix != other.prefix
    for shard, name in ((0, "00000"), (1, "00000")):  # another teacher; another shard of ours
        source = captioned.store.read_bytes(f"{own.prefix}/part-{name}.safetensors")
        place = other if shard == 0 else own
        moved = replace(place, store=Store(local_path(captioned.store.uri) / f"moved{shard}"))
        moved.store.write_bytes(f"{moved.prefix}/part-{shard:05d}.safetensors", source)
        with pytest.raises(UserError, match="another teacher or other crops; delete it"):
            moved.read(shard)


@pytest.mark.parametrize(
    "train",
    [
        {"seed": 1},
        {"crop": 48},
        {"precision": "bfloat16"},
        {"shrunk": 0.5},
        {"degraded": 0.5},
        {"dimmed": 0.5},
    ],
    ids=json.dumps,
)
def test_what_the_values_depend_on_changes_the_place(student, train):
    assert shards(with_train(student, **train)).prefix != shards(student).prefix


def test_of_degraded_crops_a_teacher_that_sees_guides_is_shown_the_clean_ones(student):
    seeing = student.model_copy(
        update={"distill": student.distill.model_copy(update={"teacher_sees": "guides"})}
    )
    assert shards(seeing).prefix != shards(student).prefix
    degraded = with_train(seeing, degraded=1.0, fixed_crops=SHARD_CROPS)
    write_teacher_outputs(degraded, ALONE)
    stored = OutputReader(shards(degraded))(range(SHARD_CROPS))
    task = build_task(live(degraded), Store(degraded.store))
    batch = feed(live(degraded)).batch(0, degraded.train)
    assert not torch.equal(batch.visible_B3HW, batch.visible_guide_B3HW)
    clean = replace(
        batch, visible_B3HW=batch.visible_guide_B3HW, infrared_B1HW=batch.infrared_guide_B1HW
    )
    for value, goal in zip(stored, run_teacher(task.teacher, clean), strict=True):
        assert torch.equal(value, goal.half())


def test_what_they_do_not_depend_on_does_not(student):
    other = {"steps": 9, "batch": 2, "fixed_crops": 40, "learning_rate": 1.0, "warmup": 3}
    assert shards(with_train(student, **other)).prefix == shards(student).prefix
    pairs = training_pairs(student)
    changed = [replace(pairs[0], visible_sha256="0"), *pairs[1:]]
    store = Store(student.store)
    assert shards_of(student, store, changed).prefix != shards(student).prefix
    assert shards_of(student, store, pairs[::-1]).prefix != shards(student).prefix


def test_bfloat16_is_computed_as_it_is_live(student):
    student = with_train(student, precision="bfloat16", fixed_crops=SHARD_CROPS)
    write_teacher_outputs(student, ALONE)
    task = build_task(live(student), Store(student.store))
    batch = feed(live(student)).batch(0, student.train)
    with torch.autocast("cpu", torch.bfloat16):
        expected = run_teacher(task.teacher, batch)
    for value, goal in zip(OutputReader(shards(student))(range(4)), expected, strict=True):
        assert torch.equal(value, goal.half())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_what_float16_cannot_hold_is_refused(written, tmp_path, value):
    place = replace(shards(written[0]), store=Store(tmp_path))
    outputs: Sequence[Tensor] = [torch.zeros(1, 3, 8, 8), *[torch.zeros(1, 4, 8, 8)] * 4]
    outputs[2][0, 0, 0, 0] = value
    with pytest.raises(UserError, match=r"float16 in shard 5; set student.teacher_outputs=live"):
        place.write(5, outputs)
    assert place.store.keys("") == []


def test_settings_that_cannot_be_are_refused(student):
    document = student.as_dict()
    document["train"]["fixed_crops"] = None
    with pytest.raises(UserError, match=r"test: .*teacher_outputs=stored needs train.fixed_crops"):
        TrainSpec.parse(document, "test")
    with pytest.raises(UserError, match=r"needs train\.fixed_crops"):
        write_teacher_outputs(with_train(student, fixed_crops=None), ALONE)
    with pytest.raises(UserError, match="teacher_bundle"):
        write_teacher_outputs(student.model_copy(update={"teacher_bundle": None}), ALONE)
    with pytest.raises(UserError, match="no bundle there"):
        write_teacher_outputs(student.model_copy(update={"teacher_bundle": "none"}), ALONE)


# On Ray


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_writes_the_same_shards(ray_cluster, student):
    from dtpf.training.teacher_outputs.on_ray import write_teacher_outputs_on_ray

    student = with_train(student, fixed_crops=12)
    expected_report = write_teacher_outputs(student, ALONE)
    expected = objects(student)
    Store(student.store).delete(shards(student).prefix)
    seen: list[tuple[int, int]] = []
    scaling = ScalingConfig(workers=2)
    report = write_teacher_outputs_on_ray(student, scaling, lambda *counts: seen.append(counts))
    assert report == expected_report
    assert seen == [(4, 12), (8, 12), (12, 12)]
    assert objects(student) == expected
    assert write_teacher_outputs_on_ray(student, scaling).written == 0

    Store(student.store).delete(sorted(expected)[1])
    weights = f"{student.teacher_bundle}/model.safetensors"
    Store(student.store).write_bytes(weights, b"")
    with pytest.raises(UserError, match=r"model\.safetensors: damaged") as caught:
        write_teacher_outputs_on_ray(student, scaling)
    assert "\n" not in str(caught.value)
