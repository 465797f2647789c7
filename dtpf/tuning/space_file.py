"""Space files: YAML, checked line by line against the config that they search.

parameters:                                    # or points: a list of settings
model.width: {choice: [8, 12]}
distill.feature: {loguniform: [0.03, 0.3]}
loss.scale.gradient: {uniform: [0.5, 1.5]}
tune: {search: optuna}                         # optional: settings of the search
table: {title: ..., metrics: [EN, VIF]}        # optional: see `TableSpec`
"""

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dtpf.core.config import Config, ConfigT
from dtpf.core.errors import UserError
from dtpf.core.metrics import ALL_METRICS
from dtpf.tuning.config import TuneConfig
from dtpf.tuning.space import RANGES, Domain, Setting, Space, TableSpec, override

_SECTIONS = ("parameters", "points", "tune", "table")
_FOLDER = Path(__file__).resolve().parents[2] / "tune_spaces"


def find_space(name: str) -> Path:
    """Return the file of a space: a path, or the name of one in the project's `tune_spaces/`.

    Raises:
        UserError: there is no such file; lists the spaces that exist.
    """
    for path in (Path(name), _FOLDER / name, _FOLDER / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.yaml"))) or "none"
    raise UserError(f"tune.space={name}: no such file; known spaces: {known}")


def load_space(path: Path, target: Config) -> Space:
    """Read a space and check each parameter against `target`, the config that it searches.

    Raises:
        UserError: names file and line of an unknown parameter, a wrong kind or a wrong value.
    """
    sections = _sections(path)
    given = [name for name in ("parameters", "points") if name in sections]
    if len(given) != 1:
        raise UserError(f"{path}: needs one of parameters and points, has {given or 'neither'}")
    named = sections.get("parameters")
    domains = _domains(named, path, target) if named is not None else {}
    listed = sections.get("points")
    points = _points(listed, path, target) if listed is not None else ()
    if not domains and not points:
        raise UserError(f"{path}: {given[0]} is empty; name at least one")
    return Space(path.stem, domains, points, _search(sections, path), _table(sections, path))


def search_settings(path: Path) -> Mapping[str, Any]:
    """Return the search settings that a space file asks for, checked."""
    return _search(_sections(path), path)


def _sections(path: Path) -> dict[str, yaml.Node]:
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    sections = dict(_items(root, path)) if root is not None else {}
    for name in sections:
        if name not in _SECTIONS:
            raise UserError(f"{path}: unknown section {name!r}; known: {', '.join(_SECTIONS)}")
    return sections


def _domains(node: yaml.Node, path: Path, target: Config) -> dict[str, Domain]:
    domains = {}
    for name, value in _items(node, path):
        domains[name] = _domain(value, path, name)
        _check_fits(domains[name], name, target, _where(value, path))
    return domains


def _points(node: yaml.Node, path: Path, target: Config) -> tuple[Setting, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise UserError(f"{_where(node, path)}: points needs a list of settings")
    found: list[Setting] = []
    for item in node.value:
        where = _where(item, path)
        point = {name: _scalar(value, f"{where}: {name}") for name, value in _items(item, path)}
        _check_override(target, point, where)
        if found and set(point) != set(found[0]):
            raise UserError(f"{where}: every point must name the same, {', '.join(found[0])}")
        found.append(point)
    return tuple(found)


def _search(sections: Mapping[str, yaml.Node], path: Path) -> Mapping[str, Any]:
    if "tune" not in sections:
        return {}
    given = {}
    for name, node in _items(sections["tune"], path):
        where = _where(node, path)
        given[name] = _scalar(node, f"{where}: {name}")
        if name == "space":
            raise UserError(f"{where}: a space cannot name another one")
        _check_override(TuneConfig(), {name: given[name]}, where)
    return given


def _table(sections: Mapping[str, yaml.Node], path: Path) -> TableSpec | None:
    if "table" not in sections:
        return None
    where = _where(sections["table"], path)
    table = _parse(TableSpec, _scalar(sections["table"], where), where)
    used = [*table.metrics, *(name for row in table.paper for name in row.scores)]
    unknown = sorted(set(used) - set(ALL_METRICS))
    if unknown:
        raise UserError(
            f"{where}: table: unknown metric {unknown[0]}; known: {', '.join(ALL_METRICS)}"
        )
    return table


def _parse(kind: type[ConfigT], document: Any, where: str) -> ConfigT:
    if not isinstance(document, dict):
        raise UserError(f"{where}: expected a mapping")
    return kind.parse(document, where)


def _where(node: yaml.Node, path: Path) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _items(node: yaml.Node, path: Path) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise UserError(
            f"{_where(node, path)}: expected a mapping, such as name: {{choice: [1, 2]}}"
        )
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise UserError(f"{_where(key, path)}: {key.value} is named twice")
        seen.add(key.value)
    return [(key.value, value) for key, value in node.value]


def _domain(node: yaml.Node, path: Path, name: str) -> Domain:
    where = f"{_where(node, path)}: {name}"
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
    if isinstance(value, datetime.date):
        raise UserError(f"{where}: YAML reads {node.value} as a date; put it in quotes")
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
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(values) != 2 or len(numbers) != 2:
        raise UserError(f"{where}: {kind} needs two numbers, low and high; got {list(values)}")
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{where}: {kind} needs finite numbers, got {list(values)}")
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
        _check_override(target, {name: value}, where)


def _check_override(target: Config, setting: Setting, where: str) -> None:
    try:
        override(target, setting)
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix('--set ')}") from None
