import pytest

from dtpf.caption.captioner import build_captioner
from dtpf.caption.config import CaptionConfig, CaptionResources
from dtpf.caption.encoders import HashedEncoder, build_encoder
from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError


def test_identity_depends_on_what_decides_the_rows_only():
    base = CaptionConfig()
    faster = CaptionConfig(batch_size=1, resources=CaptionResources(concurrency=8, num_gpus=1.0))
    assert faster.identity() == base.identity()
    for setting in ("clip_model=B", "encoder=open_clip", "shard_rows=3", "prompt_version=x"):
        assert apply_overrides(base, [setting]).identity() != base.identity()


@pytest.mark.parametrize("setting", ["captioner=qwen", "shard_rows=0", "resources.num_cpus=-1"])
def test_rejects_unknown_names_and_impossible_numbers(setting):
    with pytest.raises(UserError, match=setting.partition("=")[0]):
        apply_overrides(CaptionConfig(), [setting])


def test_config_builds_what_it_names():
    config = CaptionConfig(prompt_version="7")
    captioner = build_captioner(config)
    assert (captioner.name, captioner.prompt_version) == ("statistics", "7")
    assert isinstance(build_encoder(config), HashedEncoder)
