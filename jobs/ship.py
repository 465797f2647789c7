"""Put a trained network into the package: weights as float16, scores on the test pairs.

python jobs/ship.py BUNDLE NAME --data DIR

From then on its name works wherever a bundle does, as in `dtpf fuse --model NAME`.
"""

from typing import Annotated

import torch
import typer

from dtpf.core.bundle import load_bundle, save_bundle
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
) -> None:
    """Write `dtpf/weights/NAME`."""
    with ending():
        bundle = load_bundle(source)
        store = Store(FOLDER)
        said = dict(line.split("=", 1) for line in note or ())
        notes = {**bundle.provenance, **said, "weights": "float16"}
        save_bundle(store, name, bundle.model, provenance=notes, dtype=torch.float16)
        # Scored as stored: float16 is what users get.
        spec = EvaluationSpec.from_options(data, [f"{name}={FOLDER / name}"], [])
        spec = spec.model_copy(
            update={"evaluation": spec.evaluation.model_copy(update={"metrics": METRICS})}
        )
        table = Session.prepare(spec).run(lambda done, total: None)
        scores = {metric: round(table.mean(name, metric), 4) for metric in METRICS}
        notes["scores"] = f"mean over the {len(table.pair_ids)} test pairs, convention standard"
        save_bundle(
            store, name, bundle.model, provenance=notes, metrics=scores, dtype=torch.float16
        )
        print(f"{FOLDER / name}: {scores}")


if __name__ == "__main__":
    typer.run(ship)
