"""How long a network takes to fuse one pair, measured."""

import statistics
import time

import torch

from dtpf.core.fusion import fuse_tensors
from dtpf.core.models import FusionNet, ModelConfig

_WARM_UP, _FEWEST, _SECONDS = 2, 5, 1.0


def measure_latency(config: ModelConfig, size: tuple[int, int], device: torch.device) -> float:
    """Return the median milliseconds of fusing one pair on `device`; the weights do not matter.

    Trials side by side slow each other down: run them one at a time (`tune_resources.concurrent=1`)
    where the number must hold.

    Args:
        config: a network without text.
        size: height and width of the pair.
        device: where it runs.
    """
    network = FusionNet(config).to(device).eval()
    visible = torch.rand(1, 3, *size, device=device)
    infrared = torch.rand(1, 1, *size, device=device)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _WARM_UP + _FEWEST or time.perf_counter() - begun < _SECONDS:
        started = time.perf_counter()
        fuse_tensors(network, visible, infrared)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 1000.0 * statistics.median(times[_WARM_UP:])
