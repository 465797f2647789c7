"""Which network a command means: a preset, a bundle, or the student published here."""

from pathlib import Path

from dtpf.core.errors import UserError
from dtpf.core.models import PRESETS
from dtpf.core.storage.keys import current_key

PUBLISHED = Path(".dtpf/store") / current_key("student")


def network_source(given: str | None) -> str:
    """Return a preset's name or a bundle's path or URI; without one, the published student.

    Raises:
        UserError: nothing was published here, or a bare name is neither a preset nor a path.
    """
    if given is None:
        if not PUBLISHED.is_file():
            raise UserError(
                f"no published student here ({PUBLISHED} is missing); run `make demo` first, "
                "or name a network with --model BUNDLE"
            )
        return str(PUBLISHED)
    if given not in PRESETS and "/" not in given and not Path(given).exists():
        known = ", ".join(PRESETS)
        raise UserError(f"{given}: no bundle there, and no preset of that name; presets: {known}")
    return given
