"""The choice of the winner, and the Pareto front."""

from dataclasses import replace

import pytest

from dtpf.core.errors import UserError
from dtpf.tuning.winner import choose_finalists, pareto_front
from tests.tuning.support import planted_task


def trial(task, number, **facts):
    return task.trial(number, {"distill.feature": number / 10}).model_copy(
        update={"status": "finished", "parameters": 100_000, **facts}
    )


def test_the_best_finished_trial_within_the_limits_wins(tmp_path):
    task = planted_task(tmp_path, max_parameter_share=0.1)
    trials = [
        trial(task, 1, retention=0.90),
        trial(task, 2, retention=0.95, parameters=200_000),
        trial(task, 3, retention=0.99, parameters=200_001),
        trial(task, 4, retention=0.98, status="stopped"),
        trial(task, 5, status="failed", error="x"),
        trial(task, 6, retention=0.95, parameters=200_000),
    ]
    assert choose_finalists(task, trials)[0] is trials[1]
    smaller = trial(task, 7, retention=0.95, parameters=150_000)
    assert choose_finalists(task, [*trials, smaller]) == [smaller]
    more = replace(task, config=task.config.model_copy(update={"finalists": 3}))
    assert choose_finalists(more, [*trials, smaller]) == [smaller, trials[1], trials[5]]


def test_a_latency_cap_excludes_the_slow_and_the_unmeasured(tmp_path):
    task = planted_task(tmp_path, max_latency_ms=50.0)
    trials = [
        trial(task, 1, retention=0.99, latency_ms=50.1),
        trial(task, 2, retention=0.98),
        trial(task, 3, retention=0.90, latency_ms=49.0),
    ]
    assert choose_finalists(task, trials)[0] is trials[2]
    with pytest.raises(UserError, match=r"50 ms.*raise tune\.max_latency_ms"):
        choose_finalists(task, trials[:2])


def test_no_winner_says_what_would_help(tmp_path):
    task = planted_task(tmp_path, max_parameter_share=0.01)
    with pytest.raises(UserError, match="max_parameter_share"):
        choose_finalists(task, [trial(task, 1, retention=1.0)])
    with pytest.raises(UserError, match="first error: trial 2: boom"):
        choose_finalists(task, [trial(task, 2, status="failed", error="boom")])
    with pytest.raises(UserError, match="raise the budget"):
        choose_finalists(task, [trial(task, 3, status="running", retention=0.5)])


def test_the_front_holds_what_no_other_beats_in_both():
    points = [(1, 0.5), (2, 0.4), (2, 0.7), (3, 0.7), (4, 0.9), (4, 0.9), (0.5, 0.1)]
    assert pareto_front(points) == [6, 0, 2, 4, 5]
    assert pareto_front([]) == []
