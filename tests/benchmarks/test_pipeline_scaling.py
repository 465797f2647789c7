"""The model of the whole pipeline behind docs/scaling.md, and that the page shows its tables."""

import importlib
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
GPUS = (1, 8, 64, 1000)


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(f"pipeline_{name}")


@pytest.fixture
def a(load):
    return load("settings").settings()


def test_the_slowest_resource_bounds_and_phases_add_up(load):
    stage = load("model").Stage("s", 100, {"a": 10.0, "b": 5.0}, {"c": 7.0})
    assert (stage.slowest, stage.seconds, stage.bottleneck) == ("b", 27.0, "b")
    waiting = load("model").Stage("s", 100, {"a": 10.0, "b": 5.0}, {"c": 21.0})
    assert (waiting.seconds, waiting.bottleneck) == (41.0, "c")


def test_a_resource_that_becomes_free_hands_the_bottleneck_on(load):
    def slowest(*changes):
        return load("model").caption(load("settings").settings(changes), 10**6, 1000, "7b").slowest

    driver = ["driver_row_seconds=0", "ray_row_seconds=0"]
    driver += ["put_seconds=0", "get_seconds=1e-9"]
    gets = ["store_gets=1e12"]
    assert slowest() == "store requests"
    assert slowest(*gets) == "driver's rows"
    assert slowest(*driver, *gets) == "GPU"
    assert slowest(*driver, *gets, "flops_7b=1e18") == "store bandwidth"


def test_captions_of_a_case_computed_by_hand(load):
    changes = ["image_tokens=100", "prompt_characters=45", "answer_tokens=90", "asked_again=0"]
    changes += ["parameters_7b=1e9", "vision_parameters=1e8", "flops_7b=4.8e11"]
    changes += ["characters_per_token=4.5", "pair_bytes=1e6", "index_footer_bytes=0"]
    a = load("settings").settings(changes)
    # 2e9 FLOP for each of 200 tokens and 2e8 for each of 400 patches: 4.8e11, a second.
    assert load("model").gpu_caption_seconds(a, "7b") == pytest.approx(1.0)
    stage = load("model").caption(a, 10**6, 16, "7b")
    assert stage.rates["GPU"] == pytest.approx(16.0)
    assert stage.rates["node links"] == pytest.approx(2 * 1e9 / 1e6)  # two nodes, 8 of 10 Gbit/s
    assert stage.rates["store bandwidth"] == pytest.approx(5e9 / 1e6)


def test_more_gpus_never_lower_a_rate(load, a):
    stages = [
        [
            load("model").caption(a, 10**6, gpus, "2b"),
            load("model").embed(a, 10**6, gpus),
            load("training").training(a, 10**6, gpus, "teacher"),
            load("training").serving(a, gpus),
        ]
        for gpus in GPUS
    ]
    for fewer, more in pairwise(stages):
        for one, other in zip(fewer, more, strict=True):
            assert all(other.rates[name] >= rate for name, rate in one.rates.items())
    trials = [load("training").trials_per_day(a, 10**6, gpus) for gpus in GPUS]
    assert trials == sorted(trials)


def test_training_of_the_papers_set_takes_the_papers_time(load, a):
    few = load("settings").settings(["validations=0", "worker_seconds=0", "get_seconds=0"])
    stage = load("training").training(few, 1083, 1, "teacher")
    assert stage.slowest == "GPU"
    assert stage.seconds / 3600 == pytest.approx(12.1, rel=1e-3)


def test_limits_are_where_both_sides_are_equal(load, a):
    found = {what: number for what, number, _ in load("limits").limits(a)}
    pairs = found["captions: a shard's reader reads more of the index than of its images"]
    assert load("model").footer(a, pairs) == pytest.approx(256 * a.pair_bytes, rel=1e-4)
    pairs = found["teacher: validation takes as long as the paper's training"]
    stage = load("training").training(a, round(pairs), 8, "teacher")
    assert stage.alone["validation"] == pytest.approx(a.paper_crops / stage.rates["GPU"], rel=1e-3)


def test_work_without_failures_is_shared_evenly(load):
    simulation = load("simulation")
    course = simulation.simulate(simulation.Work(10, 2.0, 4, 2, 5.0), math.inf, 0.0, 0.0)
    # Three rounds after the start: 4, 4 and 2 pieces.
    assert course == simulation.Course(11.0, 2.0, 10, 0, 0)


@pytest.mark.parametrize("pieces", [1, 5_000, 60_000])
def test_every_piece_is_done_however_often_nodes_fail(load, pieces):
    simulation = load("simulation")
    work = simulation.Work(pieces, 10.0, 16, 8, 5.0)
    calm, stormy = (simulation.simulate(work, mean, 50.0, 0.2) for mean in (math.inf, 500.0))
    assert calm.done == stormy.done == pieces
    assert calm.repeated == 0
    if pieces > 500:
        assert stormy.failures
        assert stormy.repeated
        assert stormy.seconds > calm.seconds


def test_a_lost_piece_is_taken_by_an_idle_worker(load):
    simulation = load("simulation")
    # One piece; the first worker's node fails during it, the other takes the piece over.
    moments = SimpleNamespace(after=lambda node, now: 4.0 if node == 0 and now < 4 else math.inf)
    simulation.Failures, kept = lambda mean, rng: moments, simulation.Failures
    try:
        course = simulation.simulate(simulation.Work(1, 10.0, 2, 1, 0.0), 1e9, 100.0, 0.0)
    finally:
        simulation.Failures = kept
    assert (course.seconds, course.done, course.repeated, course.failures) == (14.0, 1, 1, 1)


def test_the_long_beginning_joins_the_simulated_end(load, monkeypatch):
    simulation = load("simulation")
    work = simulation.Work(2000, 3.0, 10, 8, 7.0)
    whole = simulation.simulate(work, math.inf, 0.0, 0.0)
    monkeypatch.setattr(simulation, "LIMIT", 100)
    assert simulation.simulate(work, math.inf, 0.0, 0.0) == whole


def test_the_page_has_the_tables_that_the_script_prints(load, a):
    page = (ROOT / "docs" / "scaling.md").read_text()
    scaling = load("scaling")
    tables = {name: draw(a) for name, draw in scaling.TABLES.items()}
    for name, text in tables.items():
        assert f"<!-- pipeline: {name} -->\n\n{text}\n" in page, name
    assert scaling.updated(page, "pipeline", tables) == page
    with pytest.raises(ValueError, match="no mark <!-- pipeline: nothing -->"):
        scaling.updated(page, "pipeline", {"nothing": ""})


def test_every_value_has_a_meaning_and_can_be_set(load):
    settings = load("settings")
    measured = set(vars(settings.settings())) - set(settings.ASSUMED)
    assert measured <= set(settings.MEASURED) | set(settings.LEFT_OUT)
    for name in vars(settings.settings()):
        assert getattr(settings.settings([f"{name}=7"]), name) == 7
    for wrong in ("no_such=1", "pair_bytes=many"):
        with pytest.raises(SystemExit, match=wrong):
            settings.settings([wrong])
