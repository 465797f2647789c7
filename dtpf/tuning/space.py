"""Search spaces: YAML files checked, line by line, against the config they search.

parameters:
  model.width: {choice: [8, 12]}
  distill.feature: {loguniform: [0.03, 0.3]}
  loss.scale.gradient: {uniform: [0.5, 1.5]}
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dtpf.core.config import Config, apply_overrides
from dtpf.core.errors import UserError

RANGES = ("uniform", "loguniform", "randint")


@dataclass(frozen=True)
class Domain:
    """What one parameter may be: `kind` is choice, uniform, loguniform or randint (both ends)."""

    kind: str
    values: tuple[Any, ...]

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw one value of plain type."""
        if self.kind == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        low, high = self.values
        if self.kind == "randint":
            return int(rng.integers(low, high + 1))
        if self.kind == "loguniform":
            return float(math.exp(rng.uniform(math.log(low), math.log(high))))
        return float(rng.uniform(low, high))


@dataclass(frozen=True)
class Space:
    """Parameters to search, by their dotted name in the config."""

    name: str
    domains: Mapping[str, Domain]

    def trials(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Return `count` distinct settings, the same for the same seed.

        Choices are dealt round robin from a shuffled order, so that a short search still sees
        every one of them.
        """
        rng = np.random.default_rng(seed)
        decks = {
            name: list(rng.permutation(len(domain.values)))
            for name, domain in sorted(self.domains.items())
            if domain.kind == "choice"
        }
        return [self._trial(index, decks, rng) for index in range(count)]

    def _trial(
        self, index: int, decks: Mapping[str, list[int]], rng: np.random.Generator
    ) -> dict[str, Any]:
        trial = {}
        for name, domain in sorted(self.domains.items()):
            if name in decks:
                trial[name] = domain.values[decks[name][index % len(domain.values)]]
            else:
                trial[name] = domain.sample(rng)
        return trial

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, for fingerprints."""
        return {name: [item.kind, *item.values] for name, item in sorted(self.domains.items())}


def find_space(name: str) -> Path:
    """Return the file of a space: a path, or the name of one in the project's `tune_spaces/`.

    Raises:
        UserError: there is no such file; lists the spaces that exist.
    """
    folder = Path(__file__).resolve().parents[2] / "tune_spaces"
    for path in (Path(name), folder / name, folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
    raise UserError(f"tune.space={name}: no such file; known spaces: {known}")


def load_space(path: Path, target: Config) -> Space:
    """Read a space and check each parameter against `target`, the config that it searches.

    Raises:
        UserError: names file and line of an unknown parameter, a wrong kind or a wrong value.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    entries = dict(_items(root, path)) if root is not None else {}
    if set(entries) != {"parameters"}:
        raise UserError(f"{path}: expected one top-level key, parameters; got {sorted(entries)}")
    domains = {}
    for name, node in _items(entries["parameters"], path):
        domain = _domain(node, path, name)
        _check_fits(domain, name, target, f"{path}:{node.start_mark.line + 1}")
        domains[name] = domain
    if not domains:
        raise UserError(f"{path}: parameters is empty; name at least one")
    return Space(path.stem, domains)


def _items(node: yaml.Node, path: Path) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise UserError(f"{path}:{line}: expected a mapping, such as name: {{choice: [1, 2]}}")
    return [(key.value, value) for key, value in node.value]


def _domain(node: yaml.Node, path: Path, name: str) -> Domain:
    where = f"{path}:{node.start_mark.line + 1}: {name}"
    items = _items(node, path)
    if len(items) != 1 or items[0][0] not in ("choice", *RANGES):
        raise UserError(f"{where}: expected one of choice, {', '.join(RANGES)}")
    kind, listing = items[0]
    if not isinstance(listing, yaml.SequenceNode):
        raise UserError(f"{where}: {kind} needs a list")
    values = tuple(_scalar(item, where) for item in listing.value)
    if kind == "choice":
        if not values:
            raise UserError(f"{where}: choice needs at least one value")
        return Domain(kind, values)
    _check_range(kind, values, where)
    return Domain(kind, values)


def _scalar(node: yaml.Node, where: str) -> Any:
    value = yaml.SafeLoader("").construct_object(node, deep=True)
    if isinstance(value, str) and _is_number(value):
        raise UserError(f"{where}: YAML reads {value} as text; write it as {float(value)!r}")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_range(kind: str, values: tuple[Any, ...], where: str) -> None:
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(values) != 2 or len(numbers) != 2 or any(isinstance(v, bool) for v in values):
        raise UserError(f"{where}: {kind} needs two numbers, low and high; got {list(values)}")
    low, high = values
    if low >= high:
        raise UserError(f"{where}: low {low} is not below high {high}")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: loguniform needs low above 0, got {low}")
    if kind == "randint" and not all(isinstance(value, int) for value in values):
        raise UserError(f"{where}: randint needs integers, got {list(values)}")


def _check_fits(domain: Domain, name: str, target: Config, where: str) -> None:
    """Apply every value, or both ends of a range, to the config."""
    values = list(domain.values)
    if domain.kind in ("uniform", "loguniform"):
        values = [float(value) for value in values]
    for value in values:
        try:
            override(target, {name: value})
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix('--set ')}") from None


def override(target: Config, setting: Mapping[str, Any]) -> Any:
    """Return the config with one trial's setting applied."""
    return apply_overrides(
        target, [f"{name}={json.dumps(value)}" for name, value in setting.items()]
    )
