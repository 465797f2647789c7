"""Training under Ray Train: what one worker meets must not leave the others waiting."""

import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage.uri import local_path
from dtpf.training.config import ScalingConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_leader_alone_ends_the_run_with_its_line(ray_cluster, spec, workers):
    """Only the leader writes checkpoints; here a folder stands where the first should be."""
    from dtpf.training.on_ray import train_on_ray

    root = local_path(f"{spec.store}/{spec.root}")
    (root / "checkpoints/step-00000001.safetensors/in the way").mkdir(parents=True)
    with pytest.raises(UserError, match="checkpoints") as caught:
        train_on_ray(spec, ScalingConfig(workers=workers, max_failures=0))
    assert "\n" not in str(caught.value)


def test_two_workers_train_to_the_end(ray_cluster, spec):
    from dtpf.training.on_ray import train_on_ray

    seen = []
    result = train_on_ray(spec, ScalingConfig(workers=2), seen.append)
    assert [row["step"] for row in result.losses] == [1.0, 2.0, 3.0, 4.0]
    assert seen[-1].step == 4
