"""`dtpf evaluate`: from options to settings, and what is printed."""

import json
import sys
from collections.abc import Sequence

from tqdm import tqdm

from dtpf.evaluation import tables
from dtpf.evaluation.files import check_out
from dtpf.evaluation.session import EvaluationSpec, Session

DEFAULT_MIX = "VIF+Qabf"


def make_spec(
    data: str,
    methods: Sequence[str],
    split: str,
    convention: str | None,
    metrics: str | None,
    mixes: Sequence[str],
    settings: Sequence[str],
) -> EvaluationSpec:
    """Return the settings that the options mean; `--set` has the last word.

    Raises:
        UserError: a value that no setting takes.
    """
    chosen = {"split": split, "convention": convention, "limit": list(mixes) or None}
    chosen["metrics"] = [name.strip() for name in metrics.split(",")] if metrics else None
    told = [
        f"evaluation.{name}={json.dumps(value)}"
        for name, value in chosen.items()
        if value is not None
    ]
    return EvaluationSpec.from_options(data, methods, [*told, *settings])


def evaluate_and_print(spec: EvaluationSpec, outs: Sequence[str], as_json: bool) -> None:
    """Score, write the files that `outs` name, print the table.

    Raises:
        UserError: what the session reports, or an output of unknown format.
    """
    for out in outs:
        check_out(out)
    session = Session.prepare(spec)
    for remark in session.remarks:
        print(remark, file=sys.stderr)
    with tqdm(total=len(session.pairs), unit="pair", disable=None) as bar:
        table = session.run(lambda done, total: bar.update(done - bar.n))
    for out in outs:
        for uri in session.write(table, out):
            print(f"wrote {uri}", file=sys.stderr)
    comparisons = session.comparisons(table)
    print(tables.to_json(table, comparisons) if as_json else tables.to_text(table))
