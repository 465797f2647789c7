"""The end of a search: who is trained in full, who wins."""

import json
from types import SimpleNamespace

import pytest

from dtpf.core.storage.store import Store
from dtpf.pipeline.console import Console
from dtpf.pipeline.finals import final
from dtpf.training.run import TrainResult
from tests.tuning.support import SCORES, planted_task


class Finals:
    """A pipeline whose trainings end with a retention of `quality(width)`."""

    def __init__(self, folder, student: float, quality) -> None:
        self.lines, self.trained, self.quality = [], [], quality
        metrics = {"parameters": 1000.0, **self.scores(student, "val/")}
        receipt = SimpleNamespace(outputs={"bundle": "untuned"}, metrics=metrics)
        plan = SimpleNamespace(
            need=lambda stage: receipt, store=Store(folder), config=SimpleNamespace(scaling=None)
        )
        engines = SimpleNamespace(train=self.train)
        self.context = SimpleNamespace(
            plan=plan, engines=engines, console=Console(self.lines.append)
        )

    def scores(self, retention: float, prefix: str = "") -> dict[str, float]:
        return {f"{prefix}{name}": retention * score for name, score in SCORES.items()}

    def train(self, spec, scaling, on_step) -> TrainResult:
        self.trained.append(spec)
        scores = self.scores(self.quality(spec.model.width))
        return TrainResult(losses=[{"loss": 1.0}], scores=scores, parameters=10, sha256="0")


def trial_of(task, number, width, feature=0.2):
    setting = {"model.width": width, "distill.feature": feature}
    return task.trial(number, setting).model_copy(
        update={"status": "finished", "retention": 1.0, "latency_ms": 1.0}
    )


def test_the_best_in_full_wins_not_the_best_trial(tmp_path):
    task = planted_task(tmp_path, finalists=2, steps=2, rounds=1)
    finals = Finals(tmp_path, 0.9, lambda width: {8: 0.95, 12: 0.97}[width])
    chosen = [trial_of(task, 1, 8), trial_of(task, 2, 12)]
    winner = final(finals.context, task, chosen)
    assert winner.trial is chosen[1]
    assert winner.retention == pytest.approx(0.97)
    assert winner.notes["kept"] == "winner"
    assert json.loads(winner.notes["setting"])["model.width"] == 12
    assert [spec.train.steps for spec in finals.trained] == [task.base.train.steps] * 2
    assert len({spec.root for spec in finals.trained}) == 2
    assert "winner: trial 2" in "".join(finals.lines)


def test_a_search_never_ends_with_less_than_the_untuned_student(tmp_path):
    task = planted_task(tmp_path, steps=2, rounds=1)
    finals = Finals(tmp_path, 0.99, lambda width: 0.95)
    winner = final(finals.context, task, [trial_of(task, 1, 8)])
    assert winner.outcome.outputs == {"bundle": "untuned"}
    assert winner.notes == {"kept": "student", "winner": "untuned student", "setting": "{}"}
    small = trial_of(task, 1, 8).model_copy(update={"parameters": 10})
    narrow = planted_task(tmp_path, steps=2, rounds=1, max_parameter_share=1e-4)
    assert final(finals.context, narrow, [small]).tuned  # the untuned student is too large


def test_the_untuned_student_bears_the_number_of_its_trial(tmp_path):
    task = planted_task(tmp_path, steps=2, rounds=1)
    own = trial_of(task, 1, task.base.model.width, task.base.distill.feature)
    trials = [own.model_copy(update={"retention": 0.5}), trial_of(task, 2, 8)]
    winner = final(Finals(tmp_path, 0.99, lambda width: 0.95).context, task, trials)
    assert winner.trial is trials[0]
    assert winner.notes["winner"] == "untuned student"


def test_the_untuned_setting_is_not_trained_a_second_time(tmp_path):
    task = planted_task(tmp_path, steps=2, rounds=1, max_latency_ms=50.0)
    base = task.base
    finals = Finals(tmp_path, 0.99, lambda width: 0.95)
    same = trial_of(task, 1, base.model.width, base.distill.feature)
    winner = final(finals.context, task, [same])
    assert finals.trained == []
    assert winner.trial is same
    assert not winner.tuned


def test_a_trial_as_long_as_the_student_is_taken_as_it_is(tmp_path):
    task = planted_task(tmp_path, steps=None, rounds=1)
    finals = Finals(tmp_path, 0.9, lambda width: 0.95)
    chosen = trial_of(task, 1, 8)
    assert final(finals.context, task, [chosen]).tuned
    assert finals.trained == [task.spec(chosen)]
    assert "training it in full" not in "".join(finals.lines)
