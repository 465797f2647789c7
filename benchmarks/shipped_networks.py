"""The tables of the shipped networks beside trivial methods and peers, from real pairs.

    python benchmarks/shipped_networks.py --data DIR [--only TABLE ...] [--update PAGE]

DIR has `roadscene`, `msrs`, `harvard/KIND` (folders of pairs) and `peers/roadscene_test.csv`, with
scores of peers for each pair. Minutes, most of them for `degraded`. docs/models.md has the tables;
`--update` writes them there, each after its mark. Two columns bound what metrics do not see: `flat`
is the grain of flat regions, `alternating` what changes its sign from pixel to pixel, both beside
the source that has more of it: mean over the pairs, worst in brackets.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pages import table, updated
from robustness import METHODS, TRIVIAL, fused_as_stored, measure
from torch import Tensor

from dtpf.core.metrics import score
from dtpf.core.ops.color import luminance
from dtpf.evaluation.batches import Batch
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.session import EvaluationSpec, Session

METRICS = ("EN", "SF", "VIF", "Qabf", "SSIM", "Nabf")
CLEAN = [*METHODS, "roadscene_50k"]  # on clean pairs: it restores nothing
NAMES = {"max": "per-pixel maximum", "laplacian": "Laplacian pyramid"}
_SCORED_HERE = ("max", "mean")  # in the peers' file; ours are scored here
SEVERITY = 0.6
EVERY_NTH = 3  # every so many pairs are degraded: fifteen kinds take long
_WINDOW = 7  # pixels a side in which grain is measured
_FLAT = 0.2  # share of an image's pixels that count as flat: where neither source has much

Rows = dict[str, np.ndarray]  # of each method: pairs x (metrics, flat, alternating)


def session_of(data: Path, methods: Sequence[str]) -> Session:
    """Return methods and test pairs of a folder."""
    return Session.prepare(EvaluationSpec.from_options(str(data), methods, []))


def rows_of(data: Path, methods: Sequence[str]) -> Rows:
    """Return the scores of every method on the test pairs of a folder."""
    session = session_of(data, methods)
    rows: dict[str, list[list[float]]] = {method.name: [] for method in session.methods}
    for pair in session.pairs:
        batch = load_pair(pair)
        for method in session.methods:
            fused = fused_as_stored(method, batch)
            found = score(fused, batch.visible, batch.infrared, METRICS)
            planes = planes_of(fused, batch)
            bounds = flat_grain(*planes), ratio(*map(alternation, planes))
            rows[method.name].append([*(found[name].item() for name in METRICS), *bounds])
    return {name: np.array(values) for name, values in rows.items()}


def planes_of(fused_B3HW: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return fused image, visible and infrared as (B, 1, H, W)."""
    return luminance(fused_B3HW), luminance(batch.visible), batch.infrared


def flat_grain(fused_B1HW: Tensor, *sources_B1HW: Tensor) -> float:
    """Return the fused image's grain in flat regions over that of the rougher source.

    What has no grain at all in either source, as around medical slices, is left out.
    """
    grains = [grain(source) for source in sources_B1HW]
    busiest = torch.maximum(*grains)
    grainy = busiest > 1e-6
    flat = grainy & (busiest <= torch.quantile(busiest[grainy], _FLAT))
    return ratio(*(float(each[flat].mean()) for each in (grain(fused_B1HW), *grains)))


def grain(image_B1HW: Tensor) -> Tensor:
    """Return the standard deviation in each window."""
    mean = torch.nn.functional.avg_pool2d(image_B1HW, _WINDOW, 1)
    square = torch.nn.functional.avg_pool2d(image_B1HW.square(), _WINDOW, 1)
    return (square - mean.square()).clamp(min=0.0).sqrt().flatten()


def alternation(image_B1HW: Tensor) -> float:
    """Return the RMS of what changes its sign from pixel to pixel in both directions."""
    return float(image_B1HW.diff(dim=2).diff(dim=3).square().mean().sqrt())


def ratio(fused: float, *sources: float) -> float:
    """Return the fused value beside the larger of the sources'."""
    return fused / max(*sources)


def scores_table(rows: Rows, peers: Sequence[Sequence[str]] = ()) -> str:
    """Return one line for each method, the networks last."""
    lines = [_line(name, values) for name, values in rows.items()]
    ordered = [*(line for line in lines if line[0] in NAMES.values()), *peers]
    networks = [line for line in lines if line[0] not in NAMES.values()]
    return table(["", *METRICS, "flat", "alternating"], [*ordered, *networks])


def _line(name: str, values: np.ndarray) -> list[str]:
    count = len(METRICS)
    means = map(_text, METRICS, values[:, :count].mean(axis=0))
    bounds = zip(values[:, count:].mean(axis=0), values[:, count:].max(axis=0), strict=True)
    return [NAMES.get(name, f"`{name}`"), *means, *(f"{m:.2f} ({w:.2f})" for m, w in bounds)]


def _text(metric: str, value: float) -> str:
    return f"{value:.{2 if metric == 'SF' else 3}f}"


def peer_lines(path: Path) -> list[list[str]]:
    """Return the means of the peers' scores; a metric that they have no scores of stays empty."""
    with path.open() as file:
        scores = list(csv.DictReader(file))
    lines = []
    for method in dict.fromkeys(row["method"] for row in scores):
        if method in _SCORED_HERE:
            continue
        own = [row for row in scores if row["method"] == method]
        known = [name for name in METRICS if name in own[0]]
        means = {n: _text(n, np.mean([float(row[n]) for row in own])) for n in known}
        lines.append([method, *(means.get(name, "") for name in METRICS), "", ""])
    return lines


def roads(data: Path) -> str:
    """Return the table of RoadScene's test pairs, peers included."""
    peers = peer_lines(data / "peers" / "roadscene_test.csv")
    return scores_table(rows_of(data / "roadscene", CLEAN), peers)


def medical(kind: str) -> Callable[[Path], str]:
    """Return what makes the table of one kind of medical pairs."""
    network = f"harvard_{kind.replace('-', '_')}"
    return lambda data: scores_table(rows_of(data / "harvard" / kind, [network, *TRIVIAL]))


def degraded(data: Path) -> str:
    """Return the shares of their clean scores that methods keep on degraded pairs."""
    session = session_of(data / "roadscene", METHODS)
    report = measure(session.methods, session.pairs[::EVERY_NTH], SEVERITY)
    rows = [*report["kept"].items(), ("mean", report["mean"])]
    head = ["", *(NAMES.get(name, f"`{name}`") for name in METHODS)]
    return table(head, [[kind, *(f"{row[name]:.2f}" for name in METHODS)] for kind, row in rows])


TABLES: dict[str, Callable[[Path], str]] = {
    "roadscene": roads,
    "msrs": lambda data: scores_table(rows_of(data / "msrs", CLEAN)),
    **{kind: medical(kind) for kind in ("pet-mri", "spect-mri", "ct-mri")},
    "degraded": degraded,
}


def main() -> None:
    """Parse, score, print or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--only", action="append", choices=TABLES, default=[])
    parser.add_argument("--update", type=Path, metavar="PAGE")
    options = parser.parse_args()
    for name in options.only or TABLES:
        text = TABLES[name](options.data)
        print(f"{name}\n\n{text}", flush=True)
        if options.update:
            page = options.update.read_text()
            options.update.write_text(updated(page, "shipped", {name: text}))


if __name__ == "__main__":
    main()
