"""Which network a command means: a preset, a bundle, or one that comes with the package."""

from pathlib import Path

from dtpf.core.errors import UserError
from dtpf.core.models import PRESETS
from dtpf.core.shipped import DEFAULT, shipped_names


def network_source(given: str | None) -> str:
    """Return a preset's or shipped network's name, or a bundle's path or URI.

    Without one, the shipped network `DEFAULT`.

    Raises:
        UserError: a bare name is neither of a network nor a path.
    """
    if given is None:
        return DEFAULT
    names = (*shipped_names(), *PRESETS)
    if given not in names and "/" not in given and not Path(given).exists():
        raise UserError(
            f"{given}: no bundle there, and no network of that name; "
            f"trained: {', '.join(shipped_names())}; presets, untrained: {', '.join(PRESETS)}"
        )
    return given
