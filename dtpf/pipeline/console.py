"""What a person sees of a running pipeline: the stage, a bar with the time left, falling losses.

Output of jobs is not a terminal, so a bar is printed as lines, not redrawn; tqdm formats it.
"""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from dtpf.training.loop import StepReport

LINE_SECONDS = 3.0


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

    def counter(self, unit: str) -> Callable[[int, int], None]:
        """Return a progress callback (done, total) that prints a bar now and then."""
        bar = _Bar(self.line, unit)
        return lambda done, total: bar.show(done, total, "")

    def losses(self) -> Callable[[StepReport], None]:
        """Return a step callback that prints a bar with the smoothed loss and the data wait."""
        bar = _Bar(self.line, "step")
        smooth: list[float] = []
        first: list[int] = []

        def on_step(report: StepReport) -> None:
            first.append(report.step)
            loss = report.losses["loss"]
            smooth.append(0.9 * smooth[-1] + 0.1 * loss if smooth else loss)
            note = f"loss {smooth[0]:.2f} -> {smooth[-1]:.2f}"
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
