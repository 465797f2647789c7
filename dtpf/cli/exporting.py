"""What `dtpf export` does with its options."""

from typing import cast

from dtpf.core.bundle import load_bundle
from dtpf.core.errors import UserError
from dtpf.core.export import PRECISIONS, Precision, export_onnx
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import normalise_uri

FORMATS = ("onnx",)


def export_bundle(source: str, out: str, file_format: str, precision: str) -> str:
    """Write a bundle's network to `out` and return one line about it.

    Raises:
        UserError: an unknown format or precision, a name without the format's suffix, or no
            bundle there; nothing is written then.
    """
    if file_format not in FORMATS:
        raise UserError(f"--format {file_format}: unknown; use {', '.join(FORMATS)}")
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: unknown; use {', '.join(PRECISIONS)}")
    if not out.lower().endswith(f".{file_format}"):
        raise UserError(f"--out {out}: end it in .{file_format}")
    exported = export_onnx(load_bundle(source), cast(Precision, precision))
    folder, _, name = normalise_uri(out).rpartition("/")
    Store(folder).write_bytes(name, exported.data)
    megabytes = len(exported.data) / 1e6
    return (
        f"{out}: {precision}, {megabytes:.1f} MB; on random pairs at most "
        f"{exported.difference:.1e} (of 1) off the network"
    )
