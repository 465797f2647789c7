"""A score table as text for the terminal, Markdown, LaTeX, CSV and JSON."""

import io
import json
from collections.abc import Callable

import pyarrow.csv as pa_csv

from dtpf.core.metrics import CONVENTIONS, METRICS
from dtpf.evaluation.score import ScoreTable

DIGITS = 3
BEST, SECOND = 1, 2

Mark = Callable[[str, int | None], str]


def places(table: ScoreTable) -> dict[tuple[str, str], int | None]:
    """Return 1 or 2 for the best and second best method of each metric, else None.

    Values are compared as they are printed, so equal print, equal place; with a single method
    nothing is marked.
    """
    result: dict[tuple[str, str], int | None] = {}
    for metric in table.metrics:
        printed = {method: round(table.mean(method, metric), DIGITS) for method in table.methods}
        order = sorted(set(printed.values()), reverse=METRICS[metric].higher_is_better)
        for method, value in printed.items():
            place = order.index(value) + 1
            result[method, metric] = place if place <= SECOND and len(printed) > 1 else None
    return result


def to_text(table: ScoreTable) -> str:
    """Return aligned columns; `*` marks the best, `+` the second best of a metric."""
    header, *rows = _cells(
        table, lambda text, place: text + {BEST: "*", SECOND: "+"}.get(place or 0, " ")
    )
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    aligned = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*aligned, f"* best, + second best; {_note(table)}"])


def to_markdown(table: ScoreTable) -> str:
    """Return a GitHub table; bold marks the best, underline the second best of a metric."""
    header, *rows = _cells(table, _markdown_mark)
    ruler = ["---", *["---:"] * len(table.metrics)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [header, ruler, *rows])
    return f"{body}\n\n**Best**, <u>second best</u>; {_note(table)}\n"


def to_latex(table: ScoreTable) -> str:
    """Return a booktabs tabular; bold marks the best, underline the second best of a metric."""
    header, *rows = _cells(table, _latex_mark)
    arrows = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
    for plain, macro in arrows.items():
        header = [cell.replace(plain, macro) for cell in header]
    rows = [[row[0].replace("_", r"\_").replace("&", r"\&"), *row[1:]] for row in rows]
    body = [" & ".join(line) + r" \\" for line in rows]
    return "\n".join(
        [
            f"% {_note(table)}",
            rf"\begin{{tabular}}{{l{'r' * len(table.metrics)}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def to_csv(table: ScoreTable) -> str:
    """Return the long table, one row for each pair, method and metric."""
    sink = io.BytesIO()
    pa_csv.write_csv(table.scores, sink, pa_csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue().decode()


def to_json(table: ScoreTable) -> str:
    """Return summary and per-image scores with the metrics' units, direction and source."""
    document = {
        "convention": table.convention,
        "pairs": len(table.pair_ids),
        "metrics": {
            name: {
                "direction": METRICS[name].direction,
                "units": METRICS[name].units,
                "source": METRICS[name].source,
            }
            for name in table.metrics
        },
        "means": table.means(),
        "scores": table.scores.to_pylist(),
    }
    return json.dumps(document, indent=1)


def heading(metric: str) -> str:
    """Return the metric's name with an arrow towards better."""
    return f"{metric} {'↑' if METRICS[metric].higher_is_better else '↓'}"


def _cells(table: ScoreTable, mark: Mark) -> list[list[str]]:
    ranked = places(table)
    header = ["method", *[heading(metric) for metric in table.metrics]]
    body = [
        [method, *[_cell(table, method, metric, ranked, mark) for metric in table.metrics]]
        for method in table.methods
    ]
    return [header, *body]


def _cell(
    table: ScoreTable,
    method: str,
    metric: str,
    ranked: dict[tuple[str, str], int | None],
    mark: Mark,
) -> str:
    return mark(f"{table.mean(method, metric):.{DIGITS}f}", ranked[method, metric])


def _markdown_mark(text: str, place: int | None) -> str:
    return {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(place or 0, text)


def _latex_mark(text: str, place: int | None) -> str:
    return {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}.get(place or 0, text)


def _note(table: ScoreTable) -> str:
    pairs = len(table.pair_ids)
    return f"mean over {pairs} pair{'s' * (pairs != 1)}, convention {table.convention}: " + (
        CONVENTIONS[table.convention].summary
    )


FORMATS: dict[str, Callable[[ScoreTable], str]] = {
    "txt": to_text,
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
    "json": to_json,
}
