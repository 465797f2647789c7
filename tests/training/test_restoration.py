"""A student by restoration: the teacher as it is, with what cleans its inputs in front."""

import pytest
import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.errors import UserError
from dtpf.core.losses import fusion_terms
from dtpf.core.models import FusionNet, ModelConfig
from dtpf.core.storage.store import Store
from dtpf.training.config import TrainSpec
from dtpf.training.group import Group
from dtpf.training.restoration import RestorationTask
from dtpf.training.run import build_task, run_training
from tests.training.test_run import feed_of

ALONE = Group(0, 1, torch.device("cpu"))
PLAIN = ModelConfig(width=4, block="convolution", fusion="concat", text=False, start="bands")
CLEANING = PLAIN.model_copy(update={"restoration": 4})


@pytest.fixture
def student(spec) -> TrainSpec:
    """A student whose teacher is trained and has no text."""
    train = spec.train.model_copy(update={"steps": 2})
    teacher = spec.model_copy(update={"model": PLAIN, "train": train, "root": f"{spec.root}-t"})
    run_training(teacher, ALONE)
    noisy = train.model_copy(
        update={
            "steps": 4,
            "crop": 64,
            "warmup": 0,
            "learning_rate": 1e-2,
            "ema": 0.5,
            "degraded": 1.0,
            "degradations": ("visible/noise", "infrared/noise"),
        }
    )
    more = {"task": "student", "teacher_bundle": f"{teacher.root}/bundle", "method": "restoration"}
    return spec.model_copy(update={"model": CLEANING, "train": noisy, **more})


def test_only_the_restoration_is_trained(student):
    result = run_training(student, ALONE)
    assert result.losses[0]["restoration"] == pytest.approx(1.0)  # nothing is changed at first
    first = result.losses[0]
    assert first["loss"] == pytest.approx(
        sum(first[name] for name in ("restoration", "judgement", "tone", "lost"))
    )
    assert set(result.scores) == {"VIF", "Qabf", "SSIM"}
    store = Store(student.store)
    taught, learned = (
        load_bundle(store.uri_of(key)).model.state_dict()
        for key in (student.teacher_bundle, f"{student.root}/bundle")
    )
    assert all(torch.equal(learned[name], weight) for name, weight in taught.items())
    own = {name: weight for name, weight in learned.items() if name not in taught}
    assert all(name.startswith("restorer.") for name in own)
    assert own["restorer.out.weight"].any()
    assert own["restorer.trust.out.weight"].any()


def test_what_is_lost_of_a_few_pictures_stands_for_the_batch(student):
    """Two of nine samples are fused; shares of VIF, Qabf and SSIM by the losses that lack them."""
    task = build_task(student, Store(student.store))
    batch = feed_of(student).batch(0, student.train.model_copy(update={"batch": 9}))
    cleaned = task.trainable(batch.visible_B3HW, batch.infrared_B1HW)
    found = task._lost(batch, cleaned)
    assert found.shape == (9,)
    assert not found[2:].any()
    part = batch.part(slice(0, 2))
    clean = part.visible_guide_B3HW, part.infrared_guide_B1HW
    shares = []
    for pair in ((part.visible_B3HW, part.infrared_B1HW), clean):  # restored by nothing yet
        terms = fusion_terms(task.network(*pair), *clean)
        structure = 2 - terms["ssim_visible"] - terms["ssim_infrared"]
        shares.append((2 - 2 * terms["information"], 1 - terms["edges"], structure))
    kept = [here / there.clamp(min=0.3) for here, there in zip(*shares, strict=True)]
    torch.testing.assert_close(found.mean(), 1 - torch.stack(kept).mean())


def test_trust_alone_learns_from_the_picture(student):
    task = build_task(student, Store(student.store))
    torch.nn.init.normal_(task.trainable.out.weight, std=0.1)
    batch = feed_of(student).batch(0, student.train)
    cleaned = task.trainable(batch.visible_B3HW, batch.infrared_B1HW)
    task._lost(batch, cleaned).sum().backward()
    taught = {
        name
        for name, weight in task.network.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }
    assert taught
    assert all(name.startswith("restorer.trust.") for name in taught)


def test_the_average_of_a_restorer_fits_into_the_network(student):
    task = build_task(student, Store(student.store))
    other = FusionNet(CLEANING).restorer
    shipped = task.network_in(other)
    assert shipped.restorer is other
    assert task.network.restorer is task.trainable is not other
    assert shipped.state_dict().keys() == task.network.state_dict().keys()


def test_a_teacher_of_another_shape_is_refused_with_what_to_set(student):
    wide = CLEANING.model_copy(update={"width": 8, "restoration": 0})
    with pytest.raises(UserError, match=r"set student.model.width=4 student.model.restoration=24"):
        run_training(student.model_copy(update={"model": wide}), ALONE)
    with pytest.raises(ValueError, match="trained network's shape"):
        RestorationTask(CLEANING, FusionNet(CLEANING.model_copy(update={"text": True})))


def test_stored_outputs_of_a_teacher_that_is_not_asked_are_refused(student):
    document = student.as_dict() | {"teacher_outputs": "stored"}
    with pytest.raises(UserError, match=r"asks no teacher; set student.teacher_outputs=live"):
        TrainSpec.parse(document, "test")


def test_crops_too_small_for_what_is_kept_of_the_picture_are_refused(student):
    document = student.as_dict()
    document["train"]["crop"] = 40
    with pytest.raises(UserError, match=r"crop is 40; VIF, a term of method=restoration, needs 41"):
        TrainSpec.parse(document, "test")


def test_unknown_degradations_are_refused_and_known_ones_named(student):
    document = student.as_dict()
    document["train"]["degradations"] = ["infrared/rain"]
    with pytest.raises(UserError, match=r"unknown: infrared/rain; known: .*infrared/noise"):
        TrainSpec.parse(document, "test")
