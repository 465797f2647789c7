"""Evaluation on a real Ray cluster: the same table as in one process, errors in one line."""

from functools import partial

import numpy as np
import pytest
import torch

from dtpf.core.errors import UserError
from dtpf.core.models import build
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path
from dtpf.data.index import DataConfig, build_index
from dtpf.data.synthetic import SyntheticConfig
from dtpf.evaluation.config import EvalConfig, EvalResources
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import BaselineMethod, NetworkMethod
from dtpf.evaluation.on_ray import evaluate_on_ray
from dtpf.evaluation.score import evaluate

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

CONFIG = EvalConfig(
    metrics=("EN", "VIF", "Qabf"),
    limit=("Qabf",),
    resources=EvalResources(batch=2, actors=2, num_cpus=0.5, stall_timeout_s=120),
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Five pairs of one size, with clean images as references."""
    synthetic = SyntheticConfig(train=1, val=0, test=5, height=64, width=80)
    store = Store(tmp_path_factory.mktemp("synthetic"))
    return list(build_index(DataConfig(synthetic=synthetic), store, "d").pairs)


@pytest.fixture(scope="module")
def methods():
    torch.manual_seed(0)
    return [BaselineMethod("max"), NetworkMethod("student", build("student_tiny"))]


def test_same_table_as_in_one_process(pairs, methods):
    seen = []
    table = evaluate_on_ray(methods, pairs, load_pair, CONFIG, lambda *step: seen.append(step))
    expected = evaluate(methods, pairs, load_pair, CONFIG)
    assert table.pair_ids == expected.pair_ids
    assert table.methods == expected.methods
    assert table.convention == expected.convention
    for method in table.methods:
        for metric in table.metrics:
            np.testing.assert_allclose(
                table.values(method, metric), expected.values(method, metric), rtol=1e-6
            )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (5, 5)


def test_a_pair_that_cannot_be_read_is_the_users_line(pairs, methods, tmp_path):
    broken = local_path(pairs[-1].visible_uri)
    content = broken.read_bytes()
    broken.write_text("not an image")
    try:
        with pytest.raises(UserError, match=broken.name) as caught:
            evaluate_on_ray(methods, pairs, partial(load_pair, scaling="full"), CONFIG)
    finally:
        broken.write_bytes(content)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_said_before_workers_start(pairs, methods):
    with pytest.raises(UserError, match="no pair in split 'val'"):
        evaluate_on_ray(methods, pairs, load_pair, CONFIG.model_copy(update={"split": "val"}))
    with pytest.raises(UserError, match="distinct names"):
        evaluate_on_ray([methods[0], methods[0]], pairs, load_pair, CONFIG)
