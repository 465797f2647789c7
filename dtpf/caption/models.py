"""Vision-language models: presets pinned to a revision, folders, and folders in object storage."""

import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from dtpf.core.errors import UserError
from dtpf.core.storage.uri import normalise_uri, resolve, storage_errors


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face hub at a commit."""

    repository: str
    commit: str


PRESETS = {
    "qwen2_vl_2b": HubModel(
        "Qwen/Qwen2-VL-2B-Instruct", "895c3a49bc3fa70a340399125c650a463535e71c"
    ),
    "qwen2_vl_7b": HubModel(
        "Qwen/Qwen2-VL-7B-Instruct", "eed13092ef92e448dd6875b2a00151bd3f7db0ac"
    ),
}
_SMALL = 1_000_000  # bytes: files below it count by their contents, others by name and size


def model_revision(model: str) -> str:
    """Return what identifies a model: repository and commit, or a digest of a folder.

    Weights count by name and size: reading them would take minutes, and a fine-tuned model has
    another config or, beside it, another name.

    Raises:
        UserError: the folder is missing, or has no config.json.
    """
    if model in PRESETS:
        return f"{PRESETS[model].repository}@{PRESETS[model].commit[:12]}"
    digest = hashlib.sha256()
    for name, (filesystem, info) in _files(model).items():
        digest.update(f"{name} {info.size}\n".encode())
        if info.size < _SMALL:
            with filesystem.open_input_file(info.path) as source:
                digest.update(source.read())
    return f"folder-{digest.hexdigest()[:16]}"


def local_model(model: str, cache: str) -> str:
    """Return the folder of a model on this node, after fetching it if it is not here.

    Args:
        model: preset, path or URI.
        cache: where what comes from an object store is kept; the same on every node.

    Raises:
        UserError: it cannot be had; names the remedy.
    """
    if model in PRESETS:
        return _from_hub(PRESETS[model])
    uri = normalise_uri(model)
    if uri.startswith("file://"):
        _files(model)
        return resolve(uri)[1]
    target = Path(cache).expanduser() / model_revision(model)
    if not target.exists():
        _fetch(model, target)
    return str(target)


def _from_hub(model: HubModel) -> str:
    try:
        from huggingface_hub import snapshot_download

        return str(snapshot_download(model.repository, revision=model.commit))
    except ImportError:
        raise UserError(
            "caption.captioner=qwen2_vl: vLLM is not installed on this node; run "
            "`pip install 'dtpf[ray,vllm]'`"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"caption.vlm.model: cannot fetch {model.repository} ({_line(error)}); set "
            "caption.vlm.model to the path or s3:// URI of a folder that has it"
        ) from None


def _fetch(model: str, target: Path) -> None:
    """Copy a folder out of an object store; it appears under its name when it is whole."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for name, (filesystem, info) in _files(model).items():
            fs.copy_files(info.path, str(temporary / name), filesystem, fs.LocalFileSystem())
        os.rename(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.exists():  # another process of this node was faster
            raise UserError(f"{model}: cannot copy the model to {target}: {error}") from None


def _files(model: str) -> dict[str, tuple[fs.FileSystem, fs.FileInfo]]:
    uri = normalise_uri(model)
    filesystem, root = resolve(uri)
    with storage_errors(uri):
        infos = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    files = {info.base_name: (filesystem, info) for info in infos if info.is_file}
    if "config.json" not in files:
        raise UserError(
            f"caption.vlm.model: {model} is neither one of {', '.join(PRESETS)} nor a folder with "
            "config.json, weights and tokenizer"
        )
    return dict(sorted(files.items()))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
