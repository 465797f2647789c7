"""The whole pipeline in one process without Ray: results, skipping, fingerprints, interruption."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from dtpf.caption.runner import ShardWorker
from dtpf.core.bundle import load_bundle
from dtpf.core.errors import UserError
from dtpf.core.storage.receipts import Receipt
from dtpf.core.storage.store import Store
from dtpf.data.images import decode_array, encode_png
from dtpf.data.synthetic import SyntheticConfig, write_synthetic
from dtpf.evaluation.running import bundle_curves
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import Engines, in_process
from dtpf.pipeline.plan import STAGES, Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.stages import Context
from tests.small import small_config


class Killed(Exception):
    pass


def refuse(*arguments):
    raise AssertionError("this stage was complete")


IDLE = Engines(refuse, refuse, refuse, None)


def run(store: Store, engines: Engines, *settings: str, stages=STAGES, lines=None):
    plan = Plan(small_config(*settings), store)
    write: Callable[[str], None] = lines.append if lines is not None else lambda text: None
    return run_stages(Context(plan, engines, Console(write)), stages)


def pending(store: Store, *settings: str) -> set[str]:
    plan = Plan(small_config(*settings), store)
    steps = {name: plan.step(name) for name in STAGES}
    return {name for name, step in steps.items() if step is None or step.receipt is None}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Store, dict[str, Receipt], list[str]]:
    store, lines = Store(tmp_path_factory.mktemp("done")), []
    return store, run(store, in_process(), lines=lines), lines


def test_a_student_without_a_search_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"nothing to search; run jobs/distill_student.py"):
        run(Store(tmp_path), IDLE, "student.method=restoration", "student.train.crop=64")
    assert not list(tmp_path.iterdir())


def test_every_stage_leaves_its_receipt_and_results(done):
    store, receipts, _ = done
    assert tuple(receipts) == STAGES
    table = store.read_bytes(receipts["evaluate"].outputs["table"]).decode()
    for method in ("mean", "maximum", "laplacian_pyramid", "teacher", "student"):
        assert method in table
    report = store.read_bytes(receipts["evaluate"].outputs["report"]).decode()
    assert "<html" in report
    assert not re.search(r"(src|href)=.?https?:", report)
    current = store.read_json("models/student/current.json")
    served = load_bundle(current["uri"])
    assert served.sha256 == current["sha256"] == receipts["tune"].outputs["sha256"]
    assert not served.model.config.text
    assert bundle_curves("student", served)
    assert served.provenance["captioner"] == "statistics"
    assert served.provenance["text_encoder"] == "hashed"
    assert set(served.metrics) == {"EN", "SF", "VIF", "Qabf", "SSIM"}


def test_losses_and_stages_are_shown(done):
    lines = "\n".join(done[2])
    for number, name in enumerate(STAGES, 1):
        assert f"[{number}/7] {name}:" in lines
    assert "loss" in lines
    assert "100%" in lines


def test_a_second_run_skips_all_but_deployment(done):
    store, receipts, _ = done
    lines: list[str] = []
    again = run(store, IDLE, lines=lines)
    assert sum("skipped" in line for line in lines) == len(STAGES) - 1
    assert {n: r for n, r in again.items() if n != "deploy"} == {
        n: r for n, r in receipts.items() if n != "deploy"
    }


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("data.synthetic.seed=1", "data"),
        ("caption.prompt_version=v2", "caption"),
        ("loss.preset=paper", "teacher"),
        ("teacher.train.learning_rate=0.01", "teacher"),
        ("student.distill.feature=0.3", "student"),
        ("student.model.refinement=0", "student"),
        ("tune.seed=1", "tune"),
        ("evaluation.panels=2", "evaluate"),
    ],
)
def test_a_setting_redoes_its_stage_and_those_after_it(done, setting, first):
    assert pending(done[0], setting) == set(STAGES[STAGES.index(first) :])


@pytest.mark.parametrize(
    "setting",
    ["scaling.workers=4", "tune_resources.concurrent=1", "serve.port=9000", "caption.batch_size=7"],
)
def test_where_work_happens_redoes_nothing(done, setting):
    assert pending(done[0], setting) == set()


def test_a_changed_space_redoes_the_search(done, tmp_path):
    space = tmp_path / "other.yaml"
    space.write_text("parameters:\n  distill.feature: {uniform: [0.1, 0.2]}\n")
    assert pending(done[0], f"tune.space={space}") == {"tune", "evaluate", "deploy"}


def test_a_stage_alone_names_what_it_misses(tmp_path):
    with pytest.raises(UserError, match=r"stage caption has no result.*jobs/caption\.py"):
        run(Store(tmp_path), IDLE, stages=["teacher"])


def test_force_drops_a_stage_and_what_follows(done, tmp_path):
    source = done[0]
    copy = Store(tmp_path)
    for key in source.keys(""):
        copy.write_bytes(key, source.read_bytes(key))
    plan = Plan(small_config(), copy)
    assert plan.forget("tune") == ["tune", "evaluate", "deploy"]
    assert pending(copy) == {"tune", "evaluate", "deploy"}
    with pytest.raises(UserError, match="unknown stage"):
        plan.forget("training")


def test_touching_files_without_change_redoes_only_the_index(tmp_path):
    images = Store(tmp_path / "images")
    write_synthetic(SyntheticConfig(train=3, val=1, test=1, height=64, width=64), images, "x")
    settings = (f"data.source={images.uri_of('x')}", "data.name=mine")
    store = Store(tmp_path / "store")
    run(store, in_process(), *settings, stages=["data", "caption"])
    for path in (tmp_path / "images").rglob("*.png"):
        os.utime(path, (1, 1))
    assert "data" in pending(store, *settings)
    run(store, IDLE, *settings, stages=["data", "caption"])
    victim = next((tmp_path / "images").rglob("visible/*.png"))
    other = next(p for p in (tmp_path / "images").rglob("visible/*.png") if p != victim)
    victim.write_bytes(other.read_bytes())
    run(store, replace(IDLE, caption=in_process().caption), *settings, stages=["data", "caption"])


def test_captions_are_taken_over_when_pairs_come_or_the_embeddings_change(tmp_path, monkeypatch):
    images = Store(tmp_path / "images")
    write_synthetic(SyntheticConfig(train=3, val=1, test=1, height=64, width=64), images, "x")
    settings = [f"data.source={images.uri_of('x')}", "data.name=mine"]
    store, captioned = Store(tmp_path / "store"), []
    caption = ShardWorker._caption
    monkeypatch.setattr(
        ShardWorker,
        "_caption",
        lambda self, pair: captioned.append(pair.pair_id) or caption(self, pair),
    )

    def count(*more):
        captioned.clear()
        receipts = run(store, in_process(), *settings, *more, stages=["data", "caption"])
        assert receipts["caption"].metrics["captioned"] == receipts["data"].metrics["train"] + 2
        return len(captioned)

    assert count() == 5
    assert count("caption.shard_rows=2") == 0
    for name in ("visible", "infrared"):
        folder = tmp_path / "images/x/train" / name
        picture = (folder / "train_00000.png").read_bytes()
        (folder / "new.png").write_bytes(rewritten(picture))
    assert count() == 1
    assert count("caption.infrared_scaling=full") == 6


def rewritten(png: bytes) -> bytes:
    """Return the same picture in other bytes."""
    return encode_png(255 - decode_array(png, "picture"))


def dying(stage: str) -> Engines:
    """Engines that work up to `stage` and die in the middle of it."""
    real = in_process()

    def train(spec, scaling, on_step):
        def die(report):
            if report.step == 2 and spec.task == stage:
                raise Killed
            on_step(report)

        return real.train(spec, scaling, die)

    def search(task, on_trials):
        def die(trials):
            raise Killed

        return real.search(task, die if stage == "tune" else on_trials)

    def caption(task, progress):
        def die(finished, total, failed):
            if stage == "caption":
                raise Killed
            progress(finished, total, failed)

        return real.caption(task, die)

    return Engines(caption, train, search, None)


@pytest.mark.kill
def test_interrupted_in_every_stage_it_ends_like_the_unbroken_run(done, tmp_path):
    store = Store(tmp_path)
    for stage in ("caption", "teacher", "student", "tune"):
        with pytest.raises(Killed):
            run(store, dying(stage))
        assert stage in pending(store)
    receipts = run(store, in_process())
    for stage in ("teacher", "student", "tune"):
        assert receipts[stage].outputs["sha256"] == done[1][stage].outputs["sha256"]
    assert receipts["evaluate"].metrics == done[1]["evaluate"].metrics
    json.dumps(receipts["tune"].as_dict())
