"""What was run: the facts that a report states about data, networks, code and hardware."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dtpf.core.bundle import Bundle
from dtpf.core.storage.receipts import environment, utc_now
from dtpf.core.storage.store import Store
from dtpf.evaluation.plots import Curve
from dtpf.evaluation.score_table import ScoreTable

LOSSES = "losses.json"


def run_facts(
    table: ScoreTable, data: str, data_fingerprint: str, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the facts that stand at the head of "What was run".

    Args:
        table: the scores.
        data: where the pairs came from.
        data_fingerprint: digest of the contents of the index.
        provenance: of the network that the report is about; `captioner` and `text_encoder` say
            what it was trained with.
    """
    place = environment()
    return {
        "commit": place["commit"],
        "data": data,
        "data fingerprint": data_fingerprint,
        "pairs": len(table.pair_ids),
        "convention": f"{table.convention.name}: {table.convention.statement}",
        "captioner": provenance.get("captioner", "none"),
        "text encoder": provenance.get("text_encoder", "none"),
        "hardware": hardware(),
        "written": utc_now(),
    }


def hardware() -> str:
    """Return the names of this machine's processor and GPUs."""
    names = [environment()["processor"]]
    names += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names)


def bundle_facts(bundle: Bundle) -> dict[str, Any]:
    """Return what a report tells of a network."""
    return {key: value for key, value in bundle.info.items() if key != "metrics"}


def bundle_curves(name: str, bundle: Bundle) -> list[Curve]:
    """Return the loss curves that lie in a bundle or beside it; none if they were not kept."""
    for folder in (bundle.uri, bundle.uri.rpartition("/")[0]):
        store = Store(folder)
        if store.exists(LOSSES):
            return curves_of(name, store.read_json(LOSSES))
    return []


def curves_of(name: str, rows: Sequence[Mapping[str, float]]) -> list[Curve]:
    """Return one curve a term from rows of `step` and terms; the total loss comes first."""
    if not rows:
        return []
    steps = [row["step"] for row in rows]
    terms = sorted((term for term in rows[0] if term != "step"), key=lambda term: term != "loss")
    return [Curve(f"{name}/{term}", steps, [row[term] for row in rows]) for term in terms]
