"""The index of a data set: which pairs there are, in which split, with size and digest of each.

Pairs match by file name without suffix, in upper or lower case. A pair that cannot be used
(damaged, sizes that differ) is reported and left out, or an error if `strict`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import Field

from dtpf.core.config import Config, fingerprint
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import Scaling, infrared_to_unit, visible_to_unit
from dtpf.core.records import Pair
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_array
from dtpf.data.layouts import ImageFile, Side, find_layout, list_images
from dtpf.data.synthetic import SCENE_REVISION, Progress, SyntheticConfig, write_synthetic

SYNTHETIC = "synthetic"
READERS = 8
NAMED = 10  # unpaired names that an error lists

_Name = tuple[str, str]  # folder of the visible image, and stem


class DataConfig(Config):
    """Where pairs come from.

    Attributes:
        source: `synthetic`, or a path or URI with two folders of images.
        name: of the data set, in keys of the store.
        visible_folder: name of the first folder, where no known layout fits.
        infrared_folder: name of the second.
        infrared_scaling: how 16-bit infrared is brought to [0, 1].
        val_fraction: share of training pairs held out where the folders have no val split.
        test_fraction: share of all pairs held out where the folders have no splits at all.
        limit: at most so many pairs of each split, the first by name (of two folders).
        strict: a pair that cannot be used is an error.
        synthetic: settings of the synthetic scenes.
    """

    source: str = SYNTHETIC
    name: str = Field(default=SYNTHETIC, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    visible_folder: str | None = None
    infrared_folder: str | None = None
    infrared_scaling: Scaling = "percentile"
    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    limit: int | None = Field(default=None, ge=1)
    strict: bool = False
    synthetic: SyntheticConfig = SyntheticConfig()


@dataclass(frozen=True)
class Rejected:
    """A pair that was left out, the file that is to blame, and why."""

    pair_id: str
    file: str
    reason: str


@dataclass(frozen=True)
class IndexReport:
    """The usable pairs, those left out, and a digest of the contents (not of names of folders)."""

    pairs: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    digest: str


@dataclass(frozen=True)
class _Candidate:
    pair_id: str
    split: str
    visible: ImageFile
    infrared: ImageFile


def listing_fingerprint(config: DataConfig) -> str:
    """Return what tells, without reading images, whether a source may have changed.

    Raises:
        UserError: the source cannot be listed or holds no images.
    """
    if config.source == SYNTHETIC:
        return fingerprint(config.synthetic, SCENE_REVISION)
    files = list_images(config.source)
    return fingerprint([[file.path, file.size, file.modified] for file in files])


def build_index(
    config: DataConfig, store: Store, prefix: str, progress: Progress = lambda done, total: None
) -> IndexReport:
    """Match, read and check all pairs; synthetic scenes are first written below `prefix`.

    Raises:
        UserError: names without a partner, no usable pair, or with `strict` an unusable one.
    """
    if config.source == SYNTHETIC:
        written = write_synthetic(config.synthetic, store, f"{prefix}/images", progress)
        return _report(written, [], config)
    candidates = _matched(config)
    pairs: list[Pair] = []
    rejected: list[Rejected] = []
    with ThreadPoolExecutor(READERS) as pool:
        for done, result in enumerate(pool.map(lambda item: _check(item, config), candidates), 1):
            if isinstance(result, Pair):
                pairs.append(result)
            else:
                rejected.append(result)
            progress(done, len(candidates))
    if rejected and (config.strict or not pairs):
        first = rejected[0]
        raise UserError(
            f"{first.file}: {first.reason} ({len(rejected)} of {len(candidates)} pairs cannot be "
            "used); mend or remove it"
        )
    return _report(pairs, rejected, config)


def _report(pairs: Sequence[Pair], rejected: Sequence[Rejected], config: DataConfig) -> IndexReport:
    counts = Counter(pair.pair_id for pair in pairs)
    pair_id, times = counts.most_common(1)[0]
    if times > 1:
        raise UserError(
            f"pair_id {pair_id!r} occurs {times} times; rename the files of one of them"
        )
    content = [
        [pair.pair_id, pair.split, pair.visible_sha256, pair.infrared_sha256] for pair in pairs
    ]
    digest = fingerprint(content, config.infrared_scaling)
    return IndexReport(tuple(pairs), tuple(rejected), digest)


def _matched(config: DataConfig) -> list[_Candidate]:
    layout = find_layout(config.source, config.visible_folder, config.infrared_folder)
    for visible, infrared in layout.sides:
        _check_partners(layout.source, visible, infrared)
    splits = _splits([visible for visible, _ in layout.sides], config)
    counts = Counter(stem for _, stem in splits)
    found = []
    for visible, infrared in layout.sides:
        for stem, file in sorted(visible.files.items()):
            pair_id = _pair_id(visible, file, alone=counts[stem] == 1)
            split = splits[visible.folder, stem]
            found.append(_Candidate(pair_id, split, file, infrared.files[stem]))
    return list(_limited(found, config.limit))


def _check_partners(source: str, visible: Side, infrared: Side) -> None:
    alone = sorted(set(visible.files) ^ set(infrared.files))
    if not alone:
        return
    files = [(visible.files.get(stem) or infrared.files[stem]).path for stem in alone]
    shown = ", ".join(files[:NAMED]) + (", ..." if len(files) > NAMED else "")
    raise UserError(
        f"{source}: {len(files)} images without a partner of the same name: {shown}; "
        "add the missing ones or remove these"
    )


def _pair_id(side: Side, file: ImageFile, alone: bool) -> str:
    """Return the stem, after its folders where another folder has an image of the same name."""
    stem = PurePosixPath(file.path).stem
    return stem if alone else "-".join([*side.folder.split("/"), stem])


def _splits(sides: Sequence[Side], config: DataConfig) -> dict[_Name, str]:
    """Return the split of every image: its folder's, or one drawn from its name."""
    told = {(side.folder, stem): side.split for side in sides for stem in side.files}
    untold = [name for name, split in told.items() if not split]
    tested = _drawn("test", untold, config.test_fraction)
    splits = {
        name: split or ("test" if name in tested else "train") for name, split in told.items()
    }
    if "val" not in splits.values():
        trained = [name for name, split in splits.items() if split == "train"]
        splits |= dict.fromkeys(_drawn("val", trained, config.val_fraction), "val")
    return splits


def _drawn(split: str, names: Sequence[_Name], fraction: float) -> set[_Name]:
    """Draw a share of the names, each by a hash of its own, so that new pairs move no old ones.

    At least one is drawn of two or more: a small set would else often go without.
    """

    def rank(name: _Name) -> float:
        digest = hashlib.sha256(f"{split} {name[1]}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    chosen = {name for name in names if rank(name) < fraction}
    if not chosen and fraction and len(names) > 1:
        return {min(names, key=rank)}
    return chosen


def _limited(candidates: Sequence[_Candidate], limit: int | None) -> Iterator[_Candidate]:
    counts: dict[str, int] = {}
    for item in candidates:
        counts[item.split] = counts.get(item.split, 0) + 1
        if limit is None or counts[item.split] <= limit:
            yield item


def _check(item: _Candidate, config: DataConfig) -> Pair | Rejected:
    """Read and decode both images of a pair."""
    file = item.visible.uri
    try:
        seen = read_bytes(item.visible.uri)
        visible = decode_array(seen, item.visible.uri)
        visible_to_unit(visible, item.visible.uri)
        file = item.infrared.uri
        heat = read_bytes(item.infrared.uri)
        infrared = decode_array(heat, item.infrared.uri)
        infrared_to_unit(infrared, item.infrared.uri, config.infrared_scaling)
    except UserError as error:
        return Rejected(item.pair_id, file, str(error).removeprefix(f"{file}: "))
    if visible.shape[:2] != infrared.shape[:2]:
        (vh, vw), (ih, iw) = visible.shape[:2], infrared.shape[:2]
        reason = f"{iw}x{ih} pixels, its visible partner has {vw}x{vh}; register and resize them"
        return Rejected(item.pair_id, file, reason)
    height, width = visible.shape[:2]
    return Pair(
        pair_id=item.pair_id,
        split=item.split,
        visible_uri=item.visible.uri,
        infrared_uri=item.infrared.uri,
        height=height,
        width=width,
        visible_dtype=str(visible.dtype),
        infrared_dtype=str(infrared.dtype),
        visible_sha256=hashlib.sha256(seen).hexdigest(),
        infrared_sha256=hashlib.sha256(heat).hexdigest(),
    )
