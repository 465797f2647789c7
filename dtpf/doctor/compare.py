"""What must be the same on all nodes of a cluster."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from dtpf.doctor.findings import Finding, Status, passed


def check_equal(
    name: str, values: Mapping[str, str], remedy: str, unequal: Status = "fail", show: bool = True
) -> Finding:
    """Compare one value of all nodes.

    Args:
        name: of the finding.
        values: by node.
        remedy: what to do about nodes that differ.
        unequal: what a difference is.
        show: whether the values may be shown.
    """
    groups = defaultdict(list)
    for node, value in sorted(values.items()):
        groups[value].append(node)
    if len(groups) <= 1:
        only = next(iter(groups), "")
        return passed(name, f"{only if show else 'the same'} on all {len(values)} nodes".strip())
    common = Counter(values.values()).most_common(1)[0][0]
    others = "; ".join(
        f"{', '.join(nodes)}: {value or 'not set'}" if show else ", ".join(nodes)
        for value, nodes in groups.items()
        if value != common
    )
    most = f"{common or 'not set'} on most nodes" if show else "not the same everywhere"
    return Finding(name, unequal, f"{most}, but {others}", remedy)


def check_versions_equal(versions: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """Compare Python, dtpf, Ray, torch and vLLM of all nodes."""
    names = next(iter(versions.values())).keys()
    remedy = "install the same on every node (one image, or one constraints.txt)"
    return [
        check_equal(f"same.{name}", {node: found[name] for node, found in versions.items()}, remedy)
        for name in names
    ]


def check_settings_equal(settings: Mapping[str, Mapping[str, str]]) -> Finding:
    """Compare the variables of NCCL and gloo, which must agree on how to talk."""
    shown = {
        node: " ".join(f"{name}={value}" for name, value in sorted(found.items()))
        for node, found in settings.items()
    }
    remedy = "export the same NCCL_* and GLOO_* before `ray start` on every node"
    return check_equal("same.nccl", shown, remedy, unequal="warn")


def check_cards_announced(announced: float, cards: int) -> Finding:
    """Ray must know as many GPUs as the driver of a node sees."""
    if announced == cards:
        return passed("gpu.announced", f"Ray knows of {cards} GPUs, as the driver does")
    found = f"Ray knows of {announced:g} GPUs, the driver of {cards}"
    if announced > cards:
        return Finding("gpu.announced", "fail", found, f"ray start --num-gpus={cards}")
    remedy = "restart Ray on this node if it shall use them all (without --num-gpus)"
    return Finding("gpu.announced", "warn", found, remedy)
