"""Clocks: of the nodes against each other, and of this machine against the store's.

Time zones do not matter: all that is compared is seconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime

from dtpf.doctor.findings import Finding, failed, passed, warned

_REMEDY = "let chrony or systemd-timesyncd set the clock (`timedatectl` shows it)"
_STORE_LIMIT, _STORE_WARNS = 900.0, 30.0  # S3 refuses requests that are 15 minutes off
_NODES_LIMIT, _NODES_WARN = 60.0, 0.5
_DATE_RESOLUTION = 1.0  # seconds; the header has no fractions

Trip = tuple[float, float, float]


def offset_of(trips: Sequence[Trip]) -> tuple[float, float]:
    """Return how far another clock is ahead, and how wrong that may be, in seconds.

    Args:
        trips: when each question was sent, the other's time, when the answer came. The shortest
            says most: the other's time lies between its ends.
    """
    sent, other, received = min(trips, key=lambda trip: trip[2] - trip[0])
    return other - (sent + received) / 2, (received - sent) / 2


def check_offsets(offsets: Mapping[str, tuple[float, float]]) -> Finding:
    """Look at the clocks of nodes by their offsets from the driver's, with their uncertainties."""
    if len(offsets) < 2:
        return passed("clock.nodes", "one node alone")
    last = max(offsets, key=lambda node: offsets[node][0])
    first = min(offsets, key=lambda node: offsets[node][0])
    apart = offsets[last][0] - offsets[first][0]
    unsure = offsets[last][1] + offsets[first][1]
    found = f"{apart * 1e3:.1f} ms apart at most, give or take {unsure * 1e3:.1f} ms"
    if apart - unsure > _NODES_WARN:
        found = f"{last} is {apart:.1f} s ahead of {first}"
        return (failed if apart > _NODES_LIMIT else warned)("clock.nodes", found, _REMEDY)
    return passed("clock.nodes", found)


def check_store_clock(date: str | None, sent: float, received: float) -> Finding:
    """Look at the Date header of an answer to a request that was sent and received then."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp() + _DATE_RESOLUTION / 2
    except ValueError:
        return warned("store.clock", "the server says no date", "look at its clock yourself")
    ahead, unsure = offset_of([(sent, theirs, received)])
    unsure += _DATE_RESOLUTION / 2
    side = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) - unsure > _STORE_WARNS:
        found = f"the store's clock is {abs(ahead):.0f} s {side} this one; S3 refuses beyond 900"
        return (failed if abs(ahead) > _STORE_LIMIT else warned)("store.clock", found, _REMEDY)
    return passed("store.clock", f"within {abs(ahead) + unsure:.1f} s of the store's")
