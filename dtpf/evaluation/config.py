"""Settings of an evaluation."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dtpf.core.config import Config
from dtpf.core.metrics import CONVENTIONS, MAIN_METRICS, METRICS


class EvalConfig(Config):
    """What is measured, on which pairs, against which images.

    Attributes:
        metrics: keys of METRICS, in the order of the table.
        reference: `guide` scores against the clean images where the index knows them (degraded
            data), `input` always against the images that were fused.
        split: which pairs of the index.
        convention: key of CONVENTIONS: rounding and variants of the metrics.
        panels: pairs shown with pictures in the report.
        worst: lowest-scoring pairs shown in the report.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = MAIN_METRICS
    reference: Literal["guide", "input"] = "guide"
    split: Literal["train", "val", "test"] = "test"
    convention: str = "standard"
    panels: Annotated[int, Field(ge=0)] = 6
    worst: Annotated[int, Field(ge=0)] = 10

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(METRICS))
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(METRICS)}")
        if len(set(names)) != len(names):
            raise ValueError("a metric is named twice")
        return names

    @field_validator("convention")
    @classmethod
    def _known_convention(cls, name: str) -> str:
        if name not in CONVENTIONS:
            raise ValueError(f"unknown convention; known: {', '.join(CONVENTIONS)}")
        return name
