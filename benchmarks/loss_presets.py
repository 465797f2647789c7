"""Which loss makes the best network of the same start, crops, steps and seeds?

    python benchmarks/loss_presets.py --data DIR [--steps N] [--seeds N] [--presets NAME ...]
                                      [--store DIR] [--json]

Trains the network of `student_1m_cpu` from new weights with each loss preset and each seed on the
training pairs of DIR, all on the same crops, and scores the validation pairs beside the trivial
methods. Prints means over the seeds and standard deviations. What was trained is found again in
`--store`: a run that was ended goes on.
"""

import argparse
import json
import statistics
import sys
import tempfile
from typing import get_args

from pages import table
from prepared import captioned
from robustness import TRIVIAL
from shipped_networks import METRICS

from dtpf.core.config import apply_overrides
from dtpf.core.losses import LossConfig
from dtpf.core.storage.store import Store
from dtpf.evaluation.session import EvaluationSpec, Session
from dtpf.pipeline.config import PipelineConfig
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.specs import teacher_spec
from dtpf.recipes import recipe
from dtpf.training.group import current_group
from dtpf.training.run import run_training

PRESETS = get_args(LossConfig.model_fields["preset"].annotation)
SETTINGS = ("batch=4", "crop=96", "dimmed=0", "softened=0", "grainy=0", "warmup=20")


def main() -> None:
    """Parse, train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--store", help="where results go and are found again; default: temporary")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    steps = [f"{name}={options.steps}" for name in ("steps", "validate_every")]
    settings = [f"teacher.train.{setting}" for setting in (*SETTINGS, *steps)]
    settings += [f"data.source={json.dumps(options.data)}", "data.name=pairs"]
    config = apply_overrides(recipe("student_1m_cpu"), settings)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(options.store or scratch)
        report = measure(config, store, options.presets, options.seeds)
    print(json.dumps(report, indent=2) if options.json else as_table(report))


def measure(config: PipelineConfig, store: Store, presets: list[str], seeds: int) -> dict:
    """Train every preset with every seed, and score all of them and the trivial methods."""
    plan = captioned(config, store, _progress)
    bundles = {
        f"{preset}-{seed}": train(plan, preset, seed) for seed in range(seeds) for preset in presets
    }
    methods = [*TRIVIAL, *(f"{name}={uri}" for name, uri in bundles.items())]
    settings = [f"evaluation.metrics={json.dumps(METRICS)}", "evaluation.split=val"]
    spec = EvaluationSpec.from_options(config.data.source, methods, settings)
    found = Session.prepare(spec).run(lambda done, total: None)
    scores = {name: {m: found.mean(name, m) for m in METRICS} for name in found.methods}
    trained = {
        preset: spread([scores[f"{preset}-{seed}"] for seed in range(seeds)]) for preset in presets
    }
    train_config = config.teacher.train
    return {
        "steps": train_config.steps,
        "batch": train_config.batch,
        "crop": train_config.crop,
        "seeds": seeds,
        "pairs": len(found.pair_ids),
        "trivial": {name: scores[name] for name in found.methods if name not in bundles},
        "presets": trained,
    }


def train(plan: Plan, preset: str, seed: int) -> str:
    """Train one network and return the URI of its bundle."""
    root = f"presets/{plan.config.teacher.train.steps}/{preset}-{seed}"
    _progress(root)
    loss = LossConfig.parse({"preset": preset}, "loss")
    spec = teacher_spec(
        plan.config.model_copy(update={"loss": loss}),
        plan.store.uri,
        root,
        plan.need("data"),
        plan.need("caption"),
    )
    run_training(apply_overrides(spec, [f"train.seed={seed}"]), current_group())
    return plan.store.uri_of(f"{root}/bundle")


def spread(rows: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation of each metric over the seeds."""
    columns = {metric: [row[metric] for row in rows] for metric in METRICS}
    return {
        metric: {
            "mean": statistics.fmean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
        for metric, values in columns.items()
    }


def as_table(report: dict) -> str:
    """Return a Markdown table: means, and deviations in brackets."""
    rows = [
        [name, *(f"{row[metric]:.3f}" for metric in METRICS)]
        for name, row in report["trivial"].items()
    ]
    rows += [
        [f"`{name}`", *(_text(row[metric]) for metric in METRICS)]
        for name, row in report["presets"].items()
    ]
    return table(["", *METRICS], rows)


def _text(found: dict[str, float | None]) -> str:
    deviation = found["deviation"]
    return f"{found['mean']:.3f}" + ("" if deviation is None else f" ({deviation:.3f})")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
