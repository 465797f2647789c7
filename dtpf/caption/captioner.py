"""What every captioner offers, and the one place that turns a config into one."""

from typing import Protocol

from numpy.typing import NDArray

from dtpf.caption.config import CaptionConfig
from dtpf.caption.statistics import StatisticsCaptioner
from dtpf.core.records import Caption


class Captioner(Protocol):
    """Names what is wrong with a pair.

    `name`, `revision` and `prompt_version` go into every row: a result says who made it.
    """

    name: str
    revision: str
    prompt_version: str

    def caption(self, pair_id: str, visible: NDArray, infrared: NDArray) -> Caption:
        """Caption one pair.

        Args:
            pair_id: goes into the row.
            visible: float32 (H, W, 3) in [0, 1].
            infrared: float32 (H, W) in [0, 1].
        """
        ...


def build_captioner(config: CaptionConfig) -> Captioner:
    """Return the captioner that the config names, ready for use."""
    return StatisticsCaptioner(prompt_version=config.prompt_version)
