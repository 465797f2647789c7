"""Pieces of work on workers that start late, differ, and fail with their node.

`pipeline_model.py` says how fast a stage is once it runs; this says what its start, its end and
lost nodes add. Beyond LIMIT pieces the first ones count at the mean rate, and the last LIMIT are
simulated.
"""

import heapq
import random
from dataclasses import dataclass

LIMIT = 50_000


@dataclass(frozen=True)
class Work:
    """Equal pieces for equal workers.

    Attributes:
        pieces: how many.
        seconds: of one piece on one worker.
        workers: how many.
        per_node: workers that fail together.
        start: seconds until a worker takes its first piece, at the beginning and after a failure.
    """

    pieces: int
    seconds: float
    workers: int
    per_node: int
    start: float


@dataclass(frozen=True)
class Course:
    """How it went.

    Attributes:
        seconds: until the last piece was done.
        tail: of these, from when a worker first had nothing left to take.
        done: pieces completed.
        repeated: pieces begun that were lost with a node.
        failures: of nodes.
    """

    seconds: float
    tail: float
    done: int
    repeated: int
    failures: int


class Failures:
    """The moments at which each node fails, drawn as they are asked for."""

    def __init__(self, mean: float, rng: random.Random) -> None:
        self._mean, self._rng = mean, rng
        self._moments: dict[int, list[float]] = {}

    def after(self, node: int, moment: float) -> float:
        """Return the first failure of a node after a moment."""
        if self._mean == float("inf"):
            return self._mean
        known = self._moments.setdefault(node, [])
        while not known or known[-1] <= moment:
            known.append((known[-1] if known else 0.0) + self._rng.expovariate(1 / self._mean))
        return next(failure for failure in known if failure > moment)


def simulate(work: Work, mean: float, back: float, spread: float, seed: int = 0) -> Course:
    """Return how the work went.

    Args:
        work: what is done.
        mean: seconds between failures of one node; `inf` for none.
        back: seconds until a failed node is there again.
        spread: pieces take up to so much more or less, in parts of their time.
        seed: of all draws.
    """
    before = max(work.pieces - LIMIT, 0)
    lost_time = back + work.start + work.seconds / 2
    steady = before * work.seconds / work.workers * (1 + lost_time / mean)
    course = _last(work, work.pieces - before, mean, back, spread, random.Random(seed))
    per_node = min(work.per_node, work.workers)
    failed = round(steady * work.workers / per_node / mean)
    return Course(
        course.seconds + steady,
        course.tail,
        course.done + before,
        course.repeated + failed * per_node,
        course.failures + failed,
    )


def _last(
    work: Work, pieces: int, mean: float, back: float, spread: float, rng: random.Random
) -> Course:
    failures, failed = Failures(mean, rng), set()
    free = [(work.start, worker) for worker in range(work.workers)]
    again: list[float] = []  # when lost pieces can be taken
    idle: list[tuple[float, int]] = []
    fresh, done, repeated, end, tail_from = pieces, 0, 0, 0.0, None
    while free:
        now, worker = heapq.heappop(free)
        if fresh:
            fresh -= 1
        elif again:
            now = max(now, heapq.heappop(again))
        else:
            tail_from = now if tail_from is None else tail_from
            heapq.heappush(idle, (now, worker))
            continue
        node = worker // work.per_node
        finish = now + work.seconds * (1 + spread * rng.uniform(-1, 1))
        failure = failures.after(node, now)
        if finish <= failure:
            done, end = done + 1, max(end, finish)
            heapq.heappush(free, (finish, worker))
            continue
        repeated += 1
        failed.add((node, failure))
        heapq.heappush(again, failure)
        heapq.heappush(free, (failure + back + work.start, worker))
        if idle:
            since, other = heapq.heappop(idle)
            heapq.heappush(free, (max(since, failure), other))
    tail = end - tail_from if tail_from is not None and tail_from < end else 0.0
    return Course(end, tail, done, repeated, len(failed))
