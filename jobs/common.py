"""What all jobs share: options, the plan, engines, and how errors end a job.

Every job takes the same options, so that a stage run alone finds the results of the others.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.models import FusionNet, count_parameters
from dtpf.core.storage.receipts import Receipt
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import normalise_uri
from dtpf.pipeline.config import PipelineConfig
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import Engines, in_process
from dtpf.pipeline.plan import STAGES, TITLES, Plan
from dtpf.pipeline.runner import follow_stage, run_stages
from dtpf.pipeline.stages import Context
from dtpf.recipes import recipe as find_recipe
from dtpf.training.group import current_group, under_torchrun
from dtpf.tuning.space_file import find_space, search_settings

TRAININGS = ("teacher", "student")
DEFAULT_RECIPE, DEFAULT_STORE = "tiny_cpu", ".dtpf/store"

Recipe = Annotated[str, typer.Option("--recipe", help="Configuration to start from.")]
Data = Annotated[
    str | None, typer.Option("--data", help="Folder or s3:// prefix of pairs; default: synthetic.")
]
StoreUri = Annotated[str, typer.Option("--store", help="Root of all results: path or s3://...")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE, such as teacher.train.steps=200.")
]
Force = Annotated[
    str | None, typer.Option("--force", help="Stage to redo, and all that follow from it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; touch nothing.")]
Strict = Annotated[bool, typer.Option("--strict", help="A pair that cannot be used is an error.")]
Local = Annotated[bool, typer.Option("--local", help="In this process, without Ray or endpoint.")]


def through(last: str) -> Sequence[str]:
    """Return a stage and all that come before it."""
    return STAGES[: STAGES.index(last) + 1]


def run_job(stages: Sequence[str]) -> None:
    """Be the command line of a job that runs `stages`; ends the process with the exit code."""

    def command(
        recipe: Recipe = DEFAULT_RECIPE,
        data: Data = None,
        store: StoreUri = DEFAULT_STORE,
        settings: Settings = None,
        force: Force = None,
        dry_run: DryRun = False,
        strict: Strict = False,
        local: Local = False,
    ) -> None:
        with ending():
            config = resolve_config(recipe, data, settings or [], strict)
            execute(Plan(config, Store(store)), stages, force, dry_run, local)

    typer.run(command)


@contextmanager
def ending() -> Iterator[None]:
    """End the process with one line and exit code 2 where a person can mend what is wrong."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise typer.Exit(2) from None


def resolve_config(
    recipe: str, data: str | None, settings: Sequence[str], strict: bool
) -> PipelineConfig:
    """Return the recipe with the options applied.

    `--set` has the last word, also over what the file of the search space asks for.
    """
    config = find_recipe(recipe)
    if data is not None:
        source = normalise_uri(data)
        name = source.rstrip("/").rpartition("/")[2]
        config = _updated(config, "data", {"source": source, "name": name})
    if strict:
        config = _updated(config, "data", {"strict": True})
    chosen = apply_overrides(config, settings)
    asked = search_settings(find_space(chosen.tune.space))
    return apply_overrides(_updated(config, "tune", asked), settings)


def _updated(config: PipelineConfig, section: str, values: Mapping[str, Any]) -> PipelineConfig:
    return apply_overrides(
        config, [f"{section}.{name}={json.dumps(value)}" for name, value in values.items()]
    )


def execute(
    plan: Plan, stages: Sequence[str], force: str | None, dry_run: bool, local: bool
) -> None:
    """Run the stages of a plan, here or on a cluster, and print what came of it."""
    console = Console()
    if dry_run:
        return describe(plan, stages, console)
    if under_torchrun():
        return _train_together(plan, stages, force)
    plan.store.check_writable()
    if force is not None:
        console.line(f"redoing: {', '.join(plan.forget(force))}")
    engines = in_process() if local else _on_ray(plan, stages)
    receipts = run_stages(Context(plan, engines, console, forced=force is not None), stages)
    _summary(plan, receipts)
    return None


def _train_together(plan: Plan, stages: Sequence[str], force: str | None) -> None:
    """Run the last stage in all processes that torchrun started; the leader keeps the books."""
    last = stages[-1]
    if force is not None or last not in TRAININGS:
        raise UserError(
            "torchrun runs jobs/train_teacher.py and jobs/distill_student.py, without --force; run "
            "all other jobs without torchrun"
        )
    if current_group().leads:
        run_stages(Context(plan, in_process(), Console()), [last])
    else:
        follow_stage(Context(plan, in_process(), Console(lambda text: None)), last)


def describe(plan: Plan, stages: Sequence[str], console: Console) -> None:
    """Print the resolved config, parameter counts, and per stage what would happen."""
    config = plan.config
    print(json.dumps(config.as_dict(), indent=2))
    for name, model in (("teacher", config.teacher.model), ("student", config.student.model)):
        print(f"{name}: {count_parameters(FusionNet(model)):,} parameters")
    print(f"store: {plan.store.uri}")
    for number, name in enumerate(STAGES, 1):
        if name not in stages:
            continue
        console.stage(number, len(STAGES), name, TITLES[name])
        step = plan.step(name)
        if step is None:
            console.line("would run; its key follows from the result of the stage before")
        elif step.receipt is not None:
            console.line(f"would skip: {step.keys.root} is complete")
        else:
            console.line(f"would write {step.keys.root}/")


def join_cluster() -> None:
    """Join or start a cluster; only after this does a job import what needs Ray."""
    if not os.environ.get("RAY_ADDRESS"):
        # Ray reads this when it is imported: a cluster of its own listens on loopback alone.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from dtpf import on_ray

    on_ray.connect()


def _on_ray(plan: Plan, stages: Sequence[str]) -> Engines:
    join_cluster()
    from dtpf.caption.on_ray import caption_pairs
    from dtpf.evaluation.on_ray import evaluate_on_ray
    from dtpf.pipeline.on_ray import measured
    from dtpf.serving.on_ray import check_address, deploy
    from dtpf.training.on_ray import train_on_ray
    from dtpf.training.teacher_outputs.on_ray import write_teacher_outputs_on_ray
    from dtpf.tuning.on_ray import search_on_ray

    if "deploy" in stages:
        check_address(plan.config.serve)
    engines = Engines(
        caption_pairs,
        train_on_ray,
        search_on_ray,
        deploy,
        evaluate_on_ray,
        write_teacher_outputs_on_ray,
    )
    return measured(engines, f"{plan.store.uri}/runs/{plan.config.run}")


def _summary(plan: Plan, receipts: dict[str, Receipt]) -> None:
    if "evaluate" in receipts:
        outputs = receipts["evaluate"].outputs
        print("\n" + plan.store.read_bytes(outputs["table"]).decode())
        print(f"report    {plan.store.uri_of(outputs['report'])}")
    if "deploy" in receipts:
        outputs = receipts["deploy"].outputs
        print(f"model     {outputs['model']}")
        if "url" in outputs:
            print(f"endpoint  {outputs['url']}\ntry it    {outputs['curl']}")
