"""How fast the student network is on a CPU, beside the plain way to write the same layers.

    python benchmarks/student_cpu.py [--json] [--threads N] [--repeats N]

Both run in this process in turns; medians are printed. Done when 128x128 runs 4 times as fast as
the plain network, 512x640 10 times (aim 15) against 128/64 tiling, a training step 4 times.
`operations` is our network by PyTorch's operations, without the compiled kernels.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
from plain_network import PlainNetwork

from dtpf.core import kernels
from dtpf.core.models import build, measure_cost

AT_LEAST = {"image 128x128": 4.0, "frame 512x640": 10.0, "training step 4x128x128": 4.0}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report = measure(options.repeats)
    print(json.dumps(report, indent=2) if options.json else as_table(report))


def measure(repeats: int) -> dict:
    """Return all numbers; seconds are medians."""
    torch.manual_seed(0)
    network = build("student_4m")
    plain = PlainNetwork(network)
    image, frame, crops = pair(1, 128, 128), pair(1, 512, 640), pair(4, 128, 128)
    peak = matrix_product_gflops()
    rows = [
        row(
            "image 128x128",
            lambda: network(*image),
            {"plain": lambda: plain(*image), "operations": uncompiled(lambda: network(*image))},
            repeats,
        ),
        row(
            "frame 512x640",
            lambda: network(*frame),
            {
                "plain": lambda: plain.tiled(*frame),
                "plain_whole": lambda: plain(*frame),
                "operations": uncompiled(lambda: network(*frame)),
            },
            max(2, repeats // 2),
        ),
        row(
            "training step 4x128x128",
            lambda: step(network, network.parameters(), crops),
            {
                "plain": lambda: step(plain, plain.weights.values(), crops),
                "operations": uncompiled(lambda: step(network, network.parameters(), crops)),
            },
            repeats,
            training=True,
        ),
    ]
    flops = [(1, 128, 128), (1, 512, 640), (12, 128, 128)]  # backward costs twice the forward
    for result, (factor, height, width) in zip(rows, flops, strict=True):
        gflop = factor * measure_cost(network.config, height, width).flops / 1e9
        result["gflop"] = round(gflop, 1)
        result["gflops_per_second"] = round(gflop / result["ours_seconds"], 1)
        result["fraction_of_matrix_product"] = round(gflop / result["ours_seconds"] / peak, 3)
    with torch.no_grad():
        difference = (network(*image) - plain(*image)).abs().max().item()
    return {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "kernels": kernels.take(torch.zeros(1)),
            "matrix_product_gflops": round(peak, 1),
        },
        "difference_to_plain": difference,
        "work": rows,
    }


def row(
    name: str,
    ours: Callable[[], object],
    references: dict[str, Callable[[], object]],
    repeats: int,
    training: bool = False,
) -> dict:
    """Time our way and the references in turns."""
    seconds: dict[str, list[float]] = {}
    with torch.set_grad_enabled(training):
        for turn in range(repeats + 1):
            for label, work in {"ours": ours, **references}.items():
                start = time.perf_counter()
                work()
                if turn:  # the first turn warms up
                    seconds.setdefault(label, []).append(time.perf_counter() - start)
    result: dict = {"name": name, "at_least": AT_LEAST[name], "repeats": repeats}
    for label, times in seconds.items():
        result[f"{label}_seconds"] = round(statistics.median(times), 4)
        if label != "ours":
            pairs = zip(times, seconds["ours"], strict=True)
            result[f"ratio_to_{label}"] = round(statistics.median(a / b for a, b in pairs), 2)
    return result


def uncompiled(work: Callable[[], object]) -> Callable[[], object]:
    """Return the same work by PyTorch's operations, without the compiled kernels."""

    def run() -> object:
        with mock.patch.object(kernels, "take", return_value=False):
            return work()

    return run


def step(network, parameters, crops) -> None:
    """Run forward and backward; the loss is a stand-in, its cost does not matter here."""
    for weight in parameters:
        weight.grad = None
    network(*crops).abs().mean().backward()


def pair(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images in [0, 1]."""
    return torch.rand(batch, 3, height, width), torch.rand(batch, 1, height, width)


def matrix_product_gflops(size: int = 2048, repeats: int = 5) -> float:
    """Return what a float32 matrix product reaches at best here."""
    first, second = torch.rand(size, size), torch.rand(size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        first @ second
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def as_table(report: dict) -> str:
    """Return one line per kind of work."""
    lines = [json.dumps(report["machine"])]
    lines.extend(
        f"{result['name']:<26}{result['ours_seconds']:>9.3f} s, plain "
        f"{result['plain_seconds']:>8.3f} s, ratio {result['ratio_to_plain']:>6.2f} "
        f"(at least {result['at_least']:g}), {result['gflops_per_second']} GFLOP/s, "
        f"{result['fraction_of_matrix_product']:.0%} of a matrix product"
        for result in report["work"]
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
