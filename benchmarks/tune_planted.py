"""Does the search find an optimum that is known, for a fraction of what the full grid costs?

    python benchmarks/tune_planted.py [--json] [--seeds N] [--planted-only]

1. Planted: a formula with a known maximum stands in for training, over 3125 settings; the winner
   of each seed is compared with the best of the whole grid. Random search stands beside it.
2. Real: students of seven widths are distilled on synthetic scenes, all of them to the end, and
   then again by the search with early stopping on a local Ray.

Cost is what training costs: steps times FLOPs of the student. Done when the winner is within 2% of
the best and the search cost at most a third of the grid.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from dtpf.core.config import apply_overrides
from dtpf.core.models import ModelConfig, measure_cost
from dtpf.core.storage.store import Store
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import in_process
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.specs import search_target
from dtpf.pipeline.stages import Context
from dtpf.pipeline.tuning import search_task
from dtpf.recipes import recipe
from dtpf.tuning.config import TuneConfig, TuneResources
from dtpf.tuning.search import search_in_process
from dtpf.tuning.space import Domain, Setting, Space, override
from dtpf.tuning.trials import RoundReport, SearchTask, Trial
from dtpf.tuning.winner import choose_finalists

WITHIN, SHARE = 0.02, 1 / 3
# Where the planted peak lies, and how steeply retention falls with the distance from it: squared,
# in decades for weights and in shares for the width.
PEAK = {
    "model.width": (10, 0.4),
    "distill.base": (0.3, 0.10),
    "distill.feature": (0.1, 0.08),
    "distill.result": (3.0, 0.06),
    "loss.scale.gradient": (1.0, 0.30),
}
PLANTED = Space(
    "planted",
    {
        "model.width": Domain("choice", (4, 6, 8, 10, 12)),
        "distill.base": Domain("choice", (0.03, 0.1, 0.3, 1.0, 3.0)),
        "distill.feature": Domain("choice", (0.01, 0.03, 0.1, 0.3, 1.0)),
        "distill.result": Domain("choice", (0.1, 0.3, 1.0, 3.0, 10.0)),
        "loss.scale.gradient": Domain("choice", (0.25, 0.5, 1.0, 2.0, 4.0)),
    },
)
TRIALS = 80
WIDTHS = Space("widths", {"model.width": Domain("choice", tuple(range(4, 17, 2)))})
# Small enough for minutes on two cores; a teacher that the widest student may equal.
REAL = (
    "data.synthetic.train=6",
    "data.synthetic.val=2",
    "data.synthetic.test=1",
    "data.synthetic.height=64",
    "data.synthetic.width=64",
    "teacher.model.width=16",
    "teacher.train.steps=20",
    "teacher.train.crop=32",
    "student.train.steps=12",
    "student.train.crop=32",
)
LENGTHS = {"steps": 12, "rounds": 6, "max_parameter_share": 1.0}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--planted-only", action="store_true", help="leave out the training")
    options = parser.parse_args()
    report = {name: planted(name, options.seeds) for name in ("optuna", "random")}
    if not options.planted_only:
        report["real"] = real()
    print(json.dumps(report, indent=2) if options.json else as_lines(report))


def planted(search: str, seeds: int) -> dict:
    """Search the planted space with each seed; the worst and the median are reported."""
    with tempfile.TemporaryDirectory() as folder:
        grid = PLANTED.grid()
        task = planted_task(Path(folder), search, 0)
        best = max(quality(setting) for setting in grid)
        grid_cost = sum(cost(task, setting, task.config.rounds) for setting in grid)
        rows = []
        for seed in range(seeds):
            task = planted_task(Path(folder), search, seed)
            trials = search_in_process(task, run=formula)
            winner = choose_finalists(task, trials)[0]
            spent = sum(cost(task, trial.setting, task.config.rounds) for trial in trials)
            rows.append((1 - quality(winner.setting) / best, spent / grid_cost))
    return {
        "settings": len(grid),
        "trials": task.config.trials,
        "seeds": seeds,
        "loss_median": round(statistics.median(loss for loss, _ in rows), 4),
        "loss_worst": round(max(loss for loss, _ in rows), 4),
        "cost_share_worst": round(max(share for _, share in rows), 3),
        "seeds_within": sum(loss <= WITHIN and share <= SHARE for loss, share in rows),
    }


def planted_task(folder: Path, search: str, seed: int) -> SearchTask:
    """Return a search whose trials cost nothing."""
    config = TuneConfig(
        search=search,
        trials=TRIALS,
        startup=10,
        steps=4,
        rounds=1,
        max_parameter_share=1.0,
        seed=seed,
    )
    base = search_target(recipe("tiny_cpu")).model_copy(
        update={"store": folder.as_uri(), "root": f"runs/planted/search-{search}-{seed}"}
    )
    scores = {"VIF": 1.0, "Qabf": 1.0, "SSIM": 1.0}
    return SearchTask(base, PLANTED, config, TuneResources(), scores, 10**8)


def quality(setting: Setting) -> float:
    """Return the planted retention, 1 at the peak."""
    fall = 0.0
    for name, (best, steepness) in PEAK.items():
        ratio = setting[name] / best
        distance = ratio - 1 if name == "model.width" else math.log10(ratio)
        fall += steepness * distance**2
    return 1.0 - fall


def formula(task: SearchTask, trial: Trial, group: object, on_round) -> None:
    """Stand in for training: report the planted quality at once."""
    value = quality(trial.setting)
    on_round(RoundReport(1, task.steps_per_round, value, {"VIF": value}))


def real() -> dict:
    """Distil every width, then search; both on the same scenes and with the same teacher."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(Path(folder))
        every = search_in_process(real_task(prepared, "grid", "none", len(WIDTHS.grid())))
        best = max(trial.retention or 0.0 for trial in every)
        task = real_task(prepared, "optuna", "asha", 4)
        found = search_with_ray(task)
        winner = choose_finalists(task, found)[0]
        known = next(trial for trial in every if trial.setting == winner.setting)
        loss = 1 - (known.retention or 0.0) / best
        share = _spent(task, found) / _spent(task, every)
    return {
        "retention_by_width": {
            str(trial.setting["model.width"]): round(trial.retention or 0.0, 4) for trial in every
        },
        "trials": [[t.setting["model.width"], t.status, t.steps] for t in found],
        "winner": winner.setting["model.width"],
        "loss": round(loss, 4),
        "cost_share": round(share, 3),
        "within": loss <= WITHIN and share <= SHARE,
    }


def prepare(folder: Path) -> SearchTask:
    """Make scenes, captions, a teacher and an untuned student."""
    plan = Plan(apply_overrides(recipe("tiny_cpu"), REAL), Store(folder))
    context = Context(plan, in_process(), Console(lambda text: None))
    run_stages(context, ("data", "caption", "teacher", "student"))
    return search_task(context)


def real_task(prepared: SearchTask, search: str, stopping: str, trials: int) -> SearchTask:
    """Return a search over width."""
    config = TuneConfig(search=search, stopping=stopping, trials=trials, startup=3, **LENGTHS)
    base = prepared.base.model_copy(update={"root": f"runs/tiny/search-{search}"})
    resources = TuneResources(workers=0, concurrent=1)
    return replace(prepared, base=base, space=WIDTHS, config=config, resources=resources)


def search_with_ray(task: SearchTask) -> list[Trial]:
    """Search on a Ray of its own, which ends with it."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    from dtpf import on_ray
    from dtpf.tuning.on_ray import search_on_ray

    on_ray.connect()
    try:
        return search_on_ray(task)
    finally:
        on_ray.disconnect()


def cost(task: SearchTask, setting: Setting, steps: int) -> float:
    """Return steps times FLOPs of the setting's student."""
    return steps * _flops(override(task.base, setting).model)


@lru_cache
def _flops(model: ModelConfig) -> int:
    return measure_cost(model, 64, 64).flops


def _spent(task: SearchTask, trials: Sequence[Trial]) -> float:
    return sum(cost(task, trial.setting, trial.steps) for trial in trials)


def as_lines(report: dict) -> str:
    """Return one line per search."""
    lines = [
        f"{name:<8}{part['trials']} of {part['settings']} settings: {part['seeds_within']} of "
        f"{part['seeds']} seeds within {WITHIN:.0%} for a third; worst loss "
        f"{part['loss_worst']:.2%}, worst cost {part['cost_share_worst']:.0%} of the grid"
        for name, part in report.items()
        if name != "real"
    ]
    if "real" in report:
        part = report["real"]
        lines += [
            f"real    winner of width {part['winner']}: {part['loss']:.2%} below the best of "
            f"{len(part['retention_by_width'])} for {part['cost_share']:.0%} of the grid's cost",
            f"        retention by width {part['retention_by_width']}",
            f"        trials {part['trials']}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
