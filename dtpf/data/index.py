"""The index of a data set: which pairs there are, in which split, with size and digest of each.

Pairs match by file name without suffix. A pair that cannot be used (damaged, sizes that differ)
is reported and left out, or an error if `strict`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import Field

from dtpf.core.config import Config, fingerprint
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import Scaling, infrared_to_unit, visible_to_unit
from dtpf.core.records import Pair
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_array
from dtpf.data.layouts import ImageFile, Layout, Side, find_layout, list_images
from dtpf.data.synthetic import SyntheticConfig, write_pairs

SYNTHETIC = "synthetic"
READERS = 8
NAMED = 10  # unpaired names that an error lists
BUCKETS = 10_000  # resolution of the shares of a split

Progress = Callable[[int, int], None]


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
        limit: at most so many pairs of each split, the first by name.
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
    guides: tuple[str, str] | None = None


def listing_fingerprint(config: DataConfig) -> str:
    """Return what tells, without reading images, whether a source may have changed.

    Raises:
        UserError: the source cannot be listed or holds no images.
    """
    if config.source == SYNTHETIC:
        return fingerprint(config.synthetic)
    files = list_images(config.source)
    return fingerprint([[file.path, file.size, file.modified] for file in files])


def build_index(
    config: DataConfig, store: Store, prefix: str, progress: Progress = lambda done, total: None
) -> IndexReport:
    """Match, read and check all pairs; synthetic scenes are first written below `prefix`.

    Raises:
        UserError: names without a partner, no usable pair, or with `strict` an unusable one.
    """
    candidates = (
        _synthetic(config, store, prefix, progress)
        if config.source == SYNTHETIC
        else _matched(config)
    )
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
    content = [
        [pair.pair_id, pair.split, pair.visible_sha256, pair.infrared_sha256] for pair in pairs
    ]
    return IndexReport(tuple(pairs), tuple(rejected), fingerprint(content, config.infrared_scaling))


def _synthetic(
    config: DataConfig, store: Store, prefix: str, progress: Progress
) -> list[_Candidate]:
    images = f"{prefix}/images"
    rows = write_pairs(config.synthetic, store, images, progress)

    def file(folder: str, pair_id: object) -> ImageFile:
        path = f"{folder}/{pair_id}.png"
        return ImageFile(store.uri_of(f"{images}/{path}"), path, 0, 0)

    found = []
    for row in rows:
        sides = file("visible", row["pair_id"]), file("infrared", row["pair_id"])
        clean = [file(f"clean/{side}", row["pair_id"]).uri for side in ("visible", "infrared")]
        guides = (clean[0], clean[1]) if row["degradations"] else None
        found.append(_Candidate(str(row["pair_id"]), str(row["split"]), *sides, guides))
    return found


def _matched(config: DataConfig) -> list[_Candidate]:
    layout = find_layout(config.source, config.visible_folder, config.infrared_folder)
    for visible, infrared in layout.sides:
        _check_partners(layout.source, visible, infrared)
    has_val = any(visible.split == "val" for visible, _ in layout.sides)
    found = [
        _Candidate(_pair_id(visible, stem, layout), _split(visible, stem, config, has_val),
                   visible.files[stem], infrared.files[stem])
        for visible, infrared in layout.sides
        for stem in sorted(visible.files)
    ]  # fmt: skip
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


def _pair_id(side: Side, stem: str, layout: Layout) -> str:
    """Return the stem, with the split before it where another split has the same name."""
    twice = sum(stem in visible.files for visible, _ in layout.sides) > 1
    return f"{side.split}-{stem}" if twice else stem


def _split(side: Side, stem: str, config: DataConfig, has_val: bool) -> str:
    """Return the folder's split; a missing one is drawn from a hash of the name, pair by pair."""
    share = int(hashlib.sha256(stem.encode()).hexdigest(), 16) % BUCKETS / BUCKETS
    if side.split is None:
        if share < config.test_fraction:
            return "test"
        return "val" if share < config.test_fraction + config.val_fraction else "train"
    if side.split == "train" and not has_val and share < config.val_fraction:
        return "val"
    return side.split


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
        visible_guide_uri=item.guides[0] if item.guides else None,
        infrared_guide_uri=item.guides[1] if item.guides else None,
    )
