"""The objective and the choice of the winner."""

from dataclasses import replace

import pytest

from dtpf.core.errors import UserError
from dtpf.pipeline.specs import search_target
from dtpf.tuning.config import TuneConfig, TuneResources
from dtpf.tuning.search import SearchTask, choose_winner
from dtpf.tuning.space import Domain, Space
from tests.small import small_config

SCORES = {"VIF": 0.8, "Qabf": 0.5, "SSIM": 1.0}


def task(share: float = 1.0) -> SearchTask:
    space = Space("s", {"model.width": Domain("choice", (4, 8))})
    config = TuneConfig(trials=2, steps=9, rounds=3, max_parameter_share=share)
    base = search_target(small_config())
    return SearchTask(base, space, config, TuneResources(), SCORES, 1_000_000)


def test_trials_have_runs_of_their_own_and_validate_every_round():
    trials = task().trials()
    assert len({trial.spec.root for trial in trials}) == 2
    assert {trial.spec.train.validate_every for trial in trials} == {3}
    assert {trial.spec.train.steps for trial in trials} == {9}
    assert len({trial.parameters for trial in trials}) == 2


def test_retention_is_the_mean_share_of_the_teachers_scores():
    assert task().objective(SCORES) == pytest.approx(1.0)
    assert task().objective({"VIF": 0.4, "Qabf": 0.5, "SSIM": 1.2}) == pytest.approx(2.7 / 3)
    broken = replace(task(), teacher_scores={**SCORES, "VIF": 0.0})
    with pytest.raises(ValueError, match="positive"):
        broken.objective(SCORES)


def test_the_best_finished_trial_within_the_limit_wins():
    search = task(share=0.5)
    small, large = sorted(search.trials(), key=lambda trial: trial.parameters)
    finished = [
        replace(small, status="finished", retention=0.90),
        replace(small, status="finished", retention=0.95, parameters=400_000),
        replace(large, status="finished", retention=0.99, parameters=600_000),
        replace(small, status="stopped", retention=0.98),
        replace(small, status="failed", error="x"),
    ]
    assert choose_winner(search, finished) is finished[1]


def test_no_winner_says_what_would_help():
    search = task(share=0.01)
    trials = [replace(search.trials()[0], status="finished", retention=1.0, parameters=10**6)]
    with pytest.raises(UserError, match=r"max_parameter_share"):
        choose_winner(search, trials)
    failed = [replace(search.trials()[0], status="failed", error="boom")]
    with pytest.raises(UserError, match="first error: boom"):
        choose_winner(search, failed)
