"""Seconds of training, tuning, evaluation and serving; see `pipeline_model.py`.

Training steps are those of `scaling_model.py` at the paper's speed, with 10 Gbit/s between nodes.
"""

import math
from functools import cache

import scaling_model
from pipeline_model import TRAINING, Stage, caption, embed, index, link, nodes, shards

DAY = 86_400.0
WORKERS = (1, 2, 4, 8, 16, 32)


@cache
def works() -> dict[str, scaling_model.Work]:
    """Return what a crop asks of a GPU, by training; the networks are built once."""
    return {work.name: work for work in scaling_model.works(TRAINING)}


def crop_rate(name: str, gpus: int, share: int | None = None) -> float:
    """Return crops a second: the best of 1 to 32 GPUs with batch 32, or `share` crops on each."""
    work = works()[name]
    found = []
    for count in (gpus,) if share else WORKERS:
        if count <= gpus:
            cluster = scaling_model.Cluster(count, 8, 10.0)
            part = share or TRAINING.batch // count
            step = scaling_model.step_seconds(work, part, cluster, "float32", "paper", TRAINING)[0]
            found.append((part * count) / step)
    return max(found)


def training(a, pairs: int, gpus: int, name: str) -> Stage:
    """Return a training of `teacher` or `student, live` with batch 32 on at most 32 GPUs."""
    workers, trained = min(gpus, TRAINING.batch), a.train_share * pairs
    missed = max(0.0, 1 - a.cache_bytes / a.pair_memory / trained)
    read = 2 * a.image_requests * a.get_seconds + a.decode_seconds / a.core_speed
    texts = a.index_row_bytes + a.caption_row_bytes + a.embedding_row_bytes
    rates = {
        "GPU": crop_rate(name, gpus),
        "feed reading": workers / max(missed * read, 1e-9),
        "store bandwidth": a.store_bandwidth / max(missed * a.pair_bytes, 1e-9),
    }
    forward = a.forward_teacher if name == "teacher" else a.forward_student
    validated = a.validations * a.val_share * pairs
    opening = 2 * 2 * a.get_seconds * shards(a, pairs)
    local = min(workers, a.gpus_per_node)
    alone = {
        "validation": validated * (forward + a.metric_seconds) / workers,
        "texts of all pairs": pairs * (a.worker_seconds / a.core_speed + local * texts / link(a))
        + opening,
    }
    return Stage(name, max(a.paper_crops, trained), rates, alone)


def evaluate(a, pairs: int) -> Stage:
    """Return the evaluation of the test split, on as many CPU actors as the recipe has."""
    forwards = works()["student, live"].forward_flops  # of teacher and student, one crop
    flops = forwards * 480 * 640 / TRAINING.crop**2
    seconds = flops / a.cpu_flops + a.methods * a.evaluation_seconds
    rates = {"evaluation's CPUs": a.evaluation_actors * a.core_speed / seconds}
    return Stage("evaluation", a.test_share * pairs, rates)


def trials_per_day(a, pairs: int, gpus: int) -> float:
    """Return trials of the student a day; two share a GPU and take twice as long."""
    crops = a.trial_share * a.trial_steps * a.trial_batch
    stage = training(a, pairs, 1, "student, live")
    checked = 4 * a.trial_share * stage.alone["validation"] / a.validations
    alone = a.trial_start / 2 + stage.alone["texts of all pairs"] / 2 + checked
    return gpus * DAY / (crops / stage.rate + alone)


def tuning(a, pairs: int, gpus: int) -> Stage:
    """Return a search of `trials` trials and the training of its best."""
    best = training(a, pairs, gpus, "student, live").seconds
    together = trials_per_day(a, pairs, min(gpus, math.ceil(a.trials / 2))) / DAY
    return Stage("tuning", a.trials, {"trials": together}, {"the winner's training": best})


def serving(a, gpus: int) -> Stage:
    """Return requests a second for pairs of 480x640; Serve's only proxy is on the head node."""
    rates = {
        "GPU": gpus / a.forward_student,
        "node CPUs": nodes(a, gpus)
        * a.cpus_per_node
        * a.core_speed
        / (a.decode_seconds + a.answer_seconds),
        "the proxy": a.proxy_requests,
        "the proxy's link": link(a) / (a.pair_bytes + a.answer_bytes),
    }
    return Stage("serving", 1.0, rates)


def stages(a, pairs: int, gpus: int) -> list[Stage]:
    """Return all stages between images and endpoint, captioned by the 7B model."""
    return [
        index(a, pairs),
        caption(a, pairs, gpus, "7b"),
        embed(a, pairs, gpus),
        training(a, pairs, gpus, "teacher"),
        training(a, pairs, gpus, "student, live"),
        tuning(a, pairs, gpus),
        evaluate(a, pairs),
    ]
