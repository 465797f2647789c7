"""Put a trained network into the package: weights as float16, scores on the test pairs.

python jobs/ship.py BUNDLE NAME --data DIR

From then on its name works wherever a bundle does, as in `dtpf fuse --model NAME`.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from dtpf.core.bundle import load_bundle, save_bundle
from dtpf.core.errors import UserError
from dtpf.core.shipped import FOLDER
from dtpf.core.storage.store import Store
from dtpf.evaluation.session import EvaluationSpec, Session
from jobs.common import ending

METRICS = ("EN", "SF", "VIF", "Qabf", "SSIM", "Nabf")


def ship(
    source: Annotated[str, typer.Argument(metavar="BUNDLE", help="Path or URI.")],
    name: Annotated[str, typer.Argument(help="What it is called from then on.")],
    data: Annotated[str, typer.Option(help="Pairs; it is scored on their test split.")],
    note: Annotated[
        list[str] | None, typer.Option(metavar="KEY=TEXT", help="A line for its card.")
    ] = None,
    into: Annotated[Path, typer.Option(help="Folder of the networks.")] = FOLDER,
) -> None:
    """Write `dtpf/weights/NAME`."""
    with ending():
        bundle = load_bundle(source)
        notes = {**bundle.provenance, **_notes(note or ()), "weights": "float16"}
        with tempfile.TemporaryDirectory() as scratch:
            # Scored as stored: float16 is what users get.
            save_bundle(Store(scratch), name, bundle.model, provenance=notes, dtype=torch.float16)
            scores, pairs = _scores(data, f"{name}={scratch}/{name}")
        notes["scores"] = f"mean over the {pairs} test pairs, convention standard"
        save_bundle(
            Store(into), name, bundle.model, provenance=notes, metrics=scores, dtype=torch.float16
        )
        print(f"{into / name}: {scores}")


def _notes(lines: Sequence[str]) -> dict[str, str]:
    for line in lines:
        if "=" not in line:
            raise UserError(f"--note {line!r}: expected KEY=TEXT")
    return dict(line.split("=", 1) for line in lines)


def _scores(data: str, method: str) -> tuple[dict[str, float], int]:
    """Return the mean of each metric, and the number of pairs."""
    settings = [f"evaluation.metrics={json.dumps(METRICS)}"]
    table = Session.prepare(EvaluationSpec.from_options(data, [method], settings)).run(
        lambda done, total: None
    )
    means = {metric: round(table.mean(table.methods[0], metric), 4) for metric in METRICS}
    return means, len(table.pair_ids)


if __name__ == "__main__":
    typer.run(ship)
