"""What every captioner offers, and the one place that turns a config into one."""

from dataclasses import dataclass
from typing import Protocol

from numpy.typing import NDArray

from dtpf.caption.config import CaptionConfig
from dtpf.caption.models import model_revision
from dtpf.caption.statistics import StatisticsCaptioner
from dtpf.caption.text import NEUTRAL_CAPTION
from dtpf.core.errors import UserError
from dtpf.core.records import Caption, Degradation


@dataclass(frozen=True)
class Maker:
    """Who makes the rows, as it stands in each of them."""

    name: str
    revision: str
    prompt_version: str

    def failed(self, pair_id: str, status: str) -> Caption:
        """Return the row of a pair of which nothing could be said; `status` is `kind: why`."""
        return self.row(pair_id, NEUTRAL_CAPTION, (), status)

    def row(
        self, pair_id: str, text: str, found: tuple[Degradation, ...], status: str = "ok"
    ) -> Caption:
        """Return the row of a pair."""
        return Caption(pair_id, text, found, self.name, self.revision, self.prompt_version, status)


class Captioner(Protocol):
    """Names what is wrong with a pair, one at a time."""

    name: str
    revision: str

    def caption(self, pair_id: str, visible: NDArray, infrared: NDArray) -> Caption:
        """Caption one pair.

        Args:
            pair_id: goes into the row.
            visible: float32 (H, W, 3) in [0, 1].
            infrared: float32 (H, W) in [0, 1].
        """
        ...


def maker_of(config: CaptionConfig) -> Maker:
    """Return who captions with this config, without loading anything.

    Raises:
        UserError: the model is a folder that cannot be read.
    """
    if config.captioner == "statistics":
        revision = StatisticsCaptioner.revision
    else:
        revision = model_revision(config.vlm.model)
    return Maker(config.captioner, revision, config.prompt_version)


def build_captioner(config: CaptionConfig) -> Captioner:
    """Return the captioner that the config names, ready for use.

    Raises:
        UserError: it is one that works in batches, on a cluster.
    """
    if config.captioner != "statistics":
        raise UserError(
            f"caption.captioner={config.captioner} needs Ray: run the job without --local, or use "
            "caption.captioner=statistics"
        )
    return StatisticsCaptioner(prompt_version=config.prompt_version)
