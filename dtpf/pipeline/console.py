"""What a person sees of a running pipeline: the stage, a bar with the time left, falling losses.

Output of jobs is not a terminal, so a bar is printed as lines, not redrawn; tqdm formats it.
"""

import sys
import time
from collections.abc import Callable
from statistics import fmean

from tqdm import tqdm

from dtpf.training.loop import StepReport

LINE_SECONDS = 3.0
LOSS_WINDOW = 20


class Console:
    """Prints stage banners and progress lines."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or _print

    def stage(self, number: int, total: int, name: str, what: str) -> None:
        """Announce a stage."""
        self._write(f"\n[{number}/{total}] {name}: {what}")

    def line(self, text: str) -> None:
        """Print one indented line."""
        self._write(f"      {text}")

    def counter(self, unit: str) -> Callable[..., None]:
        """Return a callback (done, total, failed=0) that prints a bar now and then."""
        bar = _Bar(self.line, unit)

        def count(done: int, total: int, failed: int = 0) -> None:
            bar.show(done, total, f"{failed} failed" if failed else "")

        return count

    def losses(self) -> Callable[[StepReport], None]:
        """Return a step callback that prints a bar with the mean loss of the first and last steps.

        Single batches differ by more than a short training gains: each mean is over 20 of them.
        """
        bar = _Bar(self.line, "step")
        first: list[int] = []
        losses: list[float] = []

        def on_step(report: StepReport) -> None:
            first.append(report.step)
            losses.append(report.losses["loss"])
            early, late = fmean(losses[:LOSS_WINDOW]), fmean(losses[-LOSS_WINDOW:])
            note = f"loss {early:.2f} -> {late:.2f}"
            bar.show(report.step, report.steps, note, first[0] - 1)

        return on_step


class _Bar:
    def __init__(self, write: Callable[[str], None], unit: str) -> None:
        self._write = write
        self._unit = unit
        self._started = time.monotonic()
        self._printed = -LINE_SECONDS

    def show(self, done: int, total: int, note: str, initial: int = 0) -> None:
        elapsed = time.monotonic() - self._started
        if done < total and elapsed - self._printed < LINE_SECONDS:
            return
        self._printed = elapsed
        text = tqdm.format_meter(
            done,
            total,
            elapsed,
            ncols=90,
            unit=self._unit,
            initial=initial,
            postfix=note or None,
            ascii=" #",
        )
        self._write(text)


def _print(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
