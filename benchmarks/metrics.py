"""The five main metrics on one 480 x 640 pair: this library against the straightforward way.

The straightforward way is NumPy and SciPy as the field's scripts do it: two-dimensional
convolutions and a Python loop for the joint histogram. Both run in this process on one thread,
in turns; the medians of their processor time are compared, and the values must agree to 1e-9.

    python benchmarks/metrics.py [--json] [--rounds 5]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import convolve2d
from torch import Tensor

from dtpf.core.metrics import METRICS

HEIGHT, WIDTH = 480, 640
NAMES = ("EN", "MI", "SF", "VIF", "Qabf")
TOLERANCE = 1e-9

Image = NDArray[np.float64]


def pair(height: int = HEIGHT, width: int = WIDTH) -> tuple[Image, Image, Image]:
    """Return fused, visible and infrared 8-bit values: smooth shapes, texture and noise."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    base = 110 + 60 * np.sin(columns / 37) * np.cos(rows / 23)
    spot = 160 * np.exp(-((rows - height / 2) ** 2 + (columns - width / 3) ** 2) / 3000)
    visible = np.clip(base + generator.normal(0, 12, base.shape), 0, 255).round()
    infrared = np.clip(60 + spot + generator.normal(0, 6, base.shape), 0, 255).round()
    return np.round((visible + infrared) / 2), visible, infrared


def entropy(fused: Image, visible: Image, infrared: Image) -> float:
    """EN from NumPy's histogram."""
    share = np.histogram(fused, 256, (0, 256))[0] / fused.size
    return float(-sum(p * np.log2(p) for p in share if p > 0))


def mutual_information(fused: Image, visible: Image, infrared: Image) -> float:
    """MI with a Python loop over the pixels for each joint histogram."""
    return _shared(visible, fused) + _shared(infrared, fused)


def spatial_frequency(fused: Image, visible: Image, infrared: Image) -> float:
    """SF from NumPy's differences."""
    rows, columns = np.diff(fused, axis=1), np.diff(fused, axis=0)
    return float(np.sqrt((rows**2).mean() + (columns**2).mean()))


def vif(fused: Image, visible: Image, infrared: Image) -> float:
    """VIF with two-dimensional convolutions."""
    return _vif(visible, fused) + _vif(infrared, fused)


def qabf(fused: Image, visible: Image, infrared: Image) -> float:
    """Qabf with two-dimensional convolutions."""
    (strength_a, angle_a), (strength_b, angle_b) = _sobel(visible), _sobel(infrared)
    strength_f, angle_f = _sobel(fused)
    kept_a = _kept(strength_a, angle_a, strength_f, angle_f) * strength_a
    kept_b = _kept(strength_b, angle_b, strength_f, angle_f) * strength_b
    return float((kept_a + kept_b).sum() / (strength_a + strength_b).sum())


STRAIGHTFORWARD: dict[str, Callable[[Image, Image, Image], float]] = {
    "EN": entropy,
    "MI": mutual_information,
    "SF": spatial_frequency,
    "VIF": vif,
    "Qabf": qabf,
}


def _shared(source: Image, fused: Image) -> float:
    joint = np.zeros((256, 256))
    first, second = source.astype(int), fused.astype(int)
    for row in range(source.shape[0]):
        for column in range(source.shape[1]):
            joint[first[row, column], second[row, column]] += 1
    joint /= joint.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / independent[seen])).sum())


def _vif(reference: Image, distorted: Image) -> float:
    kept = total = 0.0
    for scale, size in enumerate((17, 9, 5, 3)):
        axis = np.arange(size) - size // 2
        window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (size / 5) ** 2))
        window /= window.sum()
        if scale:
            reference = convolve2d(reference, window, "valid")[::2, ::2]
            distorted = convolve2d(distorted, window, "valid")[::2, ::2]
        mean_r, mean_d = (convolve2d(x, window, "valid") for x in (reference, distorted))
        var_r = np.maximum(convolve2d(reference**2, window, "valid") - mean_r**2, 0)
        var_d = np.maximum(convolve2d(distorted**2, window, "valid") - mean_d**2, 0)
        cov = convolve2d(reference * distorted, window, "valid") - mean_r * mean_d
        gain = cov / (var_r + 1e-10)
        rest = var_d - gain * cov
        hopeless = (var_r < 1e-10) | (var_d < 1e-10) | (gain < 0)
        gain[hopeless], rest[hopeless] = 0.0, var_d[hopeless]
        kept += np.log(1 + gain**2 * var_r / (np.maximum(rest, 1e-10) + 2)).sum()
        total += np.log(1 + var_r / 2).sum()
    return float(kept / total)


def _sobel(image: Image) -> tuple[Image, Image]:
    kernel = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    across, up = convolve2d(image, kernel, "same"), convolve2d(image, -kernel.T, "same")
    safe = np.where(across == 0, 1.0, across)
    angle = np.where(across == 0, np.pi / 2, np.arctan(up / safe))
    return np.sqrt(across**2 + up**2), angle


def _kept(strength: Image, angle: Image, strength_f: Image, angle_f: Image) -> Image:
    larger = np.maximum(strength, strength_f)
    ratio = np.where(
        larger == 0, 1.0, np.minimum(strength, strength_f) / np.where(larger == 0, 1.0, larger)
    )
    alike = 1 - np.abs(angle - angle_f) / (np.pi / 2)
    return 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (alike - 0.8)))


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return seconds, ratio and relative difference of each metric, and of all five together."""
    images = pair()
    tensors = [torch.from_numpy(image)[None] for image in images]
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in NAMES}
    differences: dict[str, float] = {}
    for round_index in range(rounds + 1):
        for name in NAMES:
            ours, our_seconds = _timed(lambda n=name: _ours(n, tensors))
            theirs, their_seconds = _timed(lambda n=name: STRAIGHTFORWARD[n](*images))
            differences[name] = abs(ours / theirs - 1)
            if round_index:  # the first round warms up
                seconds[name][0].append(our_seconds)
                seconds[name][1].append(their_seconds)
    medians = {
        name: (statistics.median(ours), statistics.median(theirs))
        for name, (ours, theirs) in seconds.items()
    }
    medians["all"] = (sum(m[0] for m in medians.values()), sum(m[1] for m in medians.values()))
    differences["all"] = max(differences.values())
    return {
        name: {
            "seconds": ours,
            "straightforward_seconds": theirs,
            "ratio": theirs / ours,
            "relative_difference": differences[name],
        }
        for name, (ours, theirs) in medians.items()
    }


def _ours(name: str, tensors: list[Tensor]) -> float:
    return float(METRICS[name].function(*tensors))


def _timed(call: Callable[[], float]) -> tuple[float, float]:
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def main() -> int:
    """Print the comparison; exit code 1 where values differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(arguments.rounds)
    if arguments.json:
        document = {"size": [HEIGHT, WIDTH], "rounds": arguments.rounds, "threads": 1}
        print(json.dumps(document | {"metrics": results}, indent=1))
    else:
        for name, row in results.items():
            print(
                f"{name:5s} {1e3 * row['seconds']:8.1f} ms  straightforward "
                f"{1e3 * row['straightforward_seconds']:8.1f} ms  {row['ratio']:6.1f} x  "
                f"difference {row['relative_difference']:.1e}"
            )
    return int(results["all"]["relative_difference"] > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
