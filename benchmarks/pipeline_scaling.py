"""The whole pipeline on one, eight and a thousand RTX 4090, computed; no GPU is measured.

    python benchmarks/pipeline_scaling.py [--json] [--set NAME=VALUE ...]
                                          [--measure FOLDER] [--update PAGE]

`--measure` first measures this machine (minutes) with the pairs of a folder with `vi` and `ir`,
and keeps the values in `pipeline_measured.json`. `--set` replaces a value for this call.
docs/scaling.md has the tables; `--update` writes them there, each after its mark.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from pages import table, updated
from pipeline_limits import limits, requests, stored, traffic
from pipeline_model import MODELS, caption, embed, index, nodes, statistics
from pipeline_settings import ASSUMED, KEPT, LEFT_OUT, MEASURED, settings
from pipeline_simulation import Course, Work, simulate
from pipeline_training import DAY, crop_rate, serving, stages, training, trials_per_day

GPUS = (1, 8, 1000)
PAIRS = tuple(10**power for power in range(3, 10))
UNITS = ((365 * DAY, "y"), (DAY, "d"), (3600, "h"), (60, "min"), (1, "s"))


def short(value: float) -> str:
    """Return a number with a letter for its thousands."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g} "


def time(seconds: float) -> str:
    """Return seconds in the largest unit of which there are two or more."""
    size, unit = next((u for u in UNITS if seconds >= 2 * u[0]), UNITS[-1])
    return f"{seconds / size:,.0f} {unit}"


def power(pairs: float) -> str:
    """Return a power of ten as people write it."""
    return f"10^{len(str(int(pairs))) - 1}"


def measured_table(a) -> str:
    """Return what was measured."""
    names = [name for name in MEASURED if name not in LEFT_OUT]
    rows = [
        [f"`{name}`", f"{getattr(a, name):.4g} {unit}".strip(), what]
        for name in names
        for unit, what in [MEASURED[name]]
    ]
    return table(["measured", "value", "what"], rows)


def assumed_table(a) -> str:
    """Return what was assumed."""
    rows = [[f"`{name}`", f"{getattr(a, name):.4g}", why] for name, (_, why) in ASSUMED.items()]
    return table(["assumption", "value", "where it comes from"], rows)


def cards_table(a) -> str:
    """Return what so many cards do, of a set of 1083 pairs or of a million."""

    def row(name: str, value: Callable[[int], str]) -> list[str]:
        return [name, *(value(gpus) for gpus in GPUS)]

    def captions(model: str) -> Callable[[int], str]:
        return lambda gpus: _bounded(caption(a, 10**6, gpus, model), DAY)

    rows = [row(f"pairs captioned a day, Qwen2-VL {m}", captions(m)) for m in MODELS]
    rows += [
        row(
            "by the default captioner, all cores", lambda n: _bounded(statistics(a, 10**6, n), DAY)
        ),
        row("captions encoded a day, CLIP", lambda n: _bounded(embed(a, 10**6, n), DAY)),
        row(
            "teacher, the paper's training", lambda n: time(training(a, 1083, n, "teacher").seconds)
        ),
        row("student", lambda n: time(training(a, 1083, n, "student, live").seconds)),
        row(
            "teacher, 4 crops a GPU, crops a second", lambda n: f"{crop_rate('teacher', n, 4):,.0f}"
        ),
        row("trials a day", lambda n: f"{trials_per_day(a, 1083, n):,.0f}"),
        row("requests served a second", lambda n: _bounded(serving(a, n), 1)),
    ]
    return table(["", *(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)], rows)


def _bounded(stage, seconds: float) -> str:
    return f"{short(stage.rate * seconds).strip()} ({stage.slowest})"


def bounds_table(a) -> str:
    """Return pairs a second by resource for captions of the small model and a million pairs."""
    found = [caption(a, 10**6, gpus, "2b").rates for gpus in GPUS]
    rows = [[name, *(short(rates[name]).strip() for rates in found)] for name in found[0]]
    return table(["pairs a second", *(f"{gpus}" for gpus in GPUS)], rows)


def bytes_table(a) -> str:
    """Return bytes and objects a pair, and of whole sets."""
    rows = [
        [
            part,
            f"{size:,.0f}",
            f"{count:.4g}",
            *(short(n * size) + "B" for n in (10**3, 10**6, 10**9)),
        ]
        for part, (size, count) in stored(a).items()
    ]
    return table(["", "bytes a pair", "objects a pair", "10^3", "10^6", "10^9"], rows)


def traffic_table(a) -> str:
    """Return requests and bytes by the size of the set."""
    sizes = (10**3, 10**6, 10**7, 10**9)
    asked = [requests(a, pairs) for pairs in sizes]
    sent = [traffic(a, pairs, 32) for pairs in sizes]
    rows = [[f"requests: {name}", *(short(v[name]).strip() for v in asked)] for name in asked[0]]
    rows += [[name, *(short(v[name]) + "B" for v in sent)] for name in sent[0]]
    return table(["", *map(power, sizes)], rows)


def stages_table(a, gpus: int) -> str:
    """Return each stage's time and what bounds it, by the size of the set."""
    found = [stages(a, pairs, gpus) for pairs in PAIRS]
    rows = [
        [line[0].name, *(f"{time(stage.seconds)}, {stage.bottleneck}" for stage in line)]
        for line in zip(*found, strict=True)
    ]
    return table([f"{gpus} GPUs" if gpus > 1 else "1 GPU", *map(power, PAIRS)], rows)


def course(a, pairs: int, gpus: int, mean_hours: float | None = None) -> Course:
    """Return a simulated captioning by the large model, in batches as engines get them."""
    stage, batch = caption(a, pairs, gpus, "7b"), int(a.batch_rows)
    work = Work(
        pieces=-(-pairs // batch),
        seconds=batch * gpus / stage.rate,
        workers=gpus,
        per_node=int(a.gpus_per_node),
        start=stage.alone["start-up"],
    )
    hours = a.node_hours_between_failures if mean_hours is None else mean_hours
    return simulate(work, hours * 3600, a.node_back_seconds, a.spread)


def simulated_table(a) -> str:
    """Return captions with start, end and failures beside the mere rate."""
    rows = []
    for pairs in (10**3, 10**5, 10**7):
        for gpus in GPUS:
            stage, often = caption(a, pairs, gpus, "7b"), course(a, pairs, gpus, 20)
            found = course(a, pairs, gpus)
            times = (pairs / stage.rate, found.seconds, found.tail)
            repeated = f"{often.repeated * int(a.batch_rows):,}"
            begun = [power(pairs), str(gpus), *map(time, times), str(found.failures)]
            rows.append([*begun, time(often.seconds), str(often.failures), repeated])
    head = ["pairs", "GPUs", "at full rate", "simulated", "end", "failures"]
    return table([*head, "a node fails every 20 h", "failures", "pairs repeated"], rows)


def limits_table(a) -> str:
    """Return the numbers at which today's code breaks."""
    rows = [[what, short(number).strip(), unit] for what, number, unit in limits(a)]
    return table(["", "from", ""], rows)


TABLES: dict[str, Callable] = {
    "cards": cards_table,
    "bounds": bounds_table,
    "bytes": bytes_table,
    "traffic": traffic_table,
    "stages 1": lambda a: stages_table(a, 1),
    "stages 8": lambda a: stages_table(a, 8),
    "stages 1000": lambda a: stages_table(a, 1000),
    "simulated": simulated_table,
    "limits": limits_table,
    "measured": measured_table,
    "assumed": assumed_table,
}


def report(a) -> Iterator[tuple[str, object]]:
    """Yield the parts of the JSON report."""
    yield "gpu_measured", False
    yield "values", vars(a)
    runs = [(pairs, gpus) for pairs in PAIRS for gpus in GPUS]
    yield (
        "stages",
        [
            {"pairs": pairs, "gpus": gpus, "nodes": nodes(a, gpus), "seconds": stage.seconds}
            | {"bottleneck": stage.bottleneck, **asdict(stage)}
            for pairs, gpus in runs
            for stage in stages(a, pairs, gpus)
        ],
    )
    yield "limits", [dict(zip(("what", "number", "of"), line, strict=True)) for line in limits(a)]
    yield "index_hours", {pairs: index(a, pairs).seconds / 3600 for pairs in PAIRS}


def main() -> None:
    """Parse, measure if asked, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--measure", type=Path, metavar="FOLDER")
    parser.add_argument("--update", type=Path, metavar="PAGE")
    options = parser.parse_args()
    if options.measure:
        from pipeline_measures import measure

        KEPT.write_text(json.dumps(measure(options.measure), indent=2) + "\n")
    a = settings(options.set)
    if options.json:
        print(json.dumps(dict(report(a)), indent=2))
        return
    tables = {name: draw(a) for name, draw in TABLES.items()}
    if options.update:
        options.update.write_text(updated(options.update.read_text(), "pipeline", tables))
        return
    print("Computed; nothing of a GPU was measured.")
    for name, text in tables.items():
        print(f"\n{name}\n\n{text}", end="")


if __name__ == "__main__":
    main()
