"""What data-parallel training takes on nodes without NVLink, computed; nothing here is measured.

    python benchmarks/scaling.py [--json] [--set NAME=VALUE ...]
                                 [--gpus-per-node 1|4|8] [--gradients float32|bfloat16]

The model is `scaling_model.py`; docs/scaling.md reads its tables. `--set` replaces an assumption:
bytes, seconds and FLOP/s. JSON has all combinations; the tables have the steps of one kind of node
and gradient, and for all of them the number of GPUs up to which more of them pay.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from functools import reduce
from itertools import product

from scaling_model import (
    GPUS_PER_NODE,
    GRADIENT_BYTES,
    LINKS,
    Assumptions,
    data_bytes,
    pays_up_to,
    rows,
    works,
)


def grouped(table: list[dict], *names: str) -> dict[tuple, list[dict]]:
    """Return the lines by what they have under these names."""
    found: dict[tuple, list[dict]] = {}
    for line in table:
        found.setdefault(tuple(line[name] for name in names), []).append(line)
    return found


def step_tables(table: list[dict], per_node: int, gradients: str) -> Iterator[str]:
    """Yield Markdown: ms a step, efficiency and hours, by GPUs and link."""
    head = " | ".join(f"{link:g} Gbit/s" for link in LINKS)
    for (work, speed, mode, kind, node), lines in grouped(
        table, "work", "speed", "mode", "gradients", "gpus_per_node"
    ).items():
        if (kind, node) != (gradients, per_node):
            continue
        yield f"\n{work}; {speed}; {mode}; {gradients}; {per_node} a node: ms, efficiency, hours\n"
        yield f"| GPUs, crops each | {head} |\n|{'---|' * (1 + len(LINKS))}"
        for (gpus, share), cells in grouped(lines, "gpus", "share").items():
            values = [
                f"{c['step'] * 1e3:.0f}, {c['efficiency']:.0%}, {c['hours']:.1f}" for c in cells
            ]
            yield f"| {gpus}, {share} | {' | '.join(values)} |"


def limits_table(table: list[dict], a: Assumptions) -> Iterator[str]:
    """Yield Markdown: the GPUs up to which doubling pays, by node and link."""
    kinds = list(product(GPUS_PER_NODE, LINKS))
    yield f"\nGPUs up to which every doubling makes it {a.pays_from:g} times as fast or more\n"
    yield (
        "| GPUs a node, Gbit/s | " + " | ".join(f"{node}, {link:g}" for node, link in kinds) + " |"
    )
    yield f"|{'---|' * (1 + len(kinds))}"
    for key, lines in grouped(table, "work", "speed", "mode", "gradients").items():
        found = (pays_up_to(line, a) for line in grouped(lines, "gpus_per_node", "link").values())
        yield f"| {'; '.join(key)} | {' | '.join(map(str, found))} |"


def changed(a: Assumptions, change: str) -> Assumptions:
    """Return the assumptions with one NAME=VALUE applied."""
    kinds = {field.name: type(field.default) for field in fields(a)}
    name, _, value = change.partition("=")
    if name not in kinds:
        raise SystemExit(f"--set {change}: unknown; known: {', '.join(kinds)}")
    return replace(a, **{name: kinds[name](float(value))})


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--gpus-per-node", type=int, default=8, choices=GPUS_PER_NODE)
    parser.add_argument("--gradients", default="float32", choices=GRADIENT_BYTES)
    options = parser.parse_args()
    a = reduce(changed, options.set, Assumptions())
    table = list(rows(a))
    if options.json:
        report = {"measured": False, "assumptions": asdict(a), "data_bytes": data_bytes(a)}
        print(json.dumps({**report, "works": [asdict(w) for w in works(a)], "steps": table}))
        return
    print("Computed from assumptions; nothing here was measured.")
    print(*step_tables(table, options.gpus_per_node, options.gradients), sep="\n")
    print(*limits_table(table, a), sep="\n")


if __name__ == "__main__":
    main()
