"""The files that an evaluation leaves: tables in every format, and the report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from dtpf.core.errors import UserError
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import join_uri, normalise_uri
from dtpf.evaluation import tables
from dtpf.evaluation.compare import Comparison
from dtpf.evaluation.score_table import ScoreTable

NAMES = {
    "report": "report.html",
    "table": "table.txt",
    "markdown": "table.md",
    "latex": "table.tex",
    "csv": "scores.csv",
    "json": "scores.json",
}

Draw = Callable[[], str]


def contents(
    table: ScoreTable, comparisons: Sequence[Comparison], report: Draw
) -> Mapping[str, Draw]:
    """Return what makes each file's text, by the keys of NAMES."""
    return {
        "report": report,
        "table": lambda: tables.to_text(table),
        "markdown": lambda: tables.to_markdown(table),
        "latex": lambda: tables.to_latex(table),
        "csv": lambda: tables.to_csv(table),
        "json": lambda: tables.to_json(table, comparisons),
    }


def check_out(out: str) -> None:
    """Raise UserError if `out` has a suffix of no known format."""
    _chosen(out)


def write_files(out: str, made: Mapping[str, Draw]) -> list[str]:
    """Write one file, whose suffix says which, or all of them into a folder; returns their URIs.

    Args:
        out: path or URI ending in .html, .txt, .md, .tex, .csv or .json, or without suffix.
        made: from `contents`.

    Raises:
        UserError: another suffix.
    """
    target = normalise_uri(out)
    written = []
    for key in _chosen(out):
        uri = target if _suffix(out) else join_uri(target, NAMES[key])
        folder, _, name = uri.rpartition("/")
        Store(folder).write_bytes(name, made[key]().encode())
        written.append(uri)
    return written


def _chosen(out: str) -> list[str]:
    suffix = _suffix(out)
    by_suffix = {PurePosixPath(name).suffix: key for key, name in NAMES.items()}
    if not suffix:
        return list(NAMES)
    if suffix not in by_suffix:
        known = ", ".join(by_suffix)
        raise UserError(f"--out {out}: end it in {known}, or name a folder for all of them")
    return [by_suffix[suffix]]


def _suffix(out: str) -> str:
    return PurePosixPath(out).suffix.lower()
