"""`dtpf tune` and `dtpf models`: look at a search, and at which model is current."""

import json
from typing import Annotated

import typer

DEFAULT_STORE = ".dtpf/store"

StoreUri = Annotated[str, typer.Option("--store", help="Root of all results: path or s3://...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]

tune_app = typer.Typer(no_args_is_help=True, help="Look at searches for a student.")
models_app = typer.Typer(no_args_is_help=True, help="Published models: list them, go back.")


@tune_app.callback()
def _tune() -> None:
    """Keep `show` a command of its own: typer would fold a group of one into it."""


@tune_app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", show_default=False)],
    store: StoreUri = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a run's newest search (or of RUN/search-...), also while it goes on."""
    from rich.console import Console

    from dtpf.cli import searches
    from dtpf.core.storage.store import Store

    place = Store(store)
    root = searches.find_search(place, run)
    if as_json:
        print(json.dumps(searches.as_json(place, root), indent=2))
    else:
        searches.print_search(place, root, Console())


@models_app.command("list")
def list_versions(name: Name, store: StoreUri = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """List the versions of NAME that have been current; an arrow marks the one that is."""
    from dtpf.core.storage.store import Store
    from dtpf.pipeline import registry

    place = Store(store)
    versions, now = registry.history(place, name), registry.current(place, name)
    if as_json:
        print(json.dumps([item.as_dict() for item in versions], indent=2))
        return
    for item in versions:
        mark = "->" if now and item.version == now.version else "  "
        note = f", taken back {item.withdrawn}" if item.withdrawn else ""
        print(f"{mark} {item.version}  published {item.published or 'before'}{note}")


@models_app.command()
def rollback(
    name: Name,
    to: Annotated[str | None, typer.Option(help="Version; default: the one before.")] = None,
    store: StoreUri = DEFAULT_STORE,
) -> None:
    """Make the version of NAME before the current one current again, by one atomic write."""
    from dtpf.core.storage.store import Store
    from dtpf.pipeline import registry

    left, now = registry.roll_back(Store(store), name, to)
    print(f"models/{name}: {left.version} -> {now.version}")
    print("an endpoint takes it up with jobs/deploy.py and the options it was deployed with")
