"""What the wrapper around engines exports, without a cluster: a recorder stands in for Ray."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest
from ray import cloudpickle

from dtpf.caption.runner import CaptionReport
from dtpf.core.storage.receipts import Receipt
from dtpf.core.storage.store import Store
from dtpf.pipeline import on_ray
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import Engines
from dtpf.pipeline.on_ray import METRICS, measured
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.stages import Context
from dtpf.training.loop import StepReport
from dtpf.tuning.trials import Trial
from tests.small import small_config

PIPELINE = "s3://bucket/prefix/runs/tiny"
CONFIG = small_config()
RECEIPT = Receipt(
    stage="teacher",
    fingerprint="f",
    inputs={},
    outputs={},
    config={},
    seconds=2.0,
    finished="now",
    environment={},
)


class Recorder:
    """Metrics by name and labels; refuses what Ray would refuse."""

    def __init__(self):
        self.values = defaultdict(dict)
        self.exports = set()

    def metric(self, export, name):
        self.exports.add(export)
        kind, what, labels = METRICS[name]
        assert what
        return Recorded(self.values[name], ("pipeline", *labels), kind is on_ray.Counter)

    def of(self, name):
        return self.values[name]


class Recorded:
    def __init__(self, values, labels, counts):
        self.values, self.labels, self.counts = values, labels, counts

    def key(self, tags):
        assert set(tags) == set(self.labels)
        assert all(isinstance(value, str) for value in tags.values())
        assert tags["pipeline"] == PIPELINE
        return tuple(tags[label] for label in self.labels[1:])

    def set(self, value, tags):
        assert not self.counts
        assert isinstance(value, float)
        self.values[self.key(tags)] = value

    def inc(self, value, tags):
        assert self.counts
        assert value > 0
        self.values[self.key(tags)] = self.values.get(self.key(tags), 0) + value


@pytest.fixture
def recorder(monkeypatch) -> Iterator[Recorder]:
    found = Recorder()
    monkeypatch.setattr(on_ray._Export, "_metric", lambda export, name: found.metric(export, name))
    yield found
    for export in found.exports:
        export._end()


def told(*news):
    """An engine that calls the last of its arguments with each of `news`; returns them all."""

    def engine(*arguments):
        for item in news:
            arguments[-1](*item)
        return arguments

    return engine


def refuse(*arguments):
    raise AssertionError("not asked for")


def test_pairs_are_counted_from_what_was_there_and_told_on(recorder):
    seen = []
    news = [(10, 40, 0), (20, 40, 0), (30, 40, 2), (40, 40, 2)]
    engines = measured(Engines(told(*news), refuse, refuse, None), PIPELINE)
    engines.caption("task", lambda *numbers: seen.append(numbers))
    assert seen == news
    assert recorder.of("dtpf_caption_pairs") == {("done",): 28.0, ("failed",): 2.0}
    assert recorder.of("dtpf_stage_progress") == {("",): 1.0}


def test_failures_told_late_and_a_second_pass(recorder):
    """A model's failures show when their shard closes; then some pairs are asked about again."""
    news = [(0, 6, 0), (3, 6, 0), (4, 6, 2), (6, 6, 2), (0, 2, 0), (2, 2, 0)]
    engines = measured(Engines(told(*news), refuse, refuse, None), PIPELINE)
    engines.caption("task", lambda *numbers: None)
    assert recorder.of("dtpf_caption_pairs") == {("done",): 6.0, ("failed",): 2.0}


def test_steps_have_the_journals_rates_and_their_stage(recorder):
    spec = type("Spec", (), {"train": CONFIG.teacher.train})
    reports = [(StepReport(5, 10, {"loss": 2.0, "ssim": 0.5}, 1.5, 1e-3, 0.5, 0.1, None, 2),)]
    engines = measured(Engines(refuse, told(*reports), refuse, None), PIPELINE)
    engines.on_stage("teacher", None)
    result = engines.train(spec, "scaling", lambda report: None)
    assert result[:2] == (spec, "scaling")
    assert recorder.of("dtpf_training_loss") == {("teacher", "loss"): 2.0, ("teacher", "ssim"): 0.5}
    expected = {
        "step": 5.0,
        "step_seconds": 0.5,
        "data_wait_share": pytest.approx(0.2),
        "crops_per_second": CONFIG.teacher.train.batch / 0.5,
        "learning_rate": 1e-3,
        "gradient_norm": 1.5,
        "workers": 2.0,
    }
    for name, value in expected.items():
        assert recorder.of(f"dtpf_training_{name}") == {("teacher",): value}
    assert recorder.of("dtpf_stage_progress") == {("teacher",): 0.5}
    (export,) = recorder.exports
    assert [name for name, _ in export._gauges if "training" in name]
    engines.on_stage("teacher", RECEIPT)
    assert not [name for name, _ in export._gauges if "training" in name]


def test_trials_are_counted_by_status_with_the_retention_of_each(recorder):
    trials = [
        Trial(number=1, name="a", setting={}, status="finished", retention=0.9),
        Trial(number=2, name="b", setting={}, status="running", retention=0.7),
        Trial(number=3, name="c", setting={}),
    ]
    task = type("Task", (), {"config": CONFIG.tune.model_copy(update={"trials": 4})})
    engines = measured(Engines(refuse, refuse, told((trials,)), None), PIPELINE)
    engines.on_stage("tune", None)
    engines.search(task, lambda trials: None)
    assert recorder.of("dtpf_trial_retention") == {("1",): 0.9, ("2",): 0.7}
    counts = {status: count for (status,), count in recorder.of("dtpf_trials").items()}
    assert counts == {"pending": 1, "running": 1, "finished": 1, "stopped": 0, "failed": 0}
    assert recorder.of("dtpf_stage_progress") == {("tune",): 0.25}


def test_tune_can_pickle_what_it_calls(recorder):
    """Tune writes its callbacks to a file before it starts; with an export that runs already."""
    task = type("Task", (), {"config": CONFIG.tune})
    engines = measured(Engines(refuse, refuse, told(([],)), None), PIPELINE)
    engines.on_stage("tune", None)
    (_, on_trials) = engines.search(task, lambda trials: None)
    cloudpickle.loads(cloudpickle.dumps(on_trials))


def test_stages_run_end_and_are_known_when_skipped(recorder, tmp_path):
    running = []

    def caption(task, progress):
        running.append(dict(recorder.of("dtpf_stage_running")))
        return CaptionReport(8, 0)

    engines = measured(Engines(caption, refuse, refuse, None), PIPELINE)
    store = Store(tmp_path)

    def run():
        context = Context(Plan(CONFIG, store), engines, Console(lambda text: None))
        return run_stages(context, ["data", "caption"])

    receipts = run()
    assert running == [{("data",): 0.0, ("caption",): 1.0}]
    assert recorder.of("dtpf_stage_running") == {("data",): 0.0, ("caption",): 0.0}
    assert recorder.of("dtpf_stage_result")["caption", "captioned"] == 8.0
    expected = {(name,): receipt.seconds for name, receipt in receipts.items()}
    assert recorder.of("dtpf_stage_seconds") == expected
    recorder.values.clear()
    run()
    assert recorder.of("dtpf_stage_seconds") == expected


def test_gauges_are_set_again_until_their_stage_ends(recorder, monkeypatch):
    """Ray sends a gauge once for each time that it is set."""
    monkeypatch.setattr(on_ray, "REPEAT_SECONDS", 0.01)
    export = on_ray._Export(PIPELINE)
    export.set("dtpf_stage_progress", 0.5, stage="teacher")
    export.set("dtpf_training_step", 7, stage="teacher")
    recorder.values.clear()
    wait_for(lambda: len(recorder.values) == 2)
    export.forget("dtpf_training_")
    recorder.values.clear()
    wait_for(lambda: recorder.of("dtpf_stage_progress"))
    assert not recorder.of("dtpf_training_step")
    export._end()
    recorder.values.clear()
    assert not export._thread.is_alive()


def wait_for(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_export_that_fails_is_logged_once_and_hurts_nobody(monkeypatch, caplog):
    def broken(export, name):
        raise RuntimeError("no cluster")

    monkeypatch.setattr(on_ray._Export, "_metric", broken)
    seen = []
    engines = measured(Engines(told((0, 2, 0), (1, 2, 0), (2, 2, 0)), refuse, refuse, None), "p")
    with caplog.at_level(logging.WARNING):
        engines.caption("task", lambda *numbers: seen.append(numbers))
    assert len(seen) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no cluster" in caplog.text


def test_what_an_engine_raises_or_its_caller_raises_goes_through(recorder):
    def stop(*numbers):
        raise KeyboardInterrupt

    engines = measured(Engines(told((0, 2, 0)), refuse, refuse, None), PIPELINE)
    with pytest.raises(KeyboardInterrupt):
        engines.caption("task", stop)
    with pytest.raises(AssertionError, match="not asked for"):
        engines.train(type("Spec", (), {"train": CONFIG.teacher.train}), None, stop)
