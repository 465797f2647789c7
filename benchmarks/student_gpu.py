"""How fast student and teacher are on a CUDA GPU, beside the plain way to write the same layers.

    python benchmarks/student_gpu.py [--json] [--repeats N] [--batch N] [--device cuda:0]

Each way runs in turns in this process, with the device drained before and after; medians are
printed. `graph` replays one captured CUDA graph: no launch costs. Done when the student takes at
most 4 ms for 128x128 and 15 ms for 512x640 in the best way. With `--device cpu` the script itself
can be tried; graphs are left out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from plain_network import PlainNetwork
from student_cpu import step
from torch import Tensor, nn

from dtpf.core.models import FusionNet, build

Work = Callable[[], object]
AT_MOST = {(128, 128): 4e-3, (512, 640): 15e-3}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16, help="crops of 128 in a training step")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA GPU here: see `dtpf doctor`")
    report = measure(device, options.repeats, options.batch)
    print(json.dumps(report, indent=2) if options.json else as_table(report))


def measure(device: torch.device, repeats: int, batch: int) -> dict:
    """Return all numbers; seconds are medians."""
    torch.manual_seed(0)
    student = build("student_4m").to(device)
    rows = [latency(student, size, device, repeats) for size in AT_MOST]
    rows.append(training(student, batch, device, repeats, PlainNetwork(student)))
    rows.append(training(build("teacher_40m").to(device), batch, device, repeats))
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": named, "torch": torch.__version__, "work": rows}


def latency(student: FusionNet, size: tuple[int, int], device: torch.device, repeats: int) -> dict:
    """Time one image: plain, ours, and ours in bfloat16, each of ours as a graph too."""
    pair = torch.rand(1, 3, *size, device=device), torch.rand(1, 1, *size, device=device)
    half = build(student.config).to(device, torch.bfloat16)
    half.load_state_dict(student.state_dict())
    small = tuple(image.bfloat16() for image in pair)
    plain = PlainNetwork(student)
    ways: dict[str, Work] = {
        "plain": lambda: plain(*pair),
        "float32": lambda: student(*pair),
        "bfloat16": lambda: half(*small),
    }
    with torch.no_grad():
        difference = (plain(*pair) - student(*pair)).abs().max().item()
        if device.type == "cuda":
            ways["float32 graph"] = captured(student, pair)
            ways["bfloat16 graph"] = captured(half, small)
        row = timed(ways, device, repeats)
    name = "image {}x{}".format(*size)
    return {"name": name, "at_most": AT_MOST[size], "difference_to_plain": difference, **row}


def captured(network: nn.Module, pair: tuple[Tensor, ...]) -> Work:
    """Return the replay of a CUDA graph of one call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is set up on first calls must not be captured
        for _ in range(3):
            network(*pair)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(*pair)
    return graph.replay


def training(
    network: FusionNet,
    batch: int,
    device: torch.device,
    repeats: int,
    plain: PlainNetwork | None = None,
) -> dict:
    """Time forward and backward of a batch; the loss is a stand-in."""
    crops: list[Tensor] = [
        torch.rand(batch, channels, 128, 128, device=device) for channels in (3, 1)
    ]
    if network.config.text:
        crops.append(torch.randn(batch, network.config.text_dim, device=device))
    weights = list(network.parameters())

    def autocast() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            step(network, weights, crops)

    ways: dict[str, Work] = {
        "float32": lambda: step(network, weights, crops),
        "bfloat16": autocast,
    }
    if plain:
        ways["plain"] = lambda: step(plain, list(plain.weights.values()), crops)
    row = timed(ways, device, max(3, repeats // 4))
    rates = {way: round(batch / seconds, 1) for way, seconds in row["seconds"].items()}
    kind = "teacher" if network.config.text else "student"
    return {"name": f"training step, {kind}, {batch} crops", "crops_per_second": rates, **row}


def timed(ways: dict[str, Work], device: torch.device, repeats: int) -> dict:
    """Return the seconds of each way, and how many times as fast as the plain one it is."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 2):
        for way, work in ways.items():
            drain(device)
            start = time.perf_counter()
            work()
            drain(device)
            if turn > 1:  # the first turns warm up
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    result: dict = {"seconds": {way: round(value, 6) for way, value in medians.items()}}
    if "plain" in medians:
        result["ratio_to_plain"] = {
            way: round(medians["plain"] / value, 2) for way, value in medians.items()
        }
    return result


def drain(device: torch.device) -> None:
    """Wait until the device has done all it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def as_table(report: dict) -> str:
    """Return one line per way of each kind of work."""
    lines = [f"{report['device']}, torch {report['torch']}"]
    for row in report["work"]:
        bound = f", at most {row['at_most'] * 1e3:g} ms" if "at_most" in row else ""
        lines.append(row["name"] + bound)
        for way, value in row["seconds"].items():
            ratio = row.get("ratio_to_plain", {}).get(way)
            times = "" if ratio is None else f"{ratio:>8.2f} times as fast as plain"
            lines.append(f"  {way:<16}{value * 1e3:>10.2f} ms{times}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
