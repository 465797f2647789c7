"""Pairs of image files to fused image files: each whole or not at all, none fused twice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from time import monotonic
from typing import Any

from dtpf.cameras.checks import Checks
from dtpf.cameras.engines import Engine, in_order
from dtpf.cameras.prepare import Prepared, Rig
from dtpf.core.config import fingerprint
from dtpf.core.errors import UserError
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_array, encode

_LEARNED = 32  # infrared images that a sequence's range is taken from
_ALIGNED = 3  # pairs whose alignment is measured: the first, one amid, the last
_KEPT_EVERY_S = 5.0


@dataclass(frozen=True)
class Job:
    """One pair of image files and the file that is to hold their fusion, as URIs.

    `stamp` changes when one of the two files does.
    """

    visible: str
    infrared: str
    out: str
    stamp: str = ""


@dataclass
class BatchResult:
    """What became of the jobs."""

    fused: int = 0
    skipped: int = 0
    failures: list[UserError] = field(default_factory=list)
    checks: Checks = field(default_factory=Checks)


@dataclass(frozen=True)
class _Item:
    job: Job
    prepared: Prepared


def fuse_one(job: Job, rig: Rig, engine: Engine, checks: Checks | None = None) -> Prepared:
    """Fuse one pair and write the picture; beside it `OUT.json` where pixels were changed before.

    Raises:
        UserError: the pair cannot be fused, or the picture not be written.
    """
    prepared = _load(job, rig)
    ((item, result),) = in_order(engine, [_Item(job, prepared)], _pair)
    if isinstance(result, UserError):
        raise _named(result, job)
    _write(item, result, rig)
    if checks is not None:
        checks.remark(prepared.remarks)
        checks.result(rig.finish(result, prepared), prepared, job.out)
        checks.alignment(prepared, job.visible)
    if prepared.changed:
        folder, _, name = job.out.rpartition("/")
        facts = {"engine": engine.identity, "camera": rig.config.as_dict(), **prepared.as_dict()}
        Store(folder).write_json(f"{name}.json", facts)
    return prepared


def fuse_folder(
    jobs: Sequence[Job],
    record: str,
    rig: Rig,
    engine: Engine,
    fresh: bool = False,
    checked: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> BatchResult:
    """Fuse many pairs; those that fail are gathered, those that an earlier run fused are skipped.

    Args:
        jobs: what to fuse.
        record: URI of a JSON file that says what was done to each; it is what a later run
            goes on from, as long as cameras, network and files are the same.
        rig: how pairs are prepared.
        engine: what fuses them.
        fresh: fuse all, whatever the record says.
        checked: look for results and pairs that deserve a warning.
        progress: is told how many are through.
    """
    if rig.scaler.wants_frames:
        _learn(jobs, rig)
    ledger = _Ledger(record, engine, rig)
    done = {} if fresh else ledger.done
    todo = [job for job in jobs if not _is_done(job, done)]
    result = BatchResult(skipped=len(jobs) - len(todo))
    progress(result.skipped)
    aligned = {todo[len(todo) * n // _ALIGNED].out for n in range(_ALIGNED)} if todo else set()
    items = _loaded(todo, rig, result)
    for item, fused in in_order(engine, items, _pair):
        if isinstance(fused, UserError):
            result.failures.append(_named(fused, item.job))
            continue
        _write(item, fused, rig)
        result.checks.remark(item.prepared.remarks)
        if checked:
            result.checks.result(rig.finish(fused, item.prepared), item.prepared, item.job.out)
        if checked and item.job.out in aligned:
            result.checks.alignment(item.prepared, item.job.visible)
        result.fused += 1
        ledger.add(item.job, item.prepared)
        progress(result.skipped + result.fused + len(result.failures))
    ledger.close(result)
    return result


class _Ledger:
    """The record of a folder: what was done to each file, kept every few seconds."""

    def __init__(self, uri: str, engine: Engine, rig: Rig) -> None:
        folder, _, self._name = uri.rpartition("/")
        self._store = Store(folder)
        self._head = {
            "engine": engine.identity,
            "camera": rig.config.as_dict(),
            "sequence_range": rig.scaler.learned,
        }
        self._mark = fingerprint(self._head)
        self.done: dict[str, dict[str, Any]] = {}
        self._kept = monotonic()
        if self._store.exists(self._name):
            known = self._store.read_json(self._name)
            self.done = known["files"] if known.get("fingerprint") == self._mark else {}

    def add(self, job: Job, prepared: Prepared) -> None:
        self.done[job.out] = {"stamp": job.stamp, **prepared.as_dict()}
        if monotonic() - self._kept > _KEPT_EVERY_S:
            self._keep({})

    def close(self, result: BatchResult) -> None:
        self._keep(
            {"failures": [str(one) for one in result.failures], "checks": result.checks.as_dict()}
        )

    def _keep(self, more: dict[str, Any]) -> None:
        document = {"fingerprint": self._mark, **self._head, **more, "files": self.done}
        self._store.write_json(self._name, document)
        self._kept = monotonic()


def _learn(jobs: Sequence[Job], rig: Rig) -> None:
    drawn = jobs[:: max(1, len(jobs) // _LEARNED)]
    frames = []
    for job in drawn:
        try:
            array = decode_array(read_bytes(job.infrared), job.infrared)
        except UserError:
            continue  # it is named when its turn comes
        frames.append(rig.raw_infrared(array))
    rig.scaler.learn(frames)


def _loaded(jobs: Sequence[Job], rig: Rig, result: BatchResult) -> Iterator[_Item]:
    for job in jobs:
        try:
            prepared = _load(job, rig)
        except UserError as error:
            result.failures.append(error)
            continue
        yield _Item(job, prepared)


def _load(job: Job, rig: Rig) -> Prepared:
    visible = decode_array(read_bytes(job.visible), job.visible)
    infrared = decode_array(read_bytes(job.infrared), job.infrared)
    try:
        return rig.prepare(visible, infrared, (job.visible, job.infrared))
    except UserError as error:
        raise _named(error, job) from None


def _write(item: _Item, fused: Any, rig: Rig) -> None:
    folder, _, name = item.job.out.rpartition("/")
    picture = rig.finish(fused, item.prepared)
    Store(folder).write_bytes(name, encode(picture, PurePosixPath(name).suffix[1:]))


def _pair(item: _Item) -> tuple[Any, Any]:
    return item.prepared.visible, item.prepared.infrared


def _named(error: UserError, job: Job) -> UserError:
    """Say of which pair, where the message does not."""
    text = str(error)
    named = job.visible in text or job.infrared in text
    return error if named else UserError(f"{job.visible}: {text}")


def _is_done(job: Job, done: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the record knows both files as they are now, and the result is there."""
    if not job.stamp or done.get(job.out, {}).get("stamp") != job.stamp:
        return False
    folder, _, name = job.out.rpartition("/")
    return Store(folder).exists(name)
