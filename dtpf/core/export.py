"""A network as one ONNX file, which onnxruntime runs without torch.

Batch, height and width are free, and everything around the network is part of the graph: images
are padded by reflection to its stride, and the result is cropped and clamped to [0, 1].
Legend: B = batch, H, W = height and width, T = width of a text embedding.
"""

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from dtpf.core import onnx_graphs
from dtpf.core.bundle import Bundle
from dtpf.core.errors import UserError
from dtpf.core.fusion import fuse_tensors
from dtpf.core.models import FusionNet, ModelConfig, count_parameters
from dtpf.core.models.checks import MIN_SIDE
from dtpf.core.models.config import PYRAMID_SIDE

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_OPSET = 18
_TOLERANCE = 1e-4
_TRACED = (2, 70, 60)  # batch, height, width of the images that the graph is recorded with
_CHECKED = ((1, 49, 131), (3, 130, 60))  # others, on which it has to agree with the network


@dataclass(frozen=True)
class Exported:
    """An ONNX file and how far it is from the network it was made of.

    Attributes:
        data: the content of the file.
        difference: largest absolute difference to the network's result on random pairs; pixels
            lie in [0, 1].
    """

    data: bytes
    difference: float


def export_onnx(bundle: Bundle, precision: Precision = "float32") -> Exported:
    """Return a bundle's network as ONNX.

    Inputs `visible` (B, 3, H, W) and `infrared` (B, 1, H, W), float32 in [0, 1], H and W from 16;
    a network with text modulation also takes `text` (B, T). Output `fused` (B, 3, H, W), float32
    in [0, 1]. The file's metadata name version, sha256 of the weights, stride and value ranges.

    Args:
        bundle: the network, on the CPU.
        precision: `float32`; `float16`, matrices and kernels stored as float16, computed in
            float32; or `int8`, products by constant matrices in 8-bit integers.

    Raises:
        UserError: another precision, onnx or onnxruntime is not installed, or a network whose
            graph depends on the size of its images.
        RuntimeError: the float32 graph differs from the network by more than 1e-4.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: unknown; use {', '.join(PRECISIONS)}")
    _check_installed()
    _check_exportable(bundle)
    data = _rewritten(_trace(bundle.model), precision, _metadata(bundle, precision))
    difference = _difference(data, bundle.model)
    if precision == "float32" and not difference <= _TOLERANCE:
        raise RuntimeError(f"{bundle.uri}: the ONNX graph is off by {difference:.2g}")
    return Exported(data, difference)


class _AnySize(nn.Module):
    """A network as `fuse_tensors` runs it; how much to pad and to crop is found in the graph."""

    def __init__(self, network: FusionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        height, width = visible.shape[-2:]
        stride = self.network.config.stride
        fused = self.network(_mirrored(visible, stride), _mirrored(infrared, stride), text)
        return fused[..., :height, :width].clamp(0.0, 1.0)


def _mirrored(image: Tensor, multiple: int) -> Tensor:
    """Do as `reflect_pad_to_multiple`, without a loop whose length depends on the size."""
    for axis in (-2, -1):
        length = image.shape[axis]
        place = torch.arange((length + multiple - 1) // multiple * multiple)
        period = 2 * length - 2
        place = place % period
        image = image.index_select(axis, torch.minimum(place, period - place))
    return image


def _trace(model: FusionNet) -> bytes:
    # The exporter of torch.export takes minutes per network: its symbolic algebra proves each
    # split into windows anew. This one records a call in seconds, and what depends on sizes must
    # be written so that it is recorded too; `_difference` finds what is not.
    names = _inputs(model.config)
    axes = {"visible": {0: "B", 2: "H", 3: "W"}, "text": {0: "B"}}
    axes["infrared"] = axes["fused"] = axes["visible"]
    sink = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that checks of the inputs are not recorded
        torch.onnx.export(
            _AnySize(model).eval(),
            tuple(_random_inputs(model.config, *_TRACED).values()),
            sink,  # type: ignore[arg-type]  # a path, or what that exporter writes to
            dynamo=False,
            do_constant_folding=False,  # would take sizes that were seen for constants
            opset_version=_OPSET,
            input_names=list(names),
            output_names=["fused"],
            dynamic_axes={name: axes[name] for name in (*names, "fused")},
        )
    return sink.getvalue()


def _inputs(config: ModelConfig) -> dict[str, str]:
    """Return the graph's inputs and what each must hold."""
    images = {"visible": "B x 3 x H x W, RGB in [0, 1]", "infrared": "B x 1 x H x W in [0, 1]"}
    return images | ({"text": f"B x {config.text_dim} embeddings"} if config.text else {})


def _random_inputs(config: ModelConfig, batch: int, height: int, width: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 4, height, width, generator=generator)
    text = torch.randn(batch, config.text_dim, generator=generator)
    return dict(zip(_inputs(config), (images[:, :3], images[:, 3:], text), strict=False))


def _rewritten(data: bytes, precision: Precision, metadata: Mapping[str, str]) -> bytes:
    import onnx

    model = onnx.load_from_string(data)
    onnx_graphs.label(model, metadata)
    onnx_graphs.fold_transposes(model)
    match precision:
        case "float16":
            model = onnx_graphs.as_float16(model)
        case "int8":
            model = onnx_graphs.as_int8(model)
    onnx_graphs.merge_duplicates(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _metadata(bundle: Bundle, precision: str) -> dict[str, str]:
    config = bundle.model.config
    return {
        "version": bundle.version,
        "sha256": bundle.sha256,
        "precision": precision,
        "parameters": str(count_parameters(bundle.model)),
        "stride": str(config.stride),
        "smallest_side": str(MIN_SIDE),
        **_inputs(config),
        "fused": "B x 3 x H x W, RGB in [0, 1]",
        "config": json.dumps(config.as_dict()),
    }


def _difference(data: bytes, model: FusionNet) -> float:
    """Return the largest difference of graph and network on random inputs of several sizes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # To plan which memory is used again takes most of the time of loading; these images are small.
    options.enable_mem_reuse = False
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for size in _CHECKED:
        inputs = _random_inputs(model.config, *size)
        expected = fuse_tensors(model, *inputs.values())
        fused: Any = session.run(None, {name: x.numpy() for name, x in inputs.items()})[0]
        largest = max(largest, (torch.from_numpy(fused) - expected).abs().max().item())
    return largest


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f"export needs {error.name}: pip install 'dtpf[onnx]'") from None


def _check_exportable(bundle: Bundle) -> None:
    config = bundle.model.config
    if config.start == "pyramid" and config.stride < PYRAMID_SIDE:
        raise UserError(
            f"{bundle.uri}: start=pyramid with window={config.window} depends on the size of an "
            "image in a way that ONNX cannot say; export a network with a window of 8 or more"
        )
