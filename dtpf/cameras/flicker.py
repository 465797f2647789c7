"""How restless a fused video is, beside its sources: frame-to-frame change and brightness jumps."""

from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

from dtpf.core.ops.pixels import FloatImage, luma

_NAMES = ("fused", "visible", "infrared")
_RESTLESS = 1.25  # of the sources' own brightness jumps together
_UNSEEN = 0.002  # a mean jump of half a gray value of 255


@dataclass
class Flicker:
    """Sums over frame pairs of one video: mean absolute change, and change of the mean.

    All in [0, 1] of full scale; infrared as it was scaled for the network.
    """

    steps: int = 0
    change: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0.0))
    jump: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0.0))

    def __post_init__(self) -> None:
        self._last: tuple[FloatImage, ...] | None = None

    def add(self, fused: FloatImage, visible: FloatImage, infrared: FloatImage) -> None:
        """Take in the next frame; after a change of size it starts anew."""
        shown = luma(fused) if fused.ndim == 3 else fused
        now = (shown, luma(visible), infrared)
        last, self._last = self._last, now
        if last is None or last[1].shape != now[1].shape:
            return
        self.steps += 1
        for name, before, after in zip(_NAMES, last, now, strict=True):
            self.change[name] += float(np.abs(after - before).mean())
            self.jump[name] += abs(float(after.mean()) - float(before.mean()))

    def merge(self, other: Self) -> None:
        """Add the sums of another part."""
        self.steps += other.steps
        for name in _NAMES:
            self.change[name] += other.change[name]
            self.jump[name] += other.jump[name]

    def as_dict(self) -> dict[str, object]:
        """Return means per step, as JSON types."""
        steps = max(1, self.steps)
        means = {
            key: {name: round(value / steps, 6) for name, value in sums.items()}
            for key, sums in (("change", self.change), ("jump", self.jump))
        }
        return {"steps": self.steps, **means, "restless": self.restless}

    def sums(self) -> dict[str, object]:
        """Return what `Flicker(**sums)` brings back."""
        return asdict(self)

    @property
    def restless(self) -> bool:
        """Whether the brightness of the result jumps more than that of its sources."""
        steps = max(1, self.steps)
        sources = self.jump["visible"] + self.jump["infrared"]
        return self.jump["fused"] / steps > _RESTLESS * sources / steps + _UNSEEN
