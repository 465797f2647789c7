"""A whole search over planted results: what is tried, recorded, kept and chosen."""

from dataclasses import replace

import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage.store import Store
from dtpf.training.run import TrainResult
from dtpf.tuning.config import TuneConfig
from dtpf.tuning.ledger import Ledger, Meter, read_trials
from dtpf.tuning.search import search_in_process
from dtpf.tuning.space import Domain, Space
from dtpf.tuning.suggest import Suggestions
from dtpf.tuning.trials import RoundReport
from dtpf.tuning.winner import choose_finalists
from tests.tuning.support import SCORES, SPACE, Planted, failing, planted_task


def by_width(setting) -> float:
    return 0.8 + setting["model.width"] / 100


def search(task, run) -> list:
    return search_in_process(task, run=run)


def test_trials_have_runs_of_their_own_and_validate_every_round(tmp_path):
    task = planted_task(tmp_path, steps=9, rounds=3)
    trials = search(task, Planted(by_width))
    specs = [task.spec(trial) for trial in trials]
    assert len({spec.root for spec in specs}) == 4
    assert {spec.train.validate_every for spec in specs} == {3}
    assert {spec.train.steps for spec in specs} == {9}
    assert [trial.number for trial in trials] == [1, 2, 3, 4]
    assert {trial.status for trial in trials} == {"finished"}
    assert {len(trial.history) for trial in trials} == {3}
    assert len({trial.parameters for trial in trials}) == 3


def test_without_a_length_a_trial_is_as_long_as_the_student(tmp_path):
    task = planted_task(tmp_path, steps=None, rounds=2)
    spec = task.spec(task.trial(1, {"model.width": 4}))
    assert spec.train.steps == task.base.train.steps == 4


def test_retention_is_the_mean_share_of_the_teachers_scores(tmp_path):
    task = planted_task(tmp_path)
    assert task.objective(SCORES) == pytest.approx(1.0)
    assert task.objective({"VIF": 0.4, "Qabf": 0.5, "SSIM": 1.2}) == pytest.approx(2.7 / 3)


def test_a_trial_that_fails_is_reported_and_the_rest_go_on(tmp_path):
    task = planted_task(tmp_path)
    trials = search(task, Planted(failing))
    failed = [trial for trial in trials if trial.status == "failed"]
    assert {trial.setting["model.width"] for trial in failed} == {8}
    assert {trial.error for trial in failed} == {"width 8 cannot be trained"}
    assert choose_finalists(task, trials)[0].setting["model.width"] == 12


def test_scores_that_are_not_finite_fail_the_trial(tmp_path, monkeypatch):
    from dtpf.tuning import search as module

    broken = {**SCORES, "VIF": float("nan")}
    result = TrainResult(1, broken, (), "")
    monkeypatch.setattr(module, "run_training", lambda spec, group, on_validation: result)
    (trial,) = search_in_process(planted_task(tmp_path, trials=1, startup=1))
    assert trial.status == "failed"
    assert "not finite" in trial.error


def test_a_search_that_goes_on_keeps_what_finished_and_repeats_the_rest(tmp_path):
    class Killed(BaseException):
        pass

    def die_at_third(task, trial, group, on_round):
        if trial.number == 3:
            on_round(RoundReport(1, 2, 0.3, SCORES))
            raise Killed
        Planted(by_width)(task, trial, group, on_round)

    task = planted_task(tmp_path)
    with pytest.raises(Killed):
        search(task, die_at_third)
    broken = read_trials(Store(tmp_path), task.base.root)
    assert [trial.status for trial in broken] == ["finished", "finished", "running"]
    run = Planted(by_width)
    trials = search(task, run)
    assert len(run.ran) == 2
    assert [trial.setting for trial in trials[:3]] == [trial.setting for trial in broken]
    assert trials[:2] == broken[:2]
    unbroken = search(planted_task(tmp_path / "other"), Planted(by_width))
    assert [trial.setting for trial in trials] == [trial.setting for trial in unbroken]


def test_a_larger_budget_goes_on_with_the_trials_that_are_there(tmp_path):
    run = Planted(by_width)
    few = search(planted_task(tmp_path, trials=4), run)
    more = search(planted_task(tmp_path, trials=6), run)
    assert more[:4] == few
    assert len(run.ran) == 6
    assert search(planted_task(tmp_path, trials=2), run) == few[:2]
    assert len(run.ran) == 6


def test_budgets_change_no_trial_but_lengths_do():
    identity = TuneConfig().trial_identity()
    for change in ({"trials": 3}, {"hours": 1.0}, {"gpu_hours": 1.0}, {"max_parameter_share": 0.2}):
        assert TuneConfig(**change).trial_identity() == identity
        assert TuneConfig(**change).identity() != TuneConfig().identity()
    for change in ({"steps": 3}, {"seed": 1}, {"search": "random"}, {"max_latency_ms": 3.0}):
        assert TuneConfig(**change).trial_identity() != identity
    assert TuneConfig(space="other").identity() == TuneConfig().identity()


def test_a_budget_in_hours_counts_all_runs_and_stops_within_a_trial(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Slow(Planted):
        def __call__(self, task, trial, group, on_round):
            def later(report):
                now[0] += 900.0
                on_round(report)

            super().__call__(task, trial, group, later)

    task = planted_task(tmp_path, hours=1.3, rounds=4)
    trials = search(task, Slow(by_width))
    assert [trial.status for trial in trials] == ["finished", "running"]
    assert trials[0].seconds == pytest.approx(3600)
    assert Meter(task).seconds == pytest.approx(3600 + 2 * 900)
    assert search(task, Slow(by_width)) == trials
    whole = search(planted_task(tmp_path, hours=9.0), Slow(by_width))
    assert [trial.status for trial in whole] == ["finished"] * 4


def test_gpu_hours_count_every_gpu_that_trials_hold(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    task = planted_task(tmp_path, gpu_hours=1.0)
    resources = task.resources.model_copy(update={"gpus_per_trial": 0.5})
    meter = Meter(replace(task, resources=resources))
    now[0] = 3000.0
    meter.tick(running=2)
    assert not meter.exhausted
    now[0] = 3700.0
    meter.tick(running=2)
    assert meter.exhausted == "tune.gpu_hours=1"
    assert meter.gpu_seconds == pytest.approx(3700)


def test_students_beyond_the_limit_are_not_trained(tmp_path):
    task = planted_task(tmp_path, trials=6, max_parameter_share=0.3)
    run = Planted(by_width)
    search(task, run)
    assert {setting["model.width"] for setting in run.ran} == {4}
    with pytest.raises(UserError, match="no student within 2,000 parameters"):
        search(planted_task(tmp_path / "x", max_parameter_share=0.001), run)


def test_a_finite_space_ends_when_it_is_used_up(tmp_path):
    space = Space("w", {"model.width": Domain("choice", (4, 8, 12))})
    for search_name in ("optuna", "random"):
        run = Planted(by_width)
        task = planted_task(tmp_path / search_name, space, trials=9, search=search_name)
        search(task, run)
        assert sorted(setting["model.width"] for setting in run.ran) == [4, 8, 12]


def test_a_grid_must_fit_the_budget(tmp_path):
    space = Space("w", {"model.width": Domain("choice", (4, 8, 12))})
    with pytest.raises(UserError, match=r"has 3 settings and tune\.trials is 2"):
        search(planted_task(tmp_path, space, search="grid", trials=2), Planted(by_width))
    run = Planted(by_width)
    search(planted_task(tmp_path, space, search="grid", trials=3), run)
    assert [setting["model.width"] for setting in run.ran] == [4, 8, 12]


def test_points_are_tried_in_their_order_by_any_search(tmp_path):
    points = (
        {"distill.base": 1.0, "distill.result": 0.0},
        {"distill.base": 1.0, "distill.result": 2.0},
    )
    run = Planted(lambda setting: setting["distill.result"] + 0.1)
    search(planted_task(tmp_path, Space("p", points=points), trials=8), run)
    assert run.ran == list(points)


def test_optuna_learns_from_both_objectives(tmp_path):
    """Quality peaks at 0.1; among equal quality the smaller network is wanted."""
    pytest.importorskip("optuna")

    def peak(setting) -> float:
        distance = abs(setting["distill.feature"] - 0.1)
        return 1.0 - min(distance, 0.5)

    def near(search_name: str) -> int:
        task = planted_task(tmp_path / search_name, trials=30, startup=6, search=search_name)
        late = search(task, Planted(peak))[10:]
        return sum(
            abs(trial.setting["distill.feature"] - 0.1) < 0.05 and trial.setting["model.width"] == 4
            for trial in late
        )

    assert near("optuna") >= 2 * near("random")


def test_proposals_follow_from_records_alone(tmp_path):
    pytest.importorskip("optuna")
    task = planted_task(tmp_path, trials=5, startup=3)
    search(task, Planted(by_width))
    more = replace(task, config=task.config.model_copy(update={"trials": 6}))
    first = Suggestions(more, Ledger(more)).next()
    (tmp_path / task.base.root / "trials" / first.name / "trial.json").unlink()
    assert Suggestions(more, Ledger(more)).next() == first


def test_latency_is_measured_where_it_counts(tmp_path):
    assert not TuneConfig().times_networks
    assert TuneConfig(cost="latency").times_networks
    assert TuneConfig(max_latency_ms=5.0).times_networks
    task = planted_task(tmp_path, SPACE, cost="latency")
    trial = task.trial(1, {"model.width": 4}).model_copy(update={"latency_ms": 7.0})
    assert task.cost(trial) == 7.0


def test_the_untuned_setting_is_tried_first_where_the_space_holds_it(tmp_path):
    task = planted_task(tmp_path, trials=5, startup=3)
    width, feature = task.base.model.width, task.base.distill.feature
    first, *rest = search(task, Planted(by_width))
    assert first.setting == {"model.width": width, "distill.feature": feature}
    assert all(trial.setting["distill.feature"] != feature for trial in rest)
    narrow = Space("narrow", {"distill.feature": Domain("uniform", (5.0, 6.0))})
    trials = search(planted_task(tmp_path / "narrow", narrow, trials=2), Planted(lambda _: 0.5))
    assert all(trial.setting["distill.feature"] >= 5.0 for trial in trials)
