"""Reading the images of a pair, and the kinds of pairs that cannot be captioned."""

from typing import Literal

from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, Scaling
from dtpf.core.records import Pair
from dtpf.core.storage.patience import patiently
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import TooManyPixels, decode_infrared, decode_visible

SMALLEST_SIDE = 16  # pixels; below it there is nothing to see or to measure

Kind = Literal["unreadable", "too_large", "too_small", "sizes_differ"]

# Reading errors that concern one file; any other means that the storage does not answer, and
# rows written then would call readable pairs unreadable for ever.
_ABOUT_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class UnusablePair(UserError):
    """A pair that cannot be captioned; its text is the status of its row: `kind: detail`."""

    def __init__(self, kind: Kind, detail: object) -> None:
        super().__init__(f"{kind}: {detail}")


def read_images(
    pair: Pair, scaling: Scaling, patience: float = 0.0
) -> tuple[FloatImage, FloatImage]:
    """Return visible (H, W, 3) and infrared (H, W) of a pair, float32 in [0, 1].

    Args:
        pair: whose images.
        scaling: how 16-bit infrared comes to [0, 1].
        patience: seconds to wait for a storage server that does not answer.

    Raises:
        UnusablePair: missing, damaged, far too large or too small, or of two sizes.
        UserError: the storage does not answer; nothing is wrong with the pair then.
    """
    visible_data = _read(pair.visible_uri, patience)
    infrared_data = _read(pair.infrared_uri, patience)
    try:
        visible = decode_visible(visible_data, pair.visible_uri)
        infrared = decode_infrared(infrared_data, pair.infrared_uri, scaling=scaling)
    except TooManyPixels as error:
        raise UnusablePair("too_large", error) from None
    except ValueError as error:
        raise UnusablePair("unreadable", error) from None
    if visible.shape[:2] != infrared.shape:
        raise UnusablePair("sizes_differ", f"{visible.shape[:2]} and {infrared.shape}")
    if min(infrared.shape) < SMALLEST_SIDE:
        raise UnusablePair("too_small", f"below {SMALLEST_SIDE} pixels a side")
    return visible, infrared


def _read(uri: str, patience: float) -> bytes:
    try:
        return patiently(lambda: read_bytes(uri), patience)
    except UserError as error:
        if isinstance(error.__context__, _ABOUT_ONE_FILE):
            raise UnusablePair("unreadable", error) from None
        raise
