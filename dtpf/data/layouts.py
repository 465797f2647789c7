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
    """Images of one modality in one folder, by stem in lower case.

    `folder` is relative to the source; `split` is None where folders tell none.
    """

    folder: str
    split: str | None
    files: dict[str, ImageFile]


@dataclass(frozen=True)
class Layout:
    """The folders of a source, two and two: visible side, infrared side.

    A side is empty where the folder beside the other one is missing.
    """

    source: str
    sides: tuple[tuple[Side, Side], ...]


def list_images(source: str) -> list[ImageFile]:
    """Return all image files below a path or URI, sorted by path; hidden ones are passed over.

    Raises:
        UserError: the source does not exist or holds no images.
    """
    uri = normalise_uri(source)
    filesystem, root = resolve(uri)
    with storage_errors(uri):
        infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    paths = [(info, info.path[len(root) + 1 :]) for info in infos if info.type == fs.FileType.File]
    found = [
        ImageFile(join_uri(uri, path), path, info.size, info.mtime_ns or 0)
        for info, path in paths
        if path.lower().endswith(SUFFIXES) and "/." not in f"/{path}"
    ]
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise UserError(f"{uri}: no images below it; expected files ending in {kinds}")
    return sorted(found, key=lambda file: file.path)


def find_layout(source: str, visible: str | None = None, infrared: str | None = None) -> Layout:
    """Recognise the layout of a source, or use the folder names that are told.

    Upper and lower case of folder names do not matter; a told name may be a path, `camera/left`.

    Raises:
        UserError: no known layout, or several; lists the folders and how to tell names.
    """
    if (visible is None) != (infrared is None):
        raise UserError("data.visible_folder and data.infrared_folder: give both or neither")
    folders: dict[str, list[ImageFile]] = {}
    for image in list_images(source):
        folders.setdefault(str(PurePosixPath(image.path).parent).lower(), []).append(image)
    told = visible is not None and infrared is not None
    names = ((visible.lower(), infrared.lower()),) if visible and infrared else FOLDERS
    complete = [pair for pair in names if any(_partner(f, *pair) in folders for f in folders)]
    if len(complete) == 1:
        return Layout(normalise_uri(source), _sides(folders, *complete[0]))
    seen = ", ".join(sorted(folders)[:8])
    problem = "several kinds of pairs" if complete else "no known pair of folders with images"
    if told:
        problem = f"no images in folders {visible!r} and {infrared!r} beside each other"
    raise UserError(
        f"{normalise_uri(source)}: {problem} among {seen}; point to one data set, or name its "
        "folders with --set data.visible_folder=NAME --set data.infrared_folder=NAME"
    )


def _partner(folder: str, first: str, second: str) -> str | None:
    """Return the path with the component(s) `first` replaced; None where it has none."""
    before, found, after = f"/{folder}/".partition(f"/{first.strip('/')}/")
    return f"{before}/{second.strip('/')}/{after}".strip("/") if found else None


def _sides(
    folders: dict[str, list[ImageFile]], first: str, second: str
) -> tuple[tuple[Side, Side], ...]:
    """Pair up folders whose paths differ only in the names of the two modalities."""
    partners = {folder: _partner(folder, first, second) for folder in folders}
    matches = {(folder, other) for folder, other in partners.items() if other}
    matches |= {(other, f) for f in folders if (other := _partner(f, second, first))}
    return tuple(
        (_side(one, folders.get(one, [])), _side(other, folders.get(other, [])))
        for one, other in sorted(matches)
    )


def _side(folder: str, images: list[ImageFile]) -> Side:
    files: dict[str, ImageFile] = {}
    for image in images:
        stem = PurePosixPath(image.path).stem.lower()
        if stem in files:
            raise UserError(
                f"{image.uri}: same name as {files[stem].uri}; names must differ without suffix"
            )
        files[stem] = image
    split = next((SPLIT_NAMES[part] for part in folder.split("/") if part in SPLIT_NAMES), None)
    return Side(folder, split, files)
