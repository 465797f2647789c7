"""Networks that come with the package: bundles in `dtpf/weights`, called by their folder."""

from pathlib import Path

DEFAULT = "roadscene_2m"

FOLDER = Path(__file__).parents[1] / "weights"


def shipped_names() -> list[str]:
    """Return the names of all shipped networks."""
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


def located(network: str) -> str:
    """Return where a shipped network's bundle lies; anything else, also a path, is returned."""
    if "/" in network or Path(network).exists() or network not in shipped_names():
        return network
    return str(FOLDER / network)
