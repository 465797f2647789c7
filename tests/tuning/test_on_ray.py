"""The search on a real Ray cluster, with real training: the same trials as in one process."""

from dataclasses import replace

import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage.store import Store
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import in_process
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.stages import Context
from dtpf.pipeline.tuning import search_task
from dtpf.tuning.config import TuneConfig, TuneResources
from dtpf.tuning.placement import concurrency
from dtpf.tuning.search import search_in_process
from dtpf.tuning.space import Space
from dtpf.tuning.trials import SearchTask
from tests.small import small_config
from tests.tuning.support import planted_task

ray_cluster = pytest.mark.usefixtures("ray_cluster")
# The second cannot be trained: its first step makes every weight infinite.
POINTS = Space(
    "points",
    points=(
        {"model.width": 4, "train.learning_rate": 1e-3},
        {"model.width": 4, "train.learning_rate": 1e30},
        {"model.width": 6, "train.learning_rate": 1e-3},
    ),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> SearchTask:
    """A search whose data, captions, teacher and student are there."""
    plan = Plan(small_config(), Store(tmp_path_factory.mktemp("prepared")))
    context = Context(plan, in_process(), Console(lambda text: None))
    run_stages(context, ("data", "caption", "teacher", "student"))
    return search_task(context)


def task(prepared: SearchTask, root: str, space: Space = POINTS, **settings) -> SearchTask:
    settings = {"trials": 3, "steps": 4, "rounds": 2, "max_parameter_share": 1.0, **settings}
    base = prepared.base.model_copy(update={"root": f"runs/tiny/search-{root}"})
    return replace(prepared, base=base, space=space, config=TuneConfig(**settings))


def with_workers(found: SearchTask, workers: int) -> SearchTask:
    return replace(found, resources=TuneResources(workers=workers, concurrent=2))


@pytest.mark.ray
@ray_cluster
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long)])
def test_the_same_trials_as_in_one_process(prepared, workers):
    from dtpf.tuning.on_ray import search_on_ray

    expected = search_in_process(task(prepared, f"one{workers}", stopping="none"))
    changes: list[int] = []
    found = search_on_ray(
        with_workers(task(prepared, f"ray{workers}", stopping="none"), workers),
        lambda trials: changes.append(len(trials)),
    )
    assert [trial.status for trial in found] == ["finished", "failed", "finished"]
    assert [trial.setting for trial in found] == [trial.setting for trial in expected]
    assert "loss is" in found[1].error
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.status == theirs.status
        assert [number for number, _ in ours.history] == [number for number, _ in theirs.history]
        assert ours.retention == (theirs.retention and pytest.approx(theirs.retention, rel=1e-3))
    assert changes[-1] == 3
    store, root = Store(prepared.base.store), f"runs/tiny/search-ray{workers}"
    assert store.exists(f"{root}/trials/{found[0].name}/bundle/config.json")


def test_latency_is_measured_once_where_a_cap_or_the_cost_asks_for_it(prepared):
    one = {"space": Space("one", points=POINTS.points[:1]), "trials": 1, "latency_size": (32, 32)}
    (plain,) = search_in_process(task(prepared, "untimed", **one))
    assert plain.latency_ms is None
    (timed,) = search_in_process(task(prepared, "timed", cost="latency", **one))
    assert timed.latency_ms > 0
    assert timed.retention == plain.retention
    assert search_in_process(task(prepared, "timed", cost="latency", **one)) == [timed]


@pytest.mark.long
@pytest.mark.ray
@ray_cluster
def test_a_budget_in_time_stops_trials_under_way_and_more_of_it_ends_them(prepared):
    from dtpf.tuning.on_ray import search_on_ray

    one = {"space": Space("one", points=POINTS.points[:1]), "trials": 1, "steps": 40, "rounds": 40}
    short = with_workers(task(prepared, "hours", hours=6 / 3600, **one), 0)
    (cut,) = search_on_ray(short)
    assert cut.status in ("pending", "running")
    assert cut.steps < 40
    whole = search_in_process(task(prepared, "hours", hours=1.0, **one))
    assert whole[0].status == "finished"
    assert whole[0].history[: len(cut.history)] == cut.history


@pytest.mark.ray
def test_early_stopping_remembers_the_rounds_before_an_interruption(tmp_path):
    from types import SimpleNamespace

    from dtpf.tuning.on_ray import scheduler

    search = planted_task(tmp_path, rounds=4, reduction=2.0)
    known = [
        search.trial(number, {"model.width": 4, "distill.feature": number / 10}).model_copy(
            update={"history": ((1, 0.9), (2, 0.95))}
        )
        for number in (1, 2)
    ]

    def decision(trials) -> str:
        asha, trial = scheduler(search, trials), SimpleNamespace(trial_id="new")
        asha.on_trial_add(None, trial)
        return asha.on_trial_result(None, trial, {"round": 1, "retention": 0.5})

    assert decision([]) == "CONTINUE"
    assert decision(known) == "STOP"
    config = search.config.model_copy(update={"stopping": "none"})
    unhindered = scheduler(replace(search, config=config), known)
    assert type(unhindered).__name__ == "FIFOScheduler"


@pytest.mark.ray
@ray_cluster
@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 2), pytest.param(1.0, 1, marks=pytest.mark.long)]
)
def test_trials_share_a_gpu_as_far_as_their_shares_allow(prepared, share, expected):
    """The GPU is one by name only; Ray hands it out all the same."""
    from dtpf.tuning.on_ray import search_on_ray

    space = Space("pair", points=tuple(POINTS.points[n] for n in (0, 2)))
    settings = {"trials": 2, "steps": 12, "rounds": 6, "stopping": "none"}
    found = task(prepared, f"share{expected}", space, **settings)
    resources = TuneResources(workers=0, concurrent=2, gpus_per_trial=share)
    together: list[int] = []
    trials = search_on_ray(
        replace(found, resources=resources),
        lambda trials: together.append(sum(trial.status == "running" for trial in trials)),
    )
    assert [trial.status for trial in trials] == ["finished", "finished"]
    assert max(together) == expected


@pytest.mark.parametrize(
    ("resources", "cluster", "expected"),
    [
        ({"concurrent": 2}, {"CPU": 8.0}, 2),
        ({"concurrent": 9, "gpus_per_trial": 0.25}, {"CPU": 64.0, "GPU": 1.0}, 4),
        ({"concurrent": 9, "gpus_per_trial": 0.3}, {"CPU": 64.0, "GPU": 2.0}, 6),
        ({"concurrent": 9, "gpus_per_trial": 0.6}, {"CPU": 64.0, "GPU": 4.0}, 4),
        ({"concurrent": 9, "gpus_per_trial": 1.0, "workers": 2}, {"CPU": 64.0, "GPU": 4.0}, 2),
        ({"concurrent": 9, "cpus_per_trial": 2, "workers": 0}, {"CPU": 8.0}, 3),
    ],
)
def test_no_more_trials_side_by_side_than_the_cluster_holds(tmp_path, resources, cluster, expected):
    search = replace(planted_task(tmp_path), resources=TuneResources(**resources))
    assert concurrency(search, cluster) == expected


def test_what_the_cluster_cannot_hold_is_named(tmp_path):
    resources = TuneResources(gpus_per_trial=0.5)
    search = replace(planted_task(tmp_path), resources=resources)
    with pytest.raises(UserError, match=r"needs 0\.5 GPU and the cluster has 0"):
        concurrency(search, {"CPU": 8.0})
    with pytest.raises(UserError, match=r"tune\.gpu_hours counts GPUs"):
        concurrency(planted_task(tmp_path, gpu_hours=1.0), {"CPU": 8.0})
