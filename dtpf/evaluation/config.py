"""Settings of an evaluation."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from dtpf.core.config import Config
from dtpf.core.metrics import ALL_METRICS, CONVENTIONS, MAIN_METRICS, Convention
from dtpf.core.metrics.conventions import CHOICES, Colour, Gray, Precision, Rounding
from dtpf.evaluation.mix import parse_mix


class EvalResources(Config):
    """What an evaluation may use; none of it changes a score.

    Attributes:
        batch: pairs of one size that are fused and scored together.
        device: where fused images are made and scored; `auto` takes a GPU where there is one.
        actors: processes on a Ray cluster.
        num_cpus: of each actor.
        num_gpus: of each actor.
        stall_timeout_s: without progress for so long, a run on Ray ends.
    """

    batch: Annotated[int, Field(ge=1)] = 4
    device: Literal["auto", "cpu", "cuda"] = "auto"
    actors: Annotated[int, Field(ge=1)] = 2
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    stall_timeout_s: Annotated[int, Field(ge=1)] = 600


class EvalConfig(Config):
    """What is measured, on which pairs, against which images.

    Attributes:
        metrics: names of metrics, in the order of the table.
        reference: `guide` scores against the clean images where the index knows them (degraded
            data), `input` always against the images that were fused.
        split: which pairs of the index.
        convention: key of CONVENTIONS: rounding and variants of the metrics.
        gray: instead of the convention's own weights of R, G, B.
        rounding: instead of the convention's own way to 8 bit.
        colour: instead of the convention's own handling of colour.
        precision: instead of the convention's own arithmetic.
        limit: mixes of metrics such as `VIF+3*Qabf` whose optimal pixels stand beside the methods.
        limit_steps: steps of their optimisation.
        panels: pairs shown with pictures in the report.
        worst: lowest-scoring pairs shown in the report.
        sources: whether the report shows the sources beside the fused pictures; without them it can
            be passed on where the data set cannot.
        peers: path or URI of a CSV file with others' scores on the same pairs, which the report
            lists beside ours (`dtpf.evaluation.peers`).
        resources: what it may use.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = MAIN_METRICS
    reference: Literal["guide", "input"] = "guide"
    split: Literal["train", "val", "test"] = "test"
    convention: str = "standard"
    gray: Gray | None = None
    rounding: Rounding | None = None
    colour: Colour | None = None
    precision: Precision | None = None
    limit: tuple[str, ...] = ()
    limit_steps: Annotated[int, Field(ge=1)] = 200
    panels: Annotated[int, Field(ge=0)] = 6
    worst: Annotated[int, Field(ge=0)] = 10
    sources: bool = True
    peers: str | None = None
    resources: EvalResources = EvalResources()

    def rules(self) -> Convention:
        """Return the convention with what this config chooses instead."""
        chosen = {name: getattr(self, name) for name in CHOICES}
        told = {name: value for name, value in chosen.items() if value is not None}
        return CONVENTIONS[self.convention].adjusted(**told)

    def identity(self) -> dict[str, Any]:
        """Return the settings on which results depend, for a fingerprint."""
        return self.model_dump(mode="json", exclude={"resources"})

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(ALL_METRICS))
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(ALL_METRICS)}")
        if len(set(names)) != len(names):
            raise ValueError("a metric is named twice")
        return names

    @field_validator("convention")
    @classmethod
    def _known_convention(cls, name: str) -> str:
        if name not in CONVENTIONS:
            raise ValueError(f"unknown convention; known: {', '.join(CONVENTIONS)}")
        return name

    @field_validator("limit")
    @classmethod
    def _readable_mixes(cls, mixes: tuple[str, ...]) -> tuple[str, ...]:
        for mix in mixes:
            parse_mix(mix)
        return mixes
