import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from dtpf.core.errors import UserError
from dtpf.data.images import encode
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import NotReadyError, Options, Predictor
from dtpf.serving.problems import InputError
from tests.serving.fakes import (
    MeanFuser,
    infrared_array,
    infrared_png,
    load,
    visible_array,
    visible_png,
)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_answer_is_the_networks_result_to_the_rounding(predictor):
    prediction = predictor.predict(visible_png(), infrared_png(), Options())
    expected = 255 * (visible_array() + infrared_array()[..., None]) / 2
    assert np.abs(decoded(prediction.data) - expected).max() <= 1.01
    assert (prediction.height, prediction.width) == (24, 32)
    assert prediction.version == "v1"
    assert prediction.media_type == "image/png"
    assert list(prediction.timings) == ["decode", "model", "encode"]


def test_gray_is_the_luminance(predictor):
    colour = decoded(predictor.predict(visible_png(), infrared_png(), Options()).data)
    gray = predictor.predict(visible_png(), infrared_png(), Options(gray=True))
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert decoded(gray.data).ndim == 2
    assert np.abs(decoded(gray.data) - expected).max() <= 1.5


def test_quality_changes_the_size_of_a_lossy_answer(predictor):
    def size(quality: int) -> int:
        options = Options(format="jpeg", quality=quality)
        return len(predictor.predict(visible_png(), infrared_png(), options).data)

    assert size(10) < size(95)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_formats(predictor, image_format):
    prediction = predictor.predict(visible_png(), infrared_png(), Options(format=image_format))
    assert Image.open(io.BytesIO(prediction.data)).format == image_format.upper()
    assert prediction.media_type == f"image/{image_format}"


def test_reads_16_bit_tiff_infrared(predictor):
    deep = (infrared_array() * 65535).astype(np.uint16)
    prediction = predictor.predict(visible_png(), encode(deep, "tiff"), Options())
    assert decoded(prediction.data).shape == (24, 32, 3)


def test_sizes_that_differ_are_both_named(predictor, fuser):
    calls = fuser.calls
    with pytest.raises(InputError, match="visible is 32 x 24, infrared is 24 x 32") as caught:
        predictor.predict(visible_png(24, 32), infrared_png(32, 24), Options())
    assert caught.value.field == "infrared"
    assert fuser.calls == calls


@pytest.mark.parametrize("field", ["visible", "infrared"])
def test_unreadable_image_names_its_field(predictor, pair, field):
    pair[field] = b"GIF89a nonsense"
    with pytest.raises(InputError, match=field) as caught:
        predictor.predict(pair["visible"], pair["infrared"], Options())
    assert caught.value.field == field


def test_empty_predictor_is_not_ready(config):
    predictor = Predictor(None, config, load)
    assert not predictor.ready
    with pytest.raises(NotReadyError):
        predictor.predict(visible_png(), infrared_png(), Options())
    predictor.load("v7", "sha-v7")
    assert predictor.info["version"] == "v7"


@pytest.mark.parametrize(
    ("uri", "sha256", "message"),
    [
        ("missing", None, "no bundle there"),
        ("defect", None, "defect: not a usable bundle .unpickling failed"),
        ("nan", None, "nan: the network fails on a test pair"),
        ("cropping", None, "cropping: the network fails on a test pair"),
        ("v2", "sha-other", "expected sha-other"),
    ],
)
def test_bad_bundle_is_refused_and_the_old_one_goes_on(predictor, uri, sha256, message):
    with pytest.raises(UserError, match=message) as caught:
        predictor.load(uri, sha256)
    assert "\n" not in str(caught.value)
    assert predictor.info["version"] == "v1"
    assert predictor.predict(visible_png(), infrared_png(), Options()).version == "v1"


def test_request_ends_with_the_network_it_began_with(predictor, fuser):
    fuser.gate = threading.Event()
    before = fuser.calls
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(predictor.predict, visible_png(), infrared_png(), Options())
        while fuser.calls == before:
            time.sleep(0.001)
        predictor.load("v2")
        second = pool.submit(predictor.predict, visible_png(), infrared_png(), Options())
        fuser.gate.set()
        assert (first.result(20).version, second.result(20).version) == ("v1", "v2")
    assert fuser.calls == before + 1


def test_hot_swaps_under_load_mix_nothing_up(config):
    class Constant(MeanFuser):
        def fuse(self, visible, infrared):
            return np.full_like(visible, int(self.info["version"]) / 255)

    predictor = Predictor(Constant("0"), config, Constant)
    visible, infrared = visible_png(), infrared_png()
    answered = {str(version): threading.Event() for version in range(51)}

    def work() -> None:
        while not answered["50"].is_set():
            prediction = predictor.predict(visible, infrared, Options())
            assert np.unique(decoded(prediction.data)) == [int(prediction.version)]
            answered[prediction.version].set()

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work) for _ in range(3)]
        for version in range(1, 51):
            predictor.load(str(version))
            assert answered[str(version)].wait(20)
        for worker in workers:
            worker.result(20)


def test_threads_are_set_once_and_only_when_asked():
    before = torch.get_num_threads()
    try:
        Predictor(MeanFuser(), ServeConfig())
        assert torch.get_num_threads() == before
        Predictor(MeanFuser(), ServeConfig(threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_real_network_behind_the_same_interface():
    predictor = Predictor(None, ServeConfig())
    info = predictor.load("student_tiny")
    assert info["parameters"] > 0
    prediction = predictor.predict(visible_png(33, 47), infrared_png(33, 47), Options())
    assert decoded(prediction.data).shape == (33, 47, 3)


def test_networks_load_in_a_thread_that_ends(config):
    """A thread that lives on would keep its OpenMP workers, which slow down the model's."""
    threads = []

    def loader(uri):
        threads.append(threading.current_thread())
        return MeanFuser(uri)

    predictor = Predictor(None, config, loader)
    predictor.load("v1")
    predictor.load("v2")
    assert len(set(threads)) == 2
    assert not any(thread.is_alive() for thread in threads)
