"""The paper's claims in miniature: text helps the teacher, the teacher helps the student.

    python benchmarks/paper_claims.py [--claims NAME ...] [--steps N] [--teacher-steps N]
                                      [--seeds N] [--val N] [--store DIR] [--json]

Four networks a seed, trained as `tiny_cpu` does on synthetic scenes, half of them degraded:
teachers with and without text, students with and without the first as their teacher. Both sides
of a comparison have the same steps, crops, loss and initial seed. Scores are the retention metrics
on validation pairs against their clean originals, and the loss there that teachers are trained on.
Holds where the mean gain of the metrics over the seeds is positive.

The teacher trains longer, as it has more to learn and nothing is learned from one that knows no
more; and its fused image weighs more than in equation (19), whose weights leave it 0.02% of the
loss here. `--teacher-steps 100 --set student.distill.result=1` shows what comes of that.
"""

import argparse
import json
import statistics
import sys
import tempfile

from held_out import held_out_loss
from prepared import captioned

from dtpf.core.config import apply_overrides
from dtpf.core.storage.store import Store
from dtpf.pipeline.config import PipelineConfig
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.specs import student_spec, teacher_spec
from dtpf.recipes import recipe
from dtpf.training.config import TrainSpec
from dtpf.training.group import current_group
from dtpf.training.run import run_training

LOSS = "loss"
Scores = dict[str, list[dict[str, float]]]  # of every network, seed by seed

CLAIMS = {
    "text": ("teacher", "teacher_without_text"),
    "distillation": ("student", "student_without_teacher"),
}


def main() -> None:
    """Parse, train, print; exit code 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--claims", nargs="+", choices=list(CLAIMS), default=list(CLAIMS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--teacher-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--val", type=int, default=24, help="validation pairs")
    parser.add_argument("--store", help="where results go and are found again; default: temporary")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = [f"data.synthetic.val={options.val}"]
    settings += [f"teacher.train.steps={options.teacher_steps}", "student.distill.result=100"]
    settings += [f"student.train.steps={options.steps}"]
    config = apply_overrides(recipe("tiny_cpu"), [*settings, *options.set])
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(config, Store(options.store or scratch), options.seeds, options.claims)
    print(json.dumps(report, indent=2) if options.json else as_lines(report))
    sys.exit(0 if all(claim["holds"] for claim in report["claims"].values()) else 1)


def measure(config: PipelineConfig, store: Store, seeds: int, names: list[str]) -> dict:
    """Train what the claims need and compare seed by seed."""
    needed = {"teacher", *(network for name in names for network in CLAIMS[name])}
    plan = captioned(config, store, _progress)
    scores: Scores = {}
    for seed in range(seeds):
        for name, spec in specs(plan, seed).items():
            if name not in needed:
                continue
            scores.setdefault(name, []).append(train(spec))
            _progress(f"seed {seed}, {name}: {scores[name][-1]}")
    claims = {name: compare(scores, *CLAIMS[name]) for name in names}
    steps = {"teacher": config.teacher.train.steps, "student": config.student.train.steps}
    return {"steps": steps, "claims": claims, "scores": scores}


def train(spec: TrainSpec) -> dict[str, float]:
    """Train a network, and return its metrics and its fusion loss on validation pairs."""
    scores = run_training(spec, current_group()).scores
    return {**scores, LOSS: held_out_loss(spec)}


def specs(plan: Plan, seed: int) -> dict[str, TrainSpec]:
    """Return the four trainings of a seed; the students come after their teacher."""
    data, caption = plan.need("data"), plan.need("caption")
    uri, root = plan.store.uri, f"claims/{plan.config.teacher.train.steps}-{seed}"
    teacher = teacher_spec(plan.config, uri, f"{root}/teacher", data, caption)
    teacher = apply_overrides(teacher, [f"train.seed={seed}"])
    blind = apply_overrides(teacher, ["model.text=false"])
    outputs = {"bundle": f"{root}/teacher/bundle", "sha256": ""}
    receipt = caption.model_copy(update={"outputs": outputs})
    student = student_spec(plan.config, uri, f"{root}/student", data, caption, receipt)
    student = apply_overrides(student, [f"train.seed={seed}"])
    alone = apply_overrides(student, ["distill.feature=0", "distill.result=0"])
    return {
        "teacher": teacher,
        "teacher_without_text": blind.model_copy(update={"root": f"{root}/blind"}),
        "student": student,
        "student_without_teacher": alone.model_copy(update={"root": f"{root}/alone"}),
    }


def compare(scores: Scores, ours: str, other: str) -> dict:
    """Return the gain of each metric and of their mean ratio, with its spread over the seeds."""
    pairs = list(zip(scores[ours], scores[other], strict=True))
    metrics = [name for name in pairs[0][0] if name != LOSS]
    ratios = [statistics.fmean(a[name] / b[name] for name in metrics) - 1 for a, b in pairs]
    gains = {name: statistics.fmean(a[name] - b[name] for a, b in pairs) for name in metrics}
    return {
        "gain_percent": [round(100 * ratio, 3) for ratio in ratios],
        "mean_percent": round(100 * statistics.fmean(ratios), 3),
        "spread_percent": round(100 * statistics.stdev(ratios), 3) if len(ratios) > 1 else None,
        "gains": {name: round(gain, 4) for name, gain in gains.items()},
        "loss_change_percent": [round(100 * (a[LOSS] / b[LOSS] - 1), 2) for a, b in pairs],
        "holds": statistics.fmean(ratios) > 0,
    }


def as_lines(report: dict) -> str:
    """Return one line a claim."""
    return "\n".join(f"{name}: {claim}" for name, claim in report["claims"].items())


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
