"""Search spaces: which settings there are, and in which order a search without memory tries them.

`space_file.py` reads them from YAML.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dtpf.core.config import Config, apply_overrides
from dtpf.core.errors import UserError

RANGES = ("uniform", "loguniform", "randint")
Setting = Mapping[str, Any]


class PaperRow(Config):
    """A row of a published table: what was varied, and the scores that were printed."""

    method: str
    scores: dict[str, float]


class TableSpec(Config):
    """A space that reproduces a table: every setting is scored on the test split.

    Attributes:
        title: of the table.
        metrics: its columns, by their names in `dtpf.core.metrics`.
        source: where the published rows were measured.
        paper: the published rows.
    """

    title: str
    metrics: tuple[str, ...]
    source: str = ""
    paper: tuple[PaperRow, ...] = ()


@dataclass(frozen=True)
class Domain:
    """What one parameter may be: `kind` is choice, uniform, loguniform or randint (both ends)."""

    kind: str
    values: tuple[Any, ...]

    def sample(self, rng: np.random.Generator) -> int | float:
        """Draw one value of a range."""
        low, high = self.values
        if self.kind == "randint":
            return int(rng.integers(low, high + 1))
        if self.kind == "loguniform":
            return float(math.exp(rng.uniform(math.log(low), math.log(high))))
        return float(rng.uniform(low, high))

    def holds(self, value: Any) -> bool:
        """Say whether the parameter may have this value."""
        if self.kind == "choice":
            return value in self.values
        low, high = self.values
        return bool(low <= value <= high)


@dataclass(frozen=True)
class Space:
    """Parameters to search, by their dotted name in the config.

    Attributes:
        name: of the file.
        domains: what each parameter may be; combined freely.
        points: instead of domains, the very settings to try.
        search: settings of the search that the file asks for; `--set` has the last word.
        table: the table that the space reproduces.
    """

    name: str
    domains: Mapping[str, Domain] = field(default_factory=dict)
    points: tuple[Setting, ...] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    table: TableSpec | None = None

    @property
    def names(self) -> list[str]:
        """Names of the parameters, sorted."""
        return sorted({*self.domains, *itertools.chain.from_iterable(self.points)})

    def draws(self, seed: int) -> Iterator[dict[str, Any]]:
        """Yield settings without end, the same for the same seed; points come in their order.

        Choices are dealt like cards, shuffled anew when all are dealt, so that a short search
        still sees every one of them.
        """
        if self.points:
            yield from map(dict, self.points)
            return
        rng = np.random.default_rng(seed)
        decks: dict[str, list[int]] = {}
        while True:
            yield {
                name: domain.values[_deal(name, domain, decks, rng)]
                if domain.kind == "choice"
                else domain.sample(rng)
                for name, domain in sorted(self.domains.items())
            }

    def grid(self) -> list[dict[str, Any]]:
        """Return every combination of choices, or the points.

        Raises:
            UserError: a parameter has a range, which has no end of values.
        """
        if self.points:
            return [dict(point) for point in self.points]
        ranges = [name for name, domain in self.domains.items() if domain.kind != "choice"]
        if ranges:
            raise UserError(
                f"tune.search=grid: {ranges[0]} of space {self.name} is a range; "
                "list its values with choice, or search by optuna or random"
            )
        names = sorted(self.domains)
        values = [self.domains[name].values for name in names]
        return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]

    def as_dict(self) -> dict[str, Any]:
        """Return what settings there are as plain types, for fingerprints."""
        domains = {name: [item.kind, *item.values] for name, item in sorted(self.domains.items())}
        return {"domains": domains, "points": [dict(point) for point in self.points]}


def _deal(name: str, domain: Domain, decks: dict[str, list[int]], rng: np.random.Generator) -> int:
    if not decks.get(name):
        decks[name] = rng.permutation(len(domain.values)).tolist()
    return decks[name].pop()


def override(target: Config, setting: Setting) -> Any:
    """Return the config with one trial's setting applied."""
    return apply_overrides(
        target, [f"{name}={json.dumps(value)}" for name, value in setting.items()]
    )
