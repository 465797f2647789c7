"""ONNX models rewritten: names and papers, fewer operations, smaller weights.

Each function takes a whole model and returns it changed, or another; none computes anything.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto


def label(model: "ModelProto", metadata: Mapping[str, str]) -> None:
    """Write who made a model and what is to know about it into the model."""
    from onnx import helper

    model.producer_name, model.producer_version = "dtpf", ""
    model.doc_string = "Fuses a visible and an infrared image."
    helper.set_model_props(model, dict(metadata))


def fold_transposes(model: "ModelProto") -> None:
    """Store weights as they are used: without an operation that only transposes a constant.

    Each is also a constant right operand afterwards, which quantisation asks for.
    """
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "Transpose" or node.input[0] not in weights:
            kept.append(node)
            continue
        (order,) = node.attribute
        source = numpy_helper.to_array(weights[node.input[0]])
        turned = np.ascontiguousarray(source.transpose(order.ints))
        model.graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
    _replace(model.graph.node, kept)
    used = {name for node in kept for name in node.input}
    rest = [tensor for tensor in model.graph.initializer if tensor.name in used]
    _replace(model.graph.initializer, rest)


def as_float16(model: "ModelProto") -> "ModelProto":
    """Return a model that stores its matrices and kernels as float16.

    They become float32 again where they are used: onnxruntime has few float16 kernels for CPUs,
    and turns stored weights back once, when it loads the file. Vectors and single numbers stay:
    they are few, and among them are bounds that float16 would round to zero.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, stored = tensor.name, f"{tensor.name}.float16"
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    _replace(model.graph.node, [*casts, *model.graph.node])
    return model


def as_int8(model: "ModelProto") -> "ModelProto":
    """Return a model that multiplies by constant matrices in 8-bit integers.

    Weights are scaled per output channel, activations by their range in each call (dynamic
    quantisation). Convolutions and attention scores are computed in float32; what is not a
    quantised matrix is stored as `as_float16` does.

    Weights are unsigned as activations are: a processor without VNNI adds products of signed and
    unsigned bytes in pairs of 16 bits, which overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            result,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
        )
        return as_float16(onnx.load(result))


def merge_duplicates(model: "ModelProto") -> None:
    """Keep one of what computes the same from the same, and constants as stored values.

    A recorded graph finds sizes anew wherever they are used, by more than half of its operations.
    onnxruntime needs longer for each more of them to load a file.
    """
    final = {output.name for output in model.graph.output}
    names: dict[str, str] = {}  # of results that are known by another name already
    found: dict[tuple, list[str]] = {}
    kept = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        said = (part.SerializeToString() for part in node.attribute)
        outputs = list(node.output)
        first = found.setdefault((node.op_type, *node.input, *said), outputs)
        if first is not outputs and final.isdisjoint(outputs):
            names.update(zip(outputs, first, strict=True))
        elif node.op_type == "Constant":
            (value,) = node.attribute
            value.t.name = outputs[0]
            model.graph.initializer.append(value.t)
        else:
            kept.append(node)
    _replace(model.graph.node, kept)


def _replace(field: Any, items: list) -> None:
    """Fill a repeated field; its items die with it when it is cleared."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)
