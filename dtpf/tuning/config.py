"""Settings of the search for a student."""

from pydantic import Field

from dtpf.core.config import Config


class TuneConfig(Config):
    """How the search runs; the space itself is a file whose content is fingerprinted too.

    Attributes:
        space: file, or name of one in `tune_spaces/`.
        trials: settings to try.
        steps: optimiser steps of a trial that is not stopped early.
        rounds: validations of a trial; early stopping looks after each of them.
        grace: rounds before a trial may be stopped.
        reduction: one of so many trials survives each cut.
        max_parameter_share: largest student, as a share of the teacher's parameters.
        seed: of the sampled settings.
    """

    space: str = "smoke"
    trials: int = Field(default=16, ge=1)
    steps: int = Field(default=400, ge=1)
    rounds: int = Field(default=4, ge=1)
    grace: int = Field(default=1, ge=1)
    reduction: float = Field(default=2.0, gt=1)
    max_parameter_share: float = Field(default=0.10, gt=0, le=1)
    seed: int = 0


class TuneResources(Config):
    """Where trials run; not part of the fingerprint."""

    concurrent: int = Field(default=2, ge=1)
    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0.0, ge=0)
