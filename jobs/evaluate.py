"""Score teacher, student and baselines of a pipeline, or any methods; write the report.

ray job submit -- python jobs/evaluate.py --data URI --store URI    (all options: --help)
ray job submit -- python jobs/evaluate.py --data URI --method max --method student=BUNDLE
"""

from typing import Annotated

import typer

from dtpf.core.errors import UserError
from dtpf.core.storage.keys import evaluations_prefix
from dtpf.core.storage.store import Store
from dtpf.evaluation.score import Scoring, evaluate
from dtpf.evaluation.session import EvaluationSpec, Session
from dtpf.pipeline.console import Console
from dtpf.pipeline.plan import Plan
from jobs import common

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Baseline, NAME=BUNDLE or NAME=FOLDER, repeated: score these on the pairs of --data, "
        "as `dtpf evaluate` does, instead of a pipeline's networks.",
    ),
]


def main(
    recipe: common.Recipe = common.DEFAULT_RECIPE,
    data: common.Data = None,
    store: common.StoreUri = common.DEFAULT_STORE,
    settings: common.Settings = None,
    force: common.Force = None,
    dry_run: common.DryRun = False,
    strict: common.Strict = False,
    local: common.Local = False,
    methods: Methods = None,
) -> None:
    """Score teacher, student and baselines of a pipeline, or any methods; write the report."""
    with common.ending():
        if methods:
            if data is None:
                raise UserError("--method needs --data: the folder of the pairs to score")
            spec = EvaluationSpec.from_options(data, methods, settings or [])
            return score_methods(spec, store, local)
        config = common.resolve_config(recipe, data, settings or [], strict)
        common.execute(Plan(config, Store(store)), ["evaluate"], force, dry_run, local)
    return None


def score_methods(spec: EvaluationSpec, store: str, local: bool) -> None:
    """Score the methods of a spec; all files go to `evaluations/<data set>` of the store."""
    session = Session.prepare(spec)
    console = Console()
    for remark in session.remarks:
        console.line(remark)
    table = session.run(console.counter("pair"), evaluate if local else _on_ray())
    place = Store(store).uri_of(evaluations_prefix(spec.data.name))
    files = session.write(table, place)
    print("\n" + Store(place).read_bytes("table.txt").decode())
    print("\n".join(files))


def _on_ray() -> Scoring:
    common.join_cluster()
    from dtpf.evaluation.on_ray import evaluate_on_ray

    return evaluate_on_ray


if __name__ == "__main__":
    typer.run(main)
