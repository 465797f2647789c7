"""Seconds of a data-parallel step from arithmetic, launches and gradient traffic; no measuring.

Operations and parameters are those of `measure_cost`; everything else is a field of `Assumptions`.
docs/scaling.md says where each comes from. `benchmarks/scaling.py` prints what follows from them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product, takewhile

from dtpf.core.models import PRESETS, measure_cost

MIB = 2**20
LINKS = (1.0, 10.0, 25.0, 100.0)  # Gbit/s
GPUS = (1, 2, 4, 8, 16, 32)
GPUS_PER_NODE = (1, 4, 8)
GRADIENT_BYTES = {"float32": 4, "bfloat16": 2}
SPEEDS = ("paper", "fast")
MODES = ("fixed batch", "fixed share")


@dataclass(frozen=True)
class Assumptions:
    """What is not known of a cluster until it is measured there.

    Attributes:
        crop: side of the crops, pixels.
        batch: crops of a step over all workers, where the batch is fixed.
        share: crops of a step on each worker, where the share is fixed.
        paper_teacher_seconds: of one RTX 4090 for 500 epochs of the teacher, by the paper.
        paper_student_seconds: the same for the student, whose teacher runs in every step.
        crops: of 500 epochs, one crop of each of 1083 pairs.
        fast_flops: sustained FLOP/s of the speed `fast`: a fifth of the dense bfloat16 peak.
        launch_seconds: what the host needs to start one operation on the GPU.
        forward_launches: operations that the forward pass of a network starts.
        backward_launches: operations of its backward pass.
        local_bandwidth: bytes/s of a ring within a node, through host memory.
        local_latency: seconds of one step of that ring.
        link_efficiency: share of a link's nominal speed that gradients get.
        socket_ceiling: bytes/s that NCCL's sockets carry on whatever link.
        link_latency: seconds of one step of the ring between nodes.
        first_bucket: bytes of the first bucket of gradients.
        bucket: bytes of the others.
        pays_from: speed-up of a doubling from which it is said to pay.
    """

    crop: int = 128
    batch: int = 32
    share: int = 4
    paper_teacher_seconds: float = 12.1 * 3600
    paper_student_seconds: float = 13.5 * 3600
    crops: int = 500 * 1083
    fast_flops: float = 33e12
    launch_seconds: float = 10e-6
    forward_launches: int = 2200
    backward_launches: int = 3400
    local_bandwidth: float = 5e9
    local_latency: float = 3e-6
    link_efficiency: float = 0.8
    socket_ceiling: float = 5e9
    link_latency: float = 50e-6
    first_bucket: int = MIB
    bucket: int = 25 * MIB
    pays_from: float = 1.3


@dataclass(frozen=True)
class Work:
    """What one crop asks of a GPU: FLOP of both passes, and how many networks run forward."""

    name: str
    parameters: int
    forward_flops: float
    backward_flops: float
    forwards: int
    paper_seconds: float


@dataclass(frozen=True)
class Cluster:
    """`gpus` workers, as many in a node as fit, and nodes linked at `link` Gbit/s."""

    gpus: int
    gpus_per_node: int
    link: float

    @property
    def nodes(self) -> int:
        """How many nodes are in use."""
        return math.ceil(self.gpus / self.gpus_per_node)


def works(a: Assumptions) -> tuple[Work, ...]:
    """Return the teacher, the student beside its teacher, and the student with stored outputs."""
    teacher, student = (
        measure_cost(PRESETS[name], a.crop, a.crop) for name in ("teacher_40m", "student_4m")
    )
    t, s = teacher.flops, student.flops
    # At the rate of the live one: the paper has no training with stored outputs.
    stored = a.paper_student_seconds * 3 * s / (3 * s + t)
    return (
        Work("teacher", teacher.parameters, t, 2 * t, 1, a.paper_teacher_seconds),
        Work("student, live", student.parameters, s + t, 2 * s, 2, a.paper_student_seconds),
        Work("student, stored", student.parameters, s, 2 * s, 1, stored),
    )


def compute_seconds(work: Work, share: int, speed: str, a: Assumptions) -> tuple[float, float]:
    """Return seconds of the forward and the backward pass of `share` crops on one GPU."""
    flops = work.forward_flops + work.backward_flops
    rate = flops * a.crops / work.paper_seconds if speed == "paper" else a.fast_flops
    forward = work.forwards * a.forward_launches * a.launch_seconds
    backward = a.backward_launches * a.launch_seconds
    return (
        max(share * work.forward_flops / rate, forward),
        max(share * work.backward_flops / rate, backward),
    )


def ring_seconds(members: int, size: float, bandwidth: float, latency: float) -> float:
    """Return seconds of a ring all-reduce of `size` bytes among `members`."""
    steps = 2 * (members - 1)
    return steps / members * size / bandwidth + steps * latency


def exchange_seconds(size: float, cluster: Cluster, a: Assumptions) -> float:
    """Return seconds of an all-reduce of `size` bytes: within nodes, then between them."""
    local = min(cluster.gpus, cluster.gpus_per_node)
    link = min(cluster.link * 1e9 / 8 * a.link_efficiency, a.socket_ceiling)
    return ring_seconds(local, size, a.local_bandwidth, a.local_latency) + ring_seconds(
        cluster.nodes, size, link, a.link_latency
    )


def buckets(size: int, a: Assumptions) -> list[int]:
    """Return bytes of the float32 buckets in the order in which they become ready."""
    found = [min(a.first_bucket, size)]
    while (rest := size - sum(found)) > 0:
        found.append(min(a.bucket, rest))
    return found


def step_seconds(
    work: Work, share: int, cluster: Cluster, gradients: str, speed: str, a: Assumptions
) -> tuple[float, float]:
    """Return seconds of one step, and how many of them it waits for gradients.

    A bucket travels once its share of the backward pass is done and the one before has arrived;
    the last is ready only at the end, so it is never hidden.
    """
    forward, backward = compute_seconds(work, share, speed, a)
    if cluster.gpus == 1:
        return forward + backward, 0.0
    size, ready, end = 4 * work.parameters, 0, 0.0
    for bucket in buckets(size, a):
        ready += bucket
        start = max(end, forward + backward * ready / size)
        end = start + exchange_seconds(bucket * GRADIENT_BYTES[gradients] / 4, cluster, a)
    return end, end - forward - backward


def rows(a: Assumptions) -> Iterator[dict]:
    """Yield one dict for every combination, GPUs last, with times in seconds."""
    kinds = product(works(a), SPEEDS, MODES, GRADIENT_BYTES, GPUS_PER_NODE, LINKS)
    for work, speed, mode, gradients, per_node, link in kinds:
        rates: list[float] = []
        for gpus in GPUS:
            cluster = Cluster(gpus, per_node, link)
            share = a.share if mode == "fixed share" else math.ceil(a.batch / gpus)
            batch = a.share * gpus if mode == "fixed share" else a.batch
            if batch < gpus:
                break
            seconds, waited = step_seconds(work, share, cluster, gradients, speed, a)
            rates.append(batch / seconds)
            yield {
                "work": work.name,
                "speed": speed,
                "mode": mode,
                "gradients": gradients,
                "gpus_per_node": per_node,
                "link": link,
                "gpus": gpus,
                "nodes": cluster.nodes,
                "share": share,
                "step": seconds,
                "waited": waited,
                "crops_per_second": rates[-1],
                "efficiency": rates[-1] / rates[0] / gpus,
                "hours": a.crops / rates[-1] / 3600,
                "doubling": rates[-1] / rates[-2] if gpus > 1 else None,
            }


def pays_up_to(lines: list[dict], a: Assumptions) -> int:
    """Return the GPUs up to which every doubling of `lines`, one combination, paid."""
    paid = takewhile(lambda line: (line["doubling"] or math.inf) >= a.pays_from, lines)
    return max(line["gpus"] for line in paid)


def data_bytes(a: Assumptions) -> dict[str, int]:
    """Return bytes of a crop on its way to the GPU, and of pairs of 480 x 640 pixels."""
    values = 4 * 480 * 640
    return {
        # Visible, infrared and their guides as float32, and 512 numbers of text.
        "crop_to_gpu": 2 * 4 * a.crop**2 * 4 + 512 * 4,
        "pair_read_at_most": values,  # 8 bits, as if nothing were compressed
        "pair_in_memory": 2 * values,
        "paper_pairs_in_memory": 1083 * 2 * values,
    }
