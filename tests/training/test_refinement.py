"""Pictures optimised on the fusion loss: better by it, in the same colours, and stored."""

import pytest
import torch

from dtpf.core.errors import UserError
from dtpf.core.losses import LossConfig, weights_for
from dtpf.core.ops.color import rgb_to_ycbcr
from dtpf.core.storage.store import Store
from dtpf.evaluation.baselines import laplacian_pyramid, mean
from dtpf.training.config import TrainSpec
from dtpf.training.group import Group
from dtpf.training.refinement import refined
from dtpf.training.tasks import TrainBatch, terms_of
from dtpf.training.teacher_outputs.reader import OutputReader
from dtpf.training.teacher_outputs.shards import SHARD_CROPS, shards_of
from dtpf.training.teacher_outputs.writer import write_teacher_outputs
from tests.training.test_teacher_outputs import student_of, training_pairs

ALONE = Group(0, 1, torch.device("cpu"))


def crops(preset: str = "crisp", count: int = 2, side: int = 48) -> TrainBatch:
    """Gray-blue scenes whose sources have edges at other places."""
    torch.manual_seed(0)
    visible = torch.rand(count, 3, side // 8, side // 8).repeat_interleave(8, 2)
    visible = 0.3 + 0.4 * visible.repeat_interleave(8, 3)
    infrared = torch.rand(count, 1, side // 6, side // 6).repeat_interleave(6, 2)
    infrared = 0.2 + 0.6 * infrared.repeat_interleave(6, 3)
    weights = weights_for((), LossConfig.parse({"preset": preset}, "test")).as_dict()
    return TrainBatch(
        tuple("abcdefgh"[:count]),
        visible,
        infrared,
        visible,
        infrared,
        torch.zeros(count, dtype=torch.bool),
        torch.zeros(count, 512),
        {name: torch.full((count,), value) for name, value in weights.items()},
    )


def loss(image: torch.Tensor, batch: TrainBatch) -> torch.Tensor:
    terms = terms_of(image, batch, batch.weights)
    return sum(value * batch.weights[_weight(name)] for name, value in terms.items())


def _weight(term: str) -> str:
    return {"ssim_visible": "ssim"}.get(term, term)


@pytest.mark.parametrize("preset", ["paper", "crisp"])
def test_the_loss_of_every_sample_falls(preset):
    batch = crops(preset)
    start = mean(batch.visible_B3HW, batch.infrared_B1HW)
    found = refined(start, batch, 20)
    assert found.shape == start.shape
    assert not found.requires_grad
    assert 0 <= found.min() <= found.max() <= 1
    assert (loss(found, batch) < 0.97 * loss(start, batch)).all()


def test_it_leads_further_than_the_pyramid_in_what_crisp_measures():
    batch = crops()
    pyramid = laplacian_pyramid(batch.visible_B3HW, batch.infrared_B1HW)
    terms = ("edges", "information", "ssim_visible", "ssim_infrared")
    before, after = (
        terms_of(image, batch, batch.weights) for image in (pyramid, refined(pyramid, batch, 40))
    )
    assert sum(after[name].mean() for name in terms) < sum(before[name].mean() for name in terms)


def test_without_steps_or_room_the_picture_stays():
    batch = crops("paper")
    start = mean(batch.visible_B3HW, batch.infrared_B1HW)
    assert torch.equal(refined(start, batch, 0), start)
    alike = TrainBatch(
        **{**vars(batch), "infrared_B1HW": _gray(batch), "infrared_guide_B1HW": _gray(batch)}
    )
    kept = refined(alike.visible_B3HW, alike, 3)  # both sources at once: nothing is better
    torch.testing.assert_close(kept, alike.visible_B3HW)


def _gray(batch: TrainBatch) -> torch.Tensor:
    return rgb_to_ycbcr(batch.visible_B3HW)[:, :1]


def test_colours_stay():
    batch = crops()
    start = mean(batch.visible_B3HW, batch.infrared_B1HW)
    found = refined(start, batch, 10)
    before, after = rgb_to_ycbcr(start)[:, 1:], rgb_to_ycbcr(found)[:, 1:]
    assert (after - before).abs().mean() < 1e-3  # only where the gamut ends they fade


def test_a_sample_does_not_see_its_batch():
    batch = crops(count=3)
    start = mean(batch.visible_B3HW, batch.infrared_B1HW)
    together = refined(start, batch, 5)
    alone = refined(start[1:2], batch.part(slice(1, 2)), 5)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-3)


def test_it_works_where_no_gradients_are_kept():
    batch = crops("paper")
    start = mean(batch.visible_B3HW, batch.infrared_B1HW)
    with torch.no_grad():
        found = refined(start, batch, 5)
    assert (loss(found, batch) < loss(start, batch)).all()


def refining(spec: TrainSpec, steps: int, seed: int) -> TrainSpec:
    student = student_of(spec, seed)
    distill = student.distill.model_copy(update={"refine": steps})
    train = student.train.model_copy(update={"fixed_crops": SHARD_CROPS})
    return student.model_copy(update={"distill": distill, "train": train})


def test_stored_pictures_are_refined_and_lie_elsewhere(spec):
    plain, better = (refining(spec, steps, 7) for steps in (0, 6))
    fused = []
    for student in (plain, better):
        write_teacher_outputs(student, ALONE)
        shards = shards_of(student, Store(student.store), training_pairs(student))
        fused.append(OutputReader(shards)(range(SHARD_CROPS)))
    assert not torch.equal(fused[0][0], fused[1][0])
    for here, there in zip(fused[0][1:], fused[1][1:], strict=True):
        assert torch.equal(here, there)  # features are the teacher's own
    other = better.model_copy(update={"loss": LossConfig.parse({"preset": "paper"}, "test")})
    pairs, store = training_pairs(better), Store(better.store)
    assert shards_of(other, store, pairs).prefix != shards_of(better, store, pairs).prefix


def test_refining_in_every_step_is_refused_with_what_to_set(spec):
    document = refining(spec, 3, 8).as_dict() | {"teacher_outputs": "live"}
    with pytest.raises(UserError, match=r"refine=3 .*set student.teacher_outputs=stored"):
        TrainSpec.parse(document, "test")
    document["distill"]["refine"] = -1
    with pytest.raises(UserError, match="refine"):
        TrainSpec.parse(document, "test")
