"""Settings of the caption stage: what decides the rows, and what only decides the speed."""

from typing import Any, Literal

from pydantic import Field

from dtpf.core.config import Config
from dtpf.core.ops.pixels import Scaling


class CaptionResources(Config):
    """What Ray gives to captioning; none of it changes a row.

    `num_cpus` and `num_gpus` are per actor. Half a CPU leaves room for the driver on two cores.
    """

    concurrency: int = Field(default=2, ge=1)
    num_cpus: float = Field(default=0.5, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    stall_timeout_s: int = Field(default=600, ge=1)


class CaptionConfig(Config):
    """How pairs become captions and embeddings.

    `clip_pretrained` is a tag that open_clip knows, or the path of a local checkpoint.
    `prompt_version` names the wording that asks for or composes the caption.
    """

    captioner: Literal["statistics"] = "statistics"
    encoder: Literal["hashed", "open_clip"] = "hashed"
    clip_model: str = "ViT-B-32"
    clip_pretrained: str = "openai"
    prompt_version: str = Field(default="1", min_length=1)
    infrared_scaling: Scaling = "percentile"
    shard_rows: int = Field(default=256, ge=1)
    batch_size: int = Field(default=64, ge=1)
    resources: CaptionResources = CaptionResources()

    def identity(self) -> dict[str, Any]:
        """Return the settings on which the stored shards depend, for the stage's fingerprint."""
        return self.model_dump(mode="json", exclude={"batch_size", "resources"})
