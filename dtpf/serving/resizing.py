"""Which pairs of images that differ in size an endpoint takes; `dtpf.cameras.prepare` resizes them.

Sizes are (height, width).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from dtpf.cameras.prepare import Resolution
from dtpf.core.models.checks import MIN_SIDE
from dtpf.serving.problems import InputError

SizePolicy = Literal["same", "visible", "infrared"]
RESOLUTION: Mapping[SizePolicy, Resolution] = {
    "same": "keep",
    "visible": "visible",
    "infrared": "infrared",
}

_MAX_STRETCH = 0.02


def check_sizes(visible: Sequence[int], infrared: Sequence[int], policy: SizePolicy) -> None:
    """Refuse pairs that cannot be brought to one size.

    Args:
        visible: size of the visible image.
        infrared: size of the infrared image.
        policy: `same` refuses sizes that differ; the others name the image whose size both get,
            where their proportions agree to 2 %.

    Raises:
        InputError: sizes differ and may not, or are too small for the network.
    """
    if tuple(visible) != tuple(infrared):
        if policy == "same":
            raise InputError(
                "infrared",
                f"sizes differ: visible is {_shown(visible)}, infrared is {_shown(infrared)}; "
                "send a registered pair of one size, or choose the size with the option 'size'",
            )
        _check_proportions(visible, infrared)
    result = infrared if policy == "infrared" else visible
    if min(result) < MIN_SIDE:
        raise InputError("visible", f"{_shown(result)} pixels; sides must have at least {MIN_SIDE}")


def _check_proportions(visible: Sequence[int], infrared: Sequence[int]) -> None:
    (rows, columns), (high, wide) = visible, infrared
    if abs((rows / columns) / (high / wide) - 1.0) > _MAX_STRETCH:
        raise InputError(
            "infrared",
            f"proportions differ: visible is {_shown(visible)}, infrared is {_shown(infrared)}; "
            "crop both to one view first",
        )


def _shown(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]}"
