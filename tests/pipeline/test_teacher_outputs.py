"""Teacher outputs as the stages use them: written before the student trains, kept, forgotten."""

from dataclasses import replace

import pytest
import torch

from dtpf.core.bundle import save_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import FusionNet
from dtpf.core.storage.store import Store
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import in_process
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.stages import Context
from dtpf.training.run import TrainResult
from tests.small import small_config

STORED = ("student.train.fixed_crops=6", "student.teacher_outputs=stored")
UP_TO_STUDENT = ("data", "caption", "teacher", "student")


def untrained(spec, scaling, on_step):
    """Stands for training: leaves a bundle, for a student only if its teacher's outputs are in."""
    store = Store(spec.store)
    if spec.teacher_outputs == "stored":
        prefix = store.keys("teacher_outputs")[0].rpartition("/")[0]
        assert len(store.keys(prefix)) == 2
    torch.manual_seed(0)
    digest = save_bundle(store, f"{spec.root}/bundle", FusionNet(spec.model), provenance={})
    return TrainResult(1, {}, ({"step": 1.0, "loss": 1.0},), digest)


def context(store: Store, *settings: str, lines: list[str]) -> Context:
    engines = replace(in_process(), train=untrained)
    return Context(Plan(small_config(*settings), store), engines, Console(lines.append))


def test_the_student_stage_writes_them_once_and_force_drops_them(tmp_path):
    store, lines = Store(tmp_path), []
    stored = context(store, *STORED, lines=lines)
    receipt = run_stages(stored, UP_TO_STUDENT)["student"]
    prefix = receipt.outputs["teacher_outputs"]
    written = store.keys(prefix)
    assert len(written) == 2
    assert any("teacher outputs of 8 crops" in line and "8 written" in line for line in lines)
    assert any("8/8" in line for line in lines)  # a bar

    other = context(store, *STORED, "student.distill.feature=0.3", lines=lines)
    run_stages(other, ["student"])
    assert "0 written, 8 found" in "\n".join(lines)
    assert store.keys("teacher_outputs") == written

    stored.plan.forget("student")
    assert store.keys("teacher_outputs") == []


def test_a_live_teacher_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    receipts = run_stages(context(store, lines=[]), UP_TO_STUDENT)
    assert "teacher_outputs" not in receipts["student"].outputs
    assert store.keys("teacher_outputs") == []


def test_live_and_stored_are_different_results():
    def digests(*settings):
        return Plan(small_config(*settings), Store("unused")).settings("student")

    live, fixed, stored = digests(), digests(STORED[0]), digests(*STORED)
    assert live != fixed != stored


def test_stored_needs_fixed_crops():
    with pytest.raises(UserError, match=r"student: .*stored needs train\.fixed_crops.*set it"):
        small_config("student.teacher_outputs=stored")
