"""Look whether all nodes of the cluster are fit for a run; exit code 1 if something is not.

ray job submit -- python jobs/doctor.py --store s3://bucket/prefix    (all options: --help)
"""

import json
from typing import Annotated

import typer

from dtpf.core.errors import UserError
from dtpf.doctor.findings import any_failed, as_json, as_text
from jobs.common import ending, join_cluster

StoreUri = Annotated[
    str | None, typer.Option("--store", help="Root of all results; without: not looked at.")
]
Exchange = Annotated[
    bool, typer.Option("--exchange/--no-exchange", help="Compare copies between all devices.")
]
Seconds = Annotated[float, typer.Option("--seconds", min=1, help="A copy may take at most.")]
Variables = Annotated[
    list[str] | None, typer.Option("--env", help="NAME=VALUE for the checks, such as NCCL_...")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command(
    store: StoreUri = None,
    exchange: Exchange = True,
    seconds: Seconds = 60.0,
    variables: Variables = None,
    to_json: AsJson = False,
) -> None:
    """Look at every node and at the cluster as a whole; see docs/doctor.md."""
    with ending():
        environment = _environment(variables or [])
        join_cluster()
        from dtpf.doctor.on_ray import Options, check_cluster

        places = check_cluster(Options(store, exchange, seconds, environment))
    print(json.dumps(as_json(places), indent=2) if to_json else as_text(places), flush=True)
    if any_failed(places):
        raise typer.Exit(1)


def _environment(variables: list[str]) -> dict[str, str]:
    parts = [variable.partition("=") for variable in variables]
    for name, separator, _ in parts:
        if not (name and separator):
            raise UserError(f"--env {name}: give NAME=VALUE, such as NCCL_P2P_DISABLE=1")
    return {name: value for name, _, value in parts}


if __name__ == "__main__":
    typer.run(command)
