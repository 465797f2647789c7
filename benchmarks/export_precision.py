"""What exported networks lose to float32, and what they gain, on real pairs.

    python benchmarks/export_precision.py BUNDLE --data ../shared/data/roadscene [--json]

Every precision of `dtpf export` runs in onnxruntime on the same test pairs; differences are to the
float32 file, in grey levels of 255, and in decibels (PSNR over all pixels). Precisions take turns
on each pair; `time` is the median of the ratios to float32. The output of float32 is held against
torch by the export itself.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from dtpf.core.bundle import load_bundle
from dtpf.core.export import PRECISIONS, export_onnx


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--data", type=Path, required=True, help="holds SPLIT/vi and SPLIT/ir")
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, default=10, help="at most so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    inputs = pairs(options.data / options.split)[: options.pairs]
    report = measure(options.bundle, inputs, options.threads)
    print(json.dumps(report, indent=2) if options.json else as_table(report))


def pairs(folder: Path) -> list[dict[str, np.ndarray]]:
    """Return the network's inputs for every pair of one split."""
    found = []
    for path in sorted((folder / "vi").iterdir()):
        (other,) = (folder / "ir").glob(f"{path.stem}.*")
        visible = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        infrared = np.asarray(Image.open(other).convert("L"), np.float32) / 255
        found.append(
            {"visible": visible.transpose(2, 0, 1)[None], "infrared": infrared[None, None]}
        )
    return found


def measure(source: str, inputs: list[dict[str, np.ndarray]], threads: int) -> dict:
    """Return all numbers of a bundle."""
    bundle = load_bundle(source)
    files = {precision: export_onnx(bundle, precision).data for precision in PRECISIONS}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    sessions = {
        precision: onnxruntime.InferenceSession(data, settings, ["CPUExecutionProvider"])
        for precision, data in files.items()
    }
    errors: dict[str, list[np.ndarray]] = {precision: [] for precision in PRECISIONS}
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for pair in inputs:
        fused = {}
        for precision, session in sessions.items():
            session.run(None, pair)  # the first run of a size makes room for it
            start = time.perf_counter()
            fused[precision] = session.run(None, pair)[0]
            seconds[precision].append(time.perf_counter() - start)
        for precision, result in fused.items():
            errors[precision].append(255 * np.abs(result - fused["float32"]).ravel())
    rows = [
        row(precision, len(files[precision]), np.concatenate(errors[precision]), seconds)
        for precision in PRECISIONS
    ]
    return {"parameters": bundle.info["parameters"], "pairs": len(inputs), "rows": rows}


def row(precision: str, size: int, errors: np.ndarray, seconds: dict[str, list[float]]) -> dict:
    """Return what is reported of one precision; `errors` are absolute grey levels."""
    ratios = [a / b for a, b in zip(seconds[precision], seconds["float32"], strict=True)]
    square = float(np.mean(errors.astype(np.float64) ** 2))
    return {
        "precision": precision,
        "megabytes": round(size / 1e6, 2),
        "mean_levels": round(float(errors.mean()), 4),
        "max_levels": round(float(errors.max()), 3),
        "psnr": round(10 * float(np.log10(255**2 / square)), 1) if square else None,
        "time": round(statistics.median(ratios), 2),
    }


def as_table(report: dict) -> str:
    """Return one line per precision."""
    lines = [f"{report['parameters']:,} parameters, {report['pairs']} pairs"]
    lines += [f"{'':<10}{'MB':>8}{'mean':>9}{'max':>9}{'PSNR':>8}{'time':>7}"]
    lines += [
        f"{item['precision']:<10}{item['megabytes']:>8}{item['mean_levels']:>9}"
        f"{item['max_levels']:>9}{item['psnr'] or '-':>8}{item['time']:>7}"
        for item in report["rows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
