"""Metrics without reference: BRISQUE, NIQE, MUSIQ and CLIP-IQA, computed by pyiqa.

pyiqa (IQA-PyTorch) is the one kept library that has all four, checked by its authors against the
published implementations. It is the optional extra `iqa`. It fetches trained weights when a metric
is first used and keeps them in torch's hub folder ($TORCH_HOME/hub/pyiqa); on machines without a
network, put the files there.

They judge the fused picture alone, in colour, as photographs; none was trained for fusion.

Legend: B = batch, H, W = height and width.
"""

import contextlib
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dtpf.core.errors import UserError

Quality = Callable[[Tensor], Tensor]  # fused (B, 3, H, W) in [0, 1] to (B,)

MINIMUM_SIDE = 96  # NIQE looks at blocks of 96 pixels


def quality(name: str, fused_B3HW: Tensor) -> Tensor:
    """Return pyiqa's score (B,) of float64 for colour images.

    Args:
        name: pyiqa's name of the metric: `brisque`, `niqe`, `musiq`, `clipiqa`.
        fused_B3HW: float in [0, 1], already rounded to 8 bit where the convention says so; at
            least 96 pixels a side.

    Raises:
        UserError: the extra is not installed, or weights can neither be found nor fetched.
        ValueError: a side is shorter than 96 pixels.
    """
    if min(fused_B3HW.shape[-2:]) < MINIMUM_SIDE:
        raise ValueError(
            f"{name} needs {MINIMUM_SIDE} pixels a side, got {tuple(fused_B3HW.shape[-2:])}"
        )
    model = _model(name, str(fused_B3HW.device))
    with torch.inference_mode():
        return model(fused_B3HW.float()).double().reshape(-1)


brisque: Quality = partial(quality, "brisque")
niqe: Quality = partial(quality, "niqe")
musiq: Quality = partial(quality, "musiq")
clip_iqa: Quality = partial(quality, "clipiqa")


@lru_cache(maxsize=8)
def _model(name: str, device: str) -> Any:
    library = _library(name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # tables and JSON go to stdout
            return library.create_metric(name, device=torch.device(device))
    except ImportError as error:
        raise UserError(f"{name}: pyiqa lacks a part ({error}); pip install 'dtpf[iqa]'") from None
    except (OSError, RuntimeError) as error:  # no network, a broken download
        raise UserError(
            f"{name}: its weights can neither be found in {torch.hub.get_dir()}/pyiqa nor fetched "
            f"({error}); put them there, or leave {name} out of the metrics"
        ) from None


def _library(name: str) -> ModuleType:
    try:
        import pyiqa
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another build
        raise UserError(
            f"{name} needs the extra: pip install 'dtpf[iqa]', with torch and torchvision of one "
            f"build ({error})"
        ) from None
    return pyiqa
