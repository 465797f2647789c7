"""Captions that may be taken over: of another index or encoder, by the same captioner."""

from dtpf.caption.shards import Previous
from dtpf.core.storage.keys import RECEIPT, StageKeys
from dtpf.core.storage.receipts import Receipt
from dtpf.pipeline.plan import Plan


def earlier_captions(plan: Plan, place: StageKeys) -> Previous | None:
    """Return the newest complete captioning of this data set by the same captioner, if any.

    Captioner, revision, wording and how images are read must be the same; pairs may have come,
    gone or changed, and captions may be encoded otherwise.
    """
    prefix, store = place.root.rpartition("/")[0], plan.store
    keys = [key for key in store.keys(prefix) if key.endswith(f"/{RECEIPT}")]
    receipts = [Receipt.parse(store.read_bytes(key), store.uri_of(key)) for key in keys]
    wanted = _wording(plan.settings("caption"))
    alike = [
        receipt
        for receipt in receipts
        if "pairs" in receipt.outputs and _wording(receipt.config) == wanted
    ]
    if not alike:
        return None
    newest = max(alike, key=lambda receipt: receipt.finished)
    outputs, rows = newest.outputs, newest.config["shard_rows"]
    return Previous(outputs["pairs"], outputs["captions"], rows)


def _wording(settings: dict) -> dict:
    return {key: settings.get(key) for key in ("wording", "revision")}
