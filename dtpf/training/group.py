"""The processes that train together: one, those of torchrun, or those of Ray Train.

The loop asks the group instead of torch.distributed, so it reads the same in all three.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

GradientDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Group:
    """Rank and number of the processes, the device of this one, and what gradients travel as."""

    rank: int
    world: int
    device: torch.device
    gradients: GradientDtype = "float32"

    @property
    def leads(self) -> bool:
        """True in the one process that writes to the store."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over the group, bucket by bucket.

        A bucket travels while the gradients of earlier layers are still being computed.
        """
        if self.world == 1:
            return module
        # Gradients of depth-wise kernels have another stride for their axis of length one: the
        # same memory, which DDP warns of in every worker.
        warnings.filterwarnings("ignore", "Grad strides do not match")
        devices = [self.device.index] if self.device.type == "cuda" else None
        # Gradients live in the buckets: one copy less of all of them.
        wrapped = DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)
        if self.gradients == "bfloat16":
            wrapped.register_comm_hook(wrapped.process_group, _in_bfloat16)
        return wrapped

    def sum(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over the group."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, values: Sequence[Any]) -> list[Any]:
        """Return the picklable values of all processes, in every process."""
        if self.world == 1:
            return list(values)
        found: list[Sequence[Any]] = [()] * self.world
        dist.all_gather_object(found, list(values))
        return [value for part in found for value in part]

    def broadcast(self, value: Any) -> Any:
        """Return the leader's picklable value in every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def _in_bfloat16(
    process_group: dist.ProcessGroup, bucket: dist.GradBucket
) -> torch.futures.Future[Tensor]:
    """Exchange one bucket in bfloat16; by its own name, DDP refuses PyTorch's hook without NCCL."""
    return bf16_compress_hook(process_group, bucket)


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def current_group(
    device: torch.device | None = None, gradients: GradientDtype = "float32"
) -> Group:
    """Return the group of this process, joining the one that torchrun's variables name."""
    if not dist.is_initialized() and under_torchrun():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if device is None:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if not dist.is_initialized():
        return Group(0, 1, device)
    return Group(dist.get_rank(), dist.get_world_size(), device, gradients)
