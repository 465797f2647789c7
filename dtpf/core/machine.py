"""What this machine offers to a cluster of its own."""

import os

# Stages hold a few actors that mostly wait; a laptop has fewer cores than that.
_FEWEST = 8


def logical_cpus() -> int:
    """Return how many CPUs a Ray node on this machine shall announce."""
    return max(_FEWEST, os.cpu_count() or 1)
