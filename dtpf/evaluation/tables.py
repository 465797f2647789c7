"""A score table as text for the terminal, Markdown, LaTeX, CSV and JSON."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import pyarrow.csv as pa_csv

from dtpf.core.metrics import find_metric
from dtpf.evaluation.compare import Comparison
from dtpf.evaluation.limit import is_limit
from dtpf.evaluation.score_table import ScoreTable

DIGITS = 3
BEST, SECOND = 1, 2

Mark = Callable[[str, int | None], str]


def places(table: ScoreTable) -> dict[tuple[str, str], int | None]:
    """Return 1 or 2 for the best and second best method of each metric, else None.

    Values are compared as they are printed, so equal print, equal place; with a single method
    nothing is marked, and a limit is no method.
    """
    keys = [(method, metric) for method in table.methods for metric in table.metrics]
    result: dict[tuple[str, str], int | None] = dict.fromkeys(keys)
    ranked = [method for method in table.methods if not is_limit(method)]
    for metric in table.metrics:
        printed = {method: round(table.mean(method, metric), DIGITS) for method in ranked}
        order = sorted(set(printed.values()), reverse=find_metric(metric).higher_is_better)
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
    rows = [[row[0].replace("|", r"\|"), *row[1:]] for row in rows]
    ruler = ["---", *["---:"] * len(table.metrics)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [header, ruler, *rows])
    return f"{body}\n\n**Best**, <u>second best</u>; {_note(table)}\n"


def to_latex(table: ScoreTable) -> str:
    """Return a booktabs tabular; bold marks the best, underline the second best of a metric."""
    header, *rows = _cells(table, _latex_mark)
    arrows = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
    for plain, macro in arrows.items():
        header = [cell.replace(plain, macro) for cell in header]
    rows = [[_latex_text(row[0]), *row[1:]] for row in rows]
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


def to_json(table: ScoreTable, comparisons: Sequence[Comparison] = ()) -> str:
    """Return summary and per-image scores with the metrics' units, direction and source."""
    document = {
        "convention": {
            "name": table.convention.name,
            "summary": table.convention.summary,
            "statement": table.convention.statement,
        },
        "pairs": len(table.pair_ids),
        "metrics": {
            name: {
                "direction": find_metric(name).direction,
                "units": find_metric(name).units,
                "source": find_metric(name).source,
            }
            for name in table.metrics
        },
        "means": table.means(),
        "comparisons": [{**asdict(item), "verdict": item.verdict} for item in comparisons],
        "scores": table.scores.to_pylist(),
    }
    return json.dumps(document, indent=1)


def heading(metric: str) -> str:
    """Return the metric's name with an arrow towards better."""
    return f"{metric} {'↑' if find_metric(metric).higher_is_better else '↓'}"


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


def _latex_text(text: str) -> str:
    """Return a method's name with the characters that LaTeX reads as commands escaped."""
    escapes = {char: f"\\{char}" for char in "_&%#${}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return "".join(escapes.get(char, char) for char in text)


def _note(table: ScoreTable) -> str:
    pairs = len(table.pair_ids)
    return (
        f"mean over {pairs} pair{'s' * (pairs != 1)}, convention {table.convention.name} "
        f"({table.convention.statement})"
    )


FORMATS: dict[str, Callable[[ScoreTable], str]] = {
    "txt": to_text,
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
    "json": to_json,
}
