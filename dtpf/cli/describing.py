"""`dtpf info`: what a network is, what it costs, and for a bundle where it comes from."""

import json
import re
from collections.abc import Mapping
from typing import Any

from dtpf.cli.networks import network_source
from dtpf.core.bundle import load_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import PRESETS, ModelConfig, measure_cost
from dtpf.core.models.checks import MIN_SIDE


def describe(network: str, size: str) -> dict[str, Any]:
    """Return a network's facts as JSON types.

    Args:
        network: a preset's name, or a bundle's path or URI.
        size: `HxW` in pixels, for which operations are counted.

    Raises:
        UserError: no such network, or a size of another form.
    """
    height, width = _parse_size(size)
    source = network_source(network)
    if source in PRESETS:
        return {"preset": source, **_cost(PRESETS[source], height, width)}
    bundle = load_bundle(source)
    papers = {key: value for key, value in bundle.info.items() if key != "parameters"}
    return papers | _cost(bundle.model.config, height, width)


def to_json(facts: Mapping[str, Any]) -> str:
    """Return the facts as indented JSON."""
    return json.dumps(facts, indent=2)


def to_text(facts: Mapping[str, Any]) -> str:
    """Return the facts as aligned lines; nested ones are indented below their name."""
    shown = {
        **facts,
        "parameters": f"{facts['parameters']:,}",
        "flops": f"{facts['flops'] / 1e9:,.2f} G at {facts['height']}x{facts['width']}",
    }
    del shown["height"], shown["width"]
    lines: list[str] = []
    for name, value in shown.items():
        if isinstance(value, Mapping):
            lines.append(name if value else f"{name:<12}none")
            lines += [f"  {key:<16}{_plain(item)}" for key, item in value.items()]
        else:
            lines.append(f"{name:<12}{value}")
    return "\n".join(lines)


def _cost(config: ModelConfig, height: int, width: int) -> dict[str, Any]:
    cost = measure_cost(config, height, width).as_dict()
    return {**cost, "config": config.as_dict()}


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def _parse_size(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(sides) < MIN_SIDE:
        raise UserError(
            f"--size {size}: give height and width, {MIN_SIDE} or more, such as 480x640"
        )
    return sides
