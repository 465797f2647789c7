"""Memory of large images: set by the tile, not by the image.

    python benchmarks/tiling.py [--tile PIXELS] [--sizes 1080x1920 ...] [--json]

Each size runs in a fresh process, which reports its peak memory beyond what it held with network
and images loaded. `working` is that less the result's own array; it is what a model call takes.
Done when `working` at 8K is at most 1.25 times that at 4K. The network is narrow, so that an 8K
image takes minutes on two cores; the memory of wider ones grows with their width.
"""

import argparse
import json
import subprocess
import sys

SIZES = ["1080x1920", "2160x3840", "4320x7680"]
AT_MOST = 1.25

_PROGRAM = """
import json, resource, sys, time
import numpy as np
from dtpf.core.bundle import Bundle
from dtpf.core.fusion import Fuser
from dtpf.core.models import FusionNet, ModelConfig
height, width, tile = json.loads(sys.argv[1])
config = ModelConfig(width=4, blocks=(1, 1, 1, 1), refinement=0, ffn_expansion=2.0, text=False)
fuser = Fuser(Bundle(FusionNet(config).eval(), "narrow", ""), max_call_pixels=tile)
visible = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
infrared = np.ascontiguousarray(visible[..., 0])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

before = peak()
start = time.perf_counter()
fused = fuser.fuse(visible, infrared)
seconds = time.perf_counter() - start
print(json.dumps([peak() - before, fused.nbytes / 2**20, seconds]))
"""


def main() -> None:
    """Parse, measure, print; exit code 1 where the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--tile", type=int, default=512**2, help="pixels of one call")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    options = parser.parse_args()
    rows = [measure(size, options.tile) for size in options.sizes]
    ratio = round(rows[-1]["working_mb"] / rows[-2]["working_mb"], 2) if len(rows) > 1 else 1.0
    report = {"tile": options.tile, "rows": rows, "ratio": ratio, "holds": ratio <= AT_MOST}
    lines = [*map(str, rows), f"last over the one before: {ratio} (at most {AT_MOST})"]
    print(json.dumps(report, indent=2) if options.json else "\n".join(lines))
    sys.exit(0 if report["holds"] else 1)


def measure(size: str, tile: int) -> dict:
    """Fuse one pair in a fresh process."""
    height, width = map(int, size.split("x"))
    arguments = [sys.executable, "-c", _PROGRAM, json.dumps([height, width, tile])]
    extra, result, seconds = json.loads(subprocess.check_output(arguments))
    return {
        "size": size,
        "peak_mb": round(extra, 1),
        "result_mb": round(result, 1),
        "working_mb": round(extra - result, 1),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
