"""Settings of the caption stage: what decides the rows, and what only decides the speed."""

from typing import Any, Literal

from pydantic import Field

from dtpf.core.config import Config
from dtpf.core.ops.pixels import Scaling


class CaptionResources(Config):
    """What Ray gives to captioning; none of it changes a row.

    `num_cpus` and `num_gpus` are per actor. Half a CPU leaves room for the driver on two cores.
    Of a vision-language model these are the actors that encode the captions.
    """

    concurrency: int = Field(default=2, ge=1)
    num_cpus: float = Field(default=0.5, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    stall_timeout_s: int = Field(default=600, ge=1)


class EngineResources(Config):
    """How vLLM runs; none of it changes what is asked.

    The defaults fit Qwen2-VL-7B in bfloat16 on a card of 24 GB.

    Attributes:
        engines: how many run at once.
        num_gpus: of one engine; 0 for an engine on CPUs.
        num_cpus: of one engine, where it has no GPU.
        stage_cpus: of each of the stages that read, decode and render prompts.
        memory_fraction: of the GPU's memory.
        max_model_len: tokens of question, images and answer.
        max_num_seqs: requests that one engine works on at once.
        batch_size: pairs that travel together.
        dtype: of weights and activations.
        eager: start faster and run slower, without compiled graphs.
        start_timeout_s: without any answer for so long, the run ends.
    """

    engines: int = Field(default=1, ge=1)
    num_gpus: int = Field(default=1, ge=0)
    num_cpus: float = Field(default=1.0, gt=0)
    stage_cpus: float = Field(default=0.1, ge=0)
    memory_fraction: float = Field(default=0.9, gt=0, le=1)
    max_model_len: int = Field(default=2048, ge=256)
    max_num_seqs: int = Field(default=64, ge=1)
    batch_size: int = Field(default=16, ge=1)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16"
    eager: bool = False
    start_timeout_s: int = Field(default=1800, ge=1)


class VlmConfig(Config):
    """The vision-language model and how it is asked.

    Attributes:
        model: `qwen2_vl_2b` or `qwen2_vl_7b` (from the hub, revision pinned), or the path or URI
            of a folder with such a model.
        cache: folder on every node for models that come from an object store.
        prompt: which question; its version is `prompt_version` of the caption config.
        image_pixels: of an image at most; larger ones are scaled down, sides to multiples of 28.
        max_tokens: of an answer.
        retry_temperature: of the second time, where the first answer (at 0) cannot be used.
        engine: resources.
    """

    model: str = "qwen2_vl_2b"
    cache: str = "~/.cache/dtpf/models"
    prompt: Literal["infrared_visible", "medical"] = "infrared_visible"
    image_pixels: int = Field(default=448 * 448, ge=56 * 56)
    max_tokens: int = Field(default=512, ge=16)
    retry_temperature: float = Field(default=0.7, gt=0)
    engine: EngineResources = EngineResources()


class CaptionConfig(Config):
    """How pairs become captions and embeddings.

    `clip_pretrained` is a tag that open_clip knows, or the path of a local checkpoint.
    `prompt_version` names the wording that asks for or composes the caption.
    """

    captioner: Literal["statistics", "qwen2_vl"] = "statistics"
    encoder: Literal["hashed", "open_clip"] = "hashed"
    clip_model: str = "ViT-B-32"
    clip_pretrained: str = "openai"
    prompt_version: str = Field(default="1", min_length=1)
    infrared_scaling: Scaling = "percentile"
    shard_rows: int = Field(default=256, ge=1)
    batch_size: int = Field(default=64, ge=1)
    vlm: VlmConfig = VlmConfig()
    resources: CaptionResources = CaptionResources()

    def identity(self) -> dict[str, Any]:
        """Return the settings on which the stored shards depend, for the stage's fingerprint."""
        encoding = {"encoder", "clip_model", "clip_pretrained", "shard_rows"}
        return {**self.model_dump(mode="json", include=encoding), "wording": self.wording()}

    def wording(self) -> dict[str, Any]:
        """Return the settings on which captions depend, however they are encoded and stored."""
        names = {"captioner", "prompt_version", "infrared_scaling"}
        settings = self.model_dump(mode="json", include=names)
        if self.captioner != "statistics":
            kept = {"prompt", "image_pixels", "max_tokens", "retry_temperature"}
            settings["vlm"] = self.vlm.model_dump(mode="json", include=kept)
        return settings
