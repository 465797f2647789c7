"""Where the two images of a pair lie: known two-folder layouts of public sets, or told folders.

{split}/{vi,ir}                MSRS, RoadScene as split here
{vi,ir}                        the same without splits
{Vis,Ir}                       M3FD
{crop_LR_visible,cropinfrared} RoadScene as published
{visible,infrared}/{split}     LLVIP
{split}/{pet,spect,ct} + mri   Harvard: the colour image first, MRI second
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from pyarrow import fs

from dtpf.core.errors import UserError
from dtpf.core.storage.uri import join_uri, normalise_uri, resolve, storage_errors
from dtpf.data.images import SUFFIXES

FOLDERS = (
    ("vi", "ir"),
    ("vis", "ir"),
    ("visible", "infrared"),
    ("crop_lr_visible", "cropinfrared"),
    ("pet", "mri"),
    ("spect", "mri"),
    ("ct", "mri"),
)
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class ImageFile:
    """One image below the source: its URI, and what tells whether it has changed."""

    uri: str
    path: str
    size: int
    modified: int


@dataclass(frozen=True)
class Side:
    """Images of one modality in one split, by stem; `split` is None where folders tell none."""

    split: str | None
    files: dict[str, ImageFile]


@dataclass(frozen=True)
class Layout:
    """Both sides of a source, split by split."""

    source: str
    sides: tuple[tuple[Side, Side], ...]


def list_images(source: str) -> list[ImageFile]:
    """Return all image files below a path or URI, sorted by path.

    Raises:
        UserError: the source does not exist or holds no images.
    """
    uri = normalise_uri(source)
    filesystem, root = resolve(uri)
    with storage_errors(uri):
        infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    found = [
        ImageFile(
            join_uri(uri, info.path[len(root) + 1 :]),
            info.path[len(root) + 1 :],
            info.size,
            info.mtime_ns or 0,
        )
        for info in infos
        if info.type == fs.FileType.File and info.path.lower().endswith(SUFFIXES)
    ]
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise UserError(f"{uri}: no images below it; expected files ending in {kinds}")
    return sorted(found, key=lambda file: file.path)


def find_layout(source: str, visible: str | None, infrared: str | None) -> Layout:
    """Recognise the layout of a source, or use the folder names that are told.

    Raises:
        UserError: no known layout; lists the folders that are there and how to tell names.
    """
    images = list_images(source)
    folders: dict[str, list[ImageFile]] = {}
    for image in images:
        folders.setdefault(str(PurePosixPath(image.path).parent), []).append(image)
    names = ((visible.lower(), infrared.lower()),) if visible and infrared else FOLDERS
    for first, second in names:
        sides = _match(folders, first, second)
        if sides:
            return Layout(normalise_uri(source), sides)
    seen = ", ".join(sorted(folders)[:8])
    raise UserError(
        f"{normalise_uri(source)}: no known pair of folders among {seen}; "
        "name them with --set data.visible_folder=NAME --set data.infrared_folder=NAME"
    )


def _match(
    folders: dict[str, list[ImageFile]], first: str, second: str
) -> tuple[tuple[Side, Side], ...]:
    """Pair up folders whose paths differ only in the names of the two modalities."""
    found = []
    for folder in sorted(folders):
        parts = folder.split("/")
        lowered = [part.lower() for part in parts]
        if first not in lowered:
            continue
        place = lowered.index(first)
        for other in sorted(folders):
            others = other.lower().split("/")
            if others == [*lowered[:place], second, *lowered[place + 1 :]]:
                split = next((SPLIT_NAMES[part] for part in lowered if part in SPLIT_NAMES), None)
                found.append((_side(split, folders[folder]), _side(split, folders[other])))
    return tuple(found)


def _side(split: str | None, images: list[ImageFile]) -> Side:
    files: dict[str, ImageFile] = {}
    for image in images:
        stem = PurePosixPath(image.path).stem
        if stem in files:
            raise UserError(
                f"{image.uri}: same name as {files[stem].uri}; names must differ without suffix"
            )
        files[stem] = image
    return Side(split, files)
