"""Raw infrared values to [0, 1]: one stated policy, and a record of what it cost.

full        0 to the largest value of the type, floats as they are
percentile  16-bit images, and floats outside [0, 1], from their own percentiles; others as stored
fixed       a range that is told, such as 20 to 40 degrees
sequence    percentiles of many frames together: one range, so that a video does not flicker
histogram   plateau equalisation: each gray value gets room by how often it occurs, up to a limit
Legend: H, W = height and width.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from dtpf.core.config import Config
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, infrared_to_unit, luma

Policy = Literal["full", "percentile", "fixed", "sequence", "histogram"]

_USUAL_TAILS = 0.5  # those of `infrared_to_unit`
_BINS = 4096
_SAMPLES = 20_000  # values of one frame that a sequence's range is drawn from


class ScalingConfig(Config):
    """How raw infrared values come to [0, 1].

    Attributes:
        policy: see the module.
        low: value that becomes 0 (policy `fixed`).
        high: value that becomes 1 (policy `fixed`).
        tails: percent of the pixels at each end that percentiles leave out.
        plateau: limit of a bin of the histogram, as a multiple of the mean of filled bins.
    """

    policy: Policy = "percentile"
    low: float | None = None
    high: float | None = None
    tails: float = Field(default=_USUAL_TAILS, ge=0, lt=50)
    plateau: float = Field(default=3.0, gt=0)

    @model_validator(mode="after")
    def _range_belongs_to_fixed(self) -> Self:
        told = self.low is not None and self.high is not None
        if told != (self.policy == "fixed") or (self.low is None) != (self.high is None):
            raise ValueError("low and high belong to policy fixed, both of them")
        if self.low is not None and self.high is not None and self.high <= self.low:
            raise ValueError(f"high {self.high:g} must be above low {self.low:g}")
        return self


@dataclass(frozen=True)
class ScalingRecord:
    """What was done to one image: raw values `low` and `high` became 0 and 1.

    `below` and `above` are the shares of pixels outside, which lost their differences.
    """

    policy: str
    dtype: str
    low: float
    high: float
    below: float
    above: float

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.policy}: {self.dtype} values {self.low:g} to {self.high:g} became 0 to 1; "
            f"{self.below:.1%} of the pixels lie below and {self.above:.1%} above"
        )


class Scaler:
    """Applies one policy; `sequence`, and `histogram` of a sequence, learn from frames first."""

    def __init__(self, config: ScalingConfig) -> None:
        self.config = config
        self._values: NDArray | None = None

    @property
    def wants_frames(self) -> bool:
        """Whether the policy has to see frames before the first is scaled."""
        return self.config.policy == "sequence" and self._values is None

    def learn(self, frames: Iterable[NDArray]) -> None:
        """Take the range of all frames together from values spread over each of them."""
        drawn = [_spread(_gray(frame)) for frame in frames]
        if not drawn:
            raise UserError("infrared: no frame can be read to take the sequence's range from")
        self._values = np.concatenate(drawn)

    @property
    def learned(self) -> tuple[float, float] | None:
        """The range that was learned."""
        return None if self._values is None else self._percentiles(self._values)

    def __call__(
        self, array: NDArray, source: str = "infrared"
    ) -> tuple[FloatImage, ScalingRecord]:
        """Return float32 (H, W) in [0, 1] and what was done.

        Raises:
            UserError: no such pixel type, values that are not finite, or no frames were learned.
        """
        policy = self.config.policy
        if policy == "full" or (policy == "percentile" and _is_unit(array)):
            return _whole(array, source, policy)
        raw = _gray(array)
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise UserError(f"{source}: holds NaN or infinite values")
        if raw.dtype.kind not in "uf":
            raise UserError(f"{source}: dtype {array.dtype}; use uint8, uint16 or float")
        low, high = self._range(raw)
        record = _record(policy, raw, low, high)
        if policy == "percentile" and raw.dtype == np.uint16 and self.config.tails == _USUAL_TAILS:
            return infrared_to_unit(array, source), record  # the same bits as everywhere else
        if policy == "histogram":
            return self._equalise(raw, low, high), record
        if high <= low:  # a flat image: any place of the scale is as good
            return np.full(raw.shape, 0.5, np.float32), record
        unit = (raw.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return np.clip(unit, 0.0, 1.0), record

    def _range(self, raw: NDArray) -> tuple[float, float]:
        config = self.config
        if config.low is not None and config.high is not None:
            return config.low, config.high
        if config.policy == "sequence":
            if self._values is None:
                raise UserError("infrared scaling `sequence` is for videos and folders of frames")
            return self._percentiles(self._values)
        return self._percentiles(raw if self._values is None else self._values)

    def _percentiles(self, values: NDArray) -> tuple[float, float]:
        low, high = np.percentile(values, (self.config.tails, 100.0 - self.config.tails))
        return float(low), float(high)

    def _equalise(self, raw: NDArray, low: float, high: float) -> FloatImage:
        if high <= low:
            return np.full(raw.shape, 0.5, np.float32)
        known = raw if self._values is None else self._values
        counts, edges = np.histogram(known, bins=_BINS, range=(low, high))
        limit = self.config.plateau * counts[counts > 0].mean()
        share = np.cumsum(np.minimum(counts, limit))
        mapped = np.interp(raw, edges, np.concatenate([[0.0], share / share[-1]]))
        return np.asarray(mapped, np.float32)


def _is_unit(array: NDArray) -> bool:
    """Say whether the values are 8-bit or in [0, 1] already."""
    if array.dtype.kind == "f":
        return bool(array.size) and float(array.min()) >= 0.0 and float(array.max()) <= 1.0
    return bool(array.dtype == np.uint8)


def _whole(array: NDArray, source: str, policy: str) -> tuple[FloatImage, ScalingRecord]:
    unit = infrared_to_unit(array, source, "full")
    top = float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else 1.0
    name = "as stored" if policy != "full" else policy
    return unit, ScalingRecord(name, str(array.dtype), 0.0, top, 0.0, 0.0)


def _record(policy: str, raw: NDArray, low: float, high: float) -> ScalingRecord:
    below, above = float((raw < low).mean()), float((raw > high).mean())
    return ScalingRecord(policy, str(raw.dtype), low, high, below, above)


def _gray(array: NDArray) -> NDArray:
    """Return one channel, in raw values."""
    if array.ndim == 2:
        return array
    if array.shape[2] < 3 or bool((array[..., :3] == array[..., :1]).all()):
        return array[..., 0]
    gray = luma(array.astype(np.float32))
    return gray if array.dtype.kind == "f" else np.round(gray).astype(array.dtype)


def _spread(raw: NDArray) -> NDArray:
    values = raw.reshape(-1)
    return values[:: max(1, values.size // _SAMPLES)]
