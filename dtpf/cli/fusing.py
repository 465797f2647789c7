"""`dtpf fuse`: which files belong together, and fused files that appear whole or not at all."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import torch
from pyarrow.fs import FileType
from tqdm import tqdm

from dtpf.cli.networks import network_source
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.ops.pixels import luma
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import join_uri, normalise_uri, read_bytes, resolve, storage_errors
from dtpf.data.images import decode_infrared, decode_visible, encode
from dtpf.data.index import NAMED
from dtpf.data.layouts import ImageFile, list_images

OUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Job:
    """One pair of image files and the file that is to hold their fusion, as URIs."""

    visible: str
    infrared: str
    out: str


def plan_jobs(visible: str, infrared: str, out: str) -> list[Job]:
    """Return what is to be fused: one pair of files, or all pairs of two folders.

    Raises:
        UserError: missing inputs, a file and a folder, images without a partner, an output of
            unknown suffix, or one that would replace an input.
    """
    seen, heat, target = (normalise_uri(path) for path in (visible, infrared, out))
    folders = [_is_folder(uri) for uri in (seen, heat)]
    if folders[0] != folders[1]:
        raise UserError(f"{visible} and {infrared}: give two files or two folders")
    suffix = PurePosixPath(target).suffix.lower()
    if folders[0] == (suffix in OUT_SUFFIXES):
        wanted = "a folder" if folders[0] else f"a file ending in {', '.join(OUT_SUFFIXES)}"
        raise UserError(f"--out {out}: must be {wanted}")
    if target in (seen, heat):
        raise UserError(f"--out {out}: would replace an input; choose another place")
    return _folder_jobs(seen, heat, target) if folders[0] else [Job(seen, heat, target)]


def fuse_jobs(jobs: Sequence[Job], model: str | None, gray: bool, device: str) -> int:
    """Fuse and write all pairs; return how many could not be fused.

    A single pair that fails raises; of several, those that fail are reported at the end and
    the others are written.

    Raises:
        UserError: no such network, or the only pair cannot be fused.
    """
    fuser = Fuser.from_bundle(network_source(model), _pick_device(device))
    if len(jobs) == 1:
        _fuse_job(fuser, jobs[0], gray)
        return 0
    failures: list[UserError] = []
    for job in tqdm(jobs, unit="pair", disable=None):  # None: silent unless on a terminal
        try:
            _fuse_job(fuser, job, gray)
        except UserError as error:
            failures.append(error)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"fused {len(jobs) - len(failures)} of {len(jobs)} pairs", file=sys.stderr)
    return len(failures)


def _fuse_job(fuser: Fuser, job: Job, gray: bool) -> None:
    visible = decode_visible(read_bytes(job.visible), job.visible)
    infrared = decode_infrared(read_bytes(job.infrared), job.infrared)
    try:
        fused = fuser.fuse(visible, infrared)
    except ValueError as error:  # sizes that differ or are too small: say of which pair
        raise UserError(f"{job.visible}: {error}") from None
    folder, _, name = job.out.rpartition("/")
    image_format = PurePosixPath(name).suffix[1:]
    Store(folder).write_bytes(name, encode(luma(fused) if gray else fused, image_format))


def _folder_jobs(visible: str, infrared: str, out: str) -> list[Job]:
    seen, heat = _by_stem(visible), _by_stem(infrared)
    alone = sorted(
        file.uri for stem, file in (seen | heat).items() if (stem in seen) != (stem in heat)
    )
    if alone:
        shown = ", ".join(alone[:NAMED]) + (", ..." if len(alone) > NAMED else "")
        raise UserError(
            f"{len(alone)} images without a partner of the same name: {shown}; "
            "add the missing ones or remove these"
        )
    return [
        Job(
            file.uri,
            heat[stem].uri,
            join_uri(out, f"{PurePosixPath(file.path).with_suffix('')}.png"),
        )
        for stem, file in seen.items()
    ]


def _by_stem(folder: str) -> dict[str, ImageFile]:
    """Return images by path below the folder, without suffix, in lower case."""
    files: dict[str, ImageFile] = {}
    for image in list_images(folder):
        stem = str(PurePosixPath(image.path).with_suffix("")).lower()
        if stem in files:
            raise UserError(
                f"{image.uri}: same name as {files[stem].uri}; names must differ without suffix"
            )
        files[stem] = image
    return files


def _is_folder(uri: str) -> bool:
    filesystem, path = resolve(uri)
    with storage_errors(uri):
        kind = filesystem.get_file_info(path).type
    if kind == FileType.NotFound:
        raise UserError(f"{uri}: no such file or folder")
    return bool(kind == FileType.Directory)


def _pick_device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("--device cuda: no CUDA GPU is available here; use --device cpu")
    return "cuda" if available and name != "cpu" else "cpu"
