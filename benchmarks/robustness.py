"""How much of their scores do methods keep when the pairs are degraded?

    python benchmarks/robustness.py --data DIR [--method NAME|NAME=BUNDLE ...] [--severity S]
                                    [--limit N] [--json]

Every test pair is degraded in each known way (`dtpf/data/degrade.py`), alone and seeded, stored as
8 bits, fused by every method, and scored against its clean sources. Printed is the share of the
method's own clean score that is left: the mean over VIF, Qabf and SSIM of the ratio of means; and
the scores of the clean pairs. More than 1 is possible: where one source is spoilt, the result is
nearer to the other one, and the metrics add up what is kept of both.
"""

import argparse
import json
import sys

import numpy as np
import torch
from caption_accuracy import as_stored

from dtpf.core.metrics import RETENTION_METRICS, retention_shares, score
from dtpf.core.records import DEGRADATIONS, Degradation, Pair
from dtpf.data.degrade import apply
from dtpf.evaluation.batches import Batch
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import Method
from dtpf.evaluation.session import EvaluationSpec, Session

TRIVIAL = ["max", "laplacian"]
METHODS = ["roadscene_2m", "roadscene_1m", *TRIVIAL]
EVERY = [(modality, kind) for modality, kinds in DEGRADATIONS.items() for kind in kinds]

Scores = dict[str, dict[str, float]]  # of each method, its mean in each metric


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", action="append", help=f"default: {', '.join(METHODS)}")
    parser.add_argument("--severity", type=float, default=0.6, help="3 on a scale of 5")
    parser.add_argument("--limit", type=int, default=30, help="pairs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec = EvaluationSpec.from_options(options.data, options.method or METHODS, [])
    session = Session.prepare(spec)
    report = measure(session.methods, session.pairs[: options.limit], options.severity)
    print(json.dumps(report, indent=2) if options.json else as_table(report))


def measure(methods: list[Method], pairs: list[Pair], severity: float) -> dict:
    """Return clean scores, and the share of them that each kind of degradation leaves."""
    clean = mean_scores(methods, pairs, ())
    kept: dict[str, dict[str, float]] = {}
    for modality, kind in EVERY:
        degradation = Degradation(modality, kind, severity)
        found = mean_scores(methods, pairs, (degradation,))
        kept[degradation.name] = {name: share(found[name], clean[name]) for name in found}
        print(degradation.name, kept[degradation.name], file=sys.stderr, flush=True)
    names = [method.name for method in methods]
    return {
        "pairs": len(pairs),
        "severity": severity,
        "clean": clean,
        "kept": kept,
        "mean": {name: float(np.mean([row[name] for row in kept.values()])) for name in names},
        "least": {name: min(row[name] for row in kept.values()) for name in names},
    }


def mean_scores(
    methods: list[Method], pairs: list[Pair], degradations: tuple[Degradation, ...]
) -> Scores:
    """Return every method's means over the pairs, each degraded with a seed of its own."""
    rows: dict[str, list[list[float]]] = {method.name: [] for method in methods}
    for number, pair in enumerate(pairs):
        clean = load_pair(pair)
        spoilt = degraded(clean, degradations, np.random.default_rng((0, number)))
        for method in methods:
            fused = fused_as_stored(method, spoilt)
            found = score(fused, clean.visible, clean.infrared, RETENTION_METRICS)
            rows[method.name].append([found[name].item() for name in RETENTION_METRICS])
    return {
        name: dict(zip(RETENTION_METRICS, np.mean(values, axis=0).tolist(), strict=True))
        for name, values in rows.items()
    }


def fused_as_stored(method: Method, batch: Batch) -> torch.Tensor:
    """Return what a method makes of a pair, rounded to 8 bits as a file holds it."""
    return (255 * method.fuse(batch)).round() / 255


def degraded(
    batch: Batch, degradations: tuple[Degradation, ...], rng: np.random.Generator
) -> Batch:
    """Return one pair with its degradations, rounded to 8 bits."""
    pair = batch.visible[0].permute(1, 2, 0).numpy(), batch.infrared[0, 0].numpy()
    seen, heat = (torch.from_numpy(as_stored(image)) for image in apply(pair, degradations, rng))
    return Batch(batch.pairs, seen.permute(2, 0, 1)[None], heat[None, None])


def share(found: dict[str, float], clean: dict[str, float]) -> float:
    """Return the mean share over the metrics."""
    return float(np.mean(list(retention_shares(found, clean).values())))


def as_table(report: dict) -> str:
    """Return the shares for people."""
    names = list(report["clean"])
    lines = [f"{'share of the clean score':28}" + "".join(f"{name:>16}" for name in names)]
    for kind, row in [*report["kept"].items(), ("mean", report["mean"])]:
        lines.append(f"{kind:28}" + "".join(f"{row[name]:16.3f}" for name in names))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
