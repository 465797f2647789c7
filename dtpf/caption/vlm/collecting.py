"""Answers in any order to whole shards: published, or kept as drafts until asked again."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dtpf.caption.captioner import maker_of
from dtpf.caption.shards import CaptionTask, Shard
from dtpf.caption.vlm.answers import UnusableAnswer, read_answer
from dtpf.caption.vlm.drafts import Drafts
from dtpf.core.errors import UserError
from dtpf.core.records import Caption


class Collector:
    """Holds the rows of shards that are not complete, few at a time, and writes those that are.

    Args:
        task: what is captioned.
        shards: those that are asked about now.
        last: whether a pair without a usable answer gets a row that says so, or another try.
    """

    def __init__(self, task: CaptionTask, shards: Mapping[int, Shard], last: bool) -> None:
        self._task = task
        self._shards = shards
        self._last = last
        self._maker = maker_of(task.config)
        self._drafts = Drafts(task)
        self._open: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        self._closed: set[int] = set()
        self.answered = 0
        self.failed = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take a row as `Finishing` returns it; one that comes twice counts once.

        Raises:
            UserError: a worker found what ends the run.
        """
        if row["fatal"]:
            raise UserError(row["fatal"])
        if row["shard"] in self._closed:
            return
        rows = self._open[row["shard"]]
        self.answered += row["place"] not in rows
        rows[row["place"]] = row
        if len(rows) == row["rows"]:
            self._closed.add(row["shard"])
            self._close(self._shards[row["shard"]], self._open.pop(row["shard"]))

    def _close(self, shard: Shard, rows: Mapping[int, dict[str, Any]]) -> None:
        captions = [self._caption(rows[place]) for place in sorted(rows)]
        usable = [row for row in captions if self._last or not _to_ask_again(row)]
        if len(usable) == len(shard):
            self._task.publish(shard, usable)
            self._drafts.delete(shard)
        else:
            self._drafts.write(shard, usable)
        self.failed += sum(row.status != "ok" for row in captions)

    def _caption(self, row: dict[str, Any]) -> Caption:
        if row["ready"]:
            return Caption.from_row(json.loads(row["ready"]))
        if row["error"]:
            line = " ".join(row["error"].split())
            return self._maker.failed(row["pair_id"], f"engine: {line}"[:300])
        try:
            found, text = read_answer(row["text"], row["tokens"], self._task.config.vlm.max_tokens)
        except UnusableAnswer as error:
            return self._maker.failed(row["pair_id"], str(error))
        return self._maker.row(row["pair_id"], text, found)


_FROM_ENGINE = ("truncated", "invalid", "engine")


def _to_ask_again(caption: Caption) -> bool:
    return caption.status.partition(":")[0] in _FROM_ENGINE
