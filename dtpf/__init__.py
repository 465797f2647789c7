"""dtpf: visible and infrared image fusion by a small network that needs no text."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtpf.core.fusion import Fuser

__all__ = ["Fuser"]


def __getattr__(name: str) -> Any:
    """Import `Fuser` on first use, so that `import dtpf` does not load torch."""
    if name == "Fuser":
        from dtpf.core.fusion import Fuser

        return Fuser
    raise AttributeError(f"module 'dtpf' has no attribute {name!r}")
