"""A student by restoration: the teacher as it is, with what cleans its inputs in front."""

import pytest
import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import FusionNet, ModelConfig
from dtpf.core.storage.store import Store
from dtpf.training.config import TrainSpec
from dtpf.training.group import Group
from dtpf.training.restoration import RestorationTask
from dtpf.training.run import build_task, run_training

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
        sum(first[name] for name in ("restoration", "judgement", "tone"))
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


def test_unknown_degradations_are_refused_and_known_ones_named(student):
    document = student.as_dict()
    document["train"]["degradations"] = ["infrared/rain"]
    with pytest.raises(UserError, match=r"unknown: infrared/rain; known: .*infrared/noise"):
        TrainSpec.parse(document, "test")
