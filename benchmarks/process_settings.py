"""What a process that runs networks gains by keeping freed memory, and by one computing thread.

    python benchmarks/process_settings.py [--model PRESET] [--size HxW] [--repeats N] [--json]

Each setting runs in a fresh process; they take turns. `page_faults` are those of the last call.
`memory kept` is `dtpf.core.machine.keep_freed_memory`. `second team`: another thread has computed
before and lives on, as when an endpoint loads its model in a thread that stays.
"""

import argparse
import json
import statistics
import subprocess
import sys

SETTINGS = {
    "first thread": {},
    "a thread": {"thread": True},
    "a thread, memory kept": {"thread": True, "keep": True},
    "a thread, memory kept, second team": {"thread": True, "keep": True, "second": True},
}
REFERENCE = "a thread, memory kept"

_PROGRAM = """
import json, resource, sys, threading, time
import torch
from dtpf.core.machine import keep_freed_memory
from dtpf.core.models import build
setting = json.loads(sys.argv[1])
if setting.get("keep"):
    keep_freed_memory()
height, width = setting["size"]

def work():
    with torch.inference_mode():
        network = build(setting["model"]).eval()
        visible, infrared = torch.rand(1, 3, height, width), torch.rand(1, 1, height, width)
        for _ in range(setting["calls"]):
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            start = time.perf_counter()
            network(visible, infrared)
            seconds.append(time.perf_counter() - start)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        print(json.dumps([seconds[2:], faults]))

seconds = []
if setting.get("second"):
    torch.rand(2**20).exp()
if setting.get("thread"):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
"""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--model", default="student_4m")
    parser.add_argument("--size", default="128x128", metavar="HxW")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    common = {"model": options.model, "calls": 10}
    common["size"] = [int(side) for side in options.size.split("x")]
    report = measure(common, options.repeats)
    lines = [f"{name:<36}{row}" for name, row in report.items()]
    print(json.dumps(report, indent=2) if options.json else "\n".join(lines))


def measure(common: dict, repeats: int) -> dict:
    """Return medians in milliseconds, and ratios to the reference."""
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    faults = {}
    for _ in range(repeats):
        for name, setting in SETTINGS.items():
            arguments = [sys.executable, "-c", _PROGRAM, json.dumps({**common, **setting})]
            found, faults[name] = json.loads(subprocess.check_output(arguments))
            seconds[name].append(statistics.median(found))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: {
            "milliseconds": round(1000 * median, 1),
            "ratio": round(median / medians[REFERENCE], 2),
            "page_faults": faults[name],
        }
        for name, median in medians.items()
    }


if __name__ == "__main__":
    main()
