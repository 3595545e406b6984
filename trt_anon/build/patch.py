"""Freeing batch, height and width of an ONNX detector, and giving it a uint8 input.

Exported detectors often carry the size of one picture in their graph. Three things have to change: the declared
dimensions of the input, Reshape targets that begin with the batch size of the export (left alone, they move one
picture's values into another's, silently), and Resize nodes with fixed output sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.load import check_model
from trt_anon.build.picture_input import PictureInput, picture_input
from trt_anon.build.quantized import quantizes_by_batch
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx

PATCH_VERSION = 2
"""Part of the key under which patched models are cached; raised with every change of what patching yields."""

PIXELS = "pixels"
"""Name of the uint8 input of a folded model."""

_OLDEST_OPSET = 7  # before it, Sub and Mul do not broadcast


def make_dynamic(model: onnx.ModelProto, *, size: bool = True, where: str = "model") -> onnx.ModelProto:
    """A copy whose batch is free, and with `size` its height and width too; other values stay as they are.

    The network must have one picture input with a batch axis (see `build.picture_input`). Raises ModelError where it
    has another, where its graph ties a value to one picture size in a way that cannot be undone, or where it quantizes
    the pictures of a batch by the range of them all.
    """
    lib = require("onnx", "patching a model")
    patched: onnx.ModelProto = lib.ModelProto()
    patched.CopyFrom(model)
    drop_initializer_inputs(patched)
    source = picture_input(patched, where)
    if "n" not in source.layout:
        raise ModelError(f"{where}: takes one picture, its input {source.name!r} has no batch axis")
    if quantizes_by_batch(patched):
        raise ModelError(
            f"{where}: quantizes by the range of a whole batch (DynamicQuantizeLinear), which mixes pictures"
        )
    batch, shapes = _static_shapes(patched, source.name)
    dims = patched.graph.input[0].type.tensor_type.shape.dim
    for name, axis in source.axes.items():
        if size or name == "n":
            dims[axis].ClearField("dim_value")
            dims[axis].dim_param = name.upper()
    constants = _constants(patched.graph)
    on_pictures = _data_nodes(patched.graph, source.name)
    for node in on_pictures:
        if node.op_type == "Reshape" and node.input[1] in constants:
            _free_reshape(patched.graph, node, constants[node.input[1]], shapes.get(node.input[0]), batch, size, where)
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            _free_resize(patched.graph, node, constants[node.input[3]], shapes.get(node.input[0]), where)
    drop_unused_initializers(patched.graph)
    return _reshaped(patched, where)


def one_picture(model: onnx.ModelProto, *, where: str = "model") -> onnx.ModelProto:
    """A copy that takes one picture at a time, for a graph whose batch cannot be freed.

    Raises ModelError where it takes several at a time.
    """
    lib = require("onnx", "patching a model")
    single: onnx.ModelProto = lib.ModelProto()
    single.CopyFrom(model)
    drop_initializer_inputs(single)
    source = picture_input(single, where)
    if source.batch not in (None, 1):
        raise ModelError(f"{where}: takes {source.batch} pictures at a time; export it for one, or for any number")
    if "n" in source.layout:
        single.graph.input[0].type.tensor_type.shape.dim[source.axes["n"]].dim_value = 1
    return single


def pin_input(model: onnx.ModelProto, batch: int, height_px: int, width_px: int) -> onnx.ModelProto:
    """A copy whose input, of whatever layout or folded, has this size."""
    lib = require("onnx", "patching a model")
    pinned: onnx.ModelProto = lib.ModelProto()
    pinned.CopyFrom(model)
    drop_initializer_inputs(pinned)
    source = picture_input(pinned, "model")
    dims = pinned.graph.input[0].type.tensor_type.shape.dim
    for name, side in (("n", batch), ("h", height_px), ("w", width_px)):
        if name in source.axes:
            dims[source.axes[name]].dim_value = side
    return pinned


def fold_input(
    model: onnx.ModelProto,
    mean: Sequence[float],
    scale: Sequence[float],
    *,
    where: str = "model",
) -> onnx.ModelProto:
    """A copy whose input is `pixels`, uint8 (N, H, W, 3), each value read as (code - mean) * scale.

    Values are computed in float32 and then rounded to the type of the network's input. N is 1 where that has no batch.
    mean, scale: one per channel, in the channel order of the network, which is also that of the input.
    """
    lib = require("onnx", "patching a model")
    folded: onnx.ModelProto = lib.ModelProto()
    folded.CopyFrom(model)
    drop_initializer_inputs(folded)
    graph = folded.graph
    source = picture_input(folded, where)
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    if PIXELS in taken:
        raise ModelError(f"{where}: has a value named {PIXELS!r} already; is it folded?")
    opset = next(o.version for o in folded.opset_import if o.domain in ("", "ai.onnx"))
    if opset < _OLDEST_OPSET:
        raise ModelError(f"{where}: opset {opset} is too old; export it again with {_OLDEST_OPSET} or later")

    steps = _front(source, np.asarray(mean, np.float32), np.asarray(scale, np.float32), opset, where)
    front = []
    current = PIXELS
    for index, (operator, attributes, value) in enumerate(steps):
        inputs = [current]
        if value is not None:
            inputs.append(_fresh(graph, f"{PIXELS}_{index}_{operator.lower()}_by"))
            graph.initializer.append(lib.numpy_helper.from_array(value, inputs[1]))
        current = source.name if index == len(steps) - 1 else _fresh(graph, f"{PIXELS}_{index}_{operator.lower()}")
        name = f"{PIXELS}_{index}_{operator}"
        front.append(lib.helper.make_node(operator, inputs, [current], name=name, **attributes))

    dims = [d.dim_value or d.dim_param or None for d in graph.input[0].type.tensor_type.shape.dim]
    shape = [*(dims[source.axes[axis]] if axis in source.axes else 1 for axis in "nhw"), 3]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *rest])
    del graph.input[:]
    graph.input.append(lib.helper.make_tensor_value_info(PIXELS, lib.TensorProto.UINT8, shape))
    check_model(folded, where)
    return folded


def _front(
    source: PictureInput, mean: NDArray[np.float32], scale: NDArray[np.float32], opset: int, where: str
) -> list[tuple[str, dict[str, object], NDArray[np.generic] | None]]:
    """The operators from uint8 (N, H, W, 3) to the network's input: (name, attributes, second operand)."""
    lib = require("onnx", "patching a model")
    if any(v.shape != (3,) or not np.isfinite(v).all() for v in (mean, scale)):
        raise ModelError(f"{where}: mean and scale are three finite numbers each")
    channels_first = "chw" in source.layout
    transpose: tuple[str, dict[str, object], None] = ("Transpose", {"perm": (0, 3, 1, 2)}, None)
    steps: list[tuple[str, dict[str, object], NDArray[np.generic] | None]] = []
    if source.dtype == np.uint8:
        if mean.any() or (scale != 1).any():
            raise ModelError(f"{where}: takes uint8, so that the input's mean must be 0 and its scale 1")
        steps += [transpose] if channels_first else []
    else:
        # The conversion to float runs over rows of W * 3 values, and mean and scale follow the transposition: in this
        # form OpenVINO reads a channels-last picture without a copy where its size is fixed (YuNet takes 16% less time
        # than with a plain Cast and Transpose), and where the size is free no operator runs over an innermost
        # dimension of 3.
        steps += [
            ("Reshape", {}, np.array([0, 0, -1], np.int64)),
            ("Cast", {"to": lib.TensorProto.FLOAT}, None),
            ("Reshape", {}, np.array([0, 0, -1, 3], np.int64)),
        ]
        steps += [transpose] if channels_first else []
        per_channel = (1, 3, 1, 1) if channels_first else (1, 1, 1, 3)
        for operator, vector, neutral in (("Sub", mean, 0.0), ("Mul", scale, 1.0)):
            if (vector != neutral).any():
                steps.append((operator, {}, vector.reshape(per_channel)))
        if source.dtype == np.float16:
            steps.append(("Cast", {"to": lib.TensorProto.FLOAT16}, None))
    if "n" not in source.layout:
        by_attribute: dict[str, object] = {"axes": [0]}
        steps.append(("Squeeze", {}, np.array([0], np.int64)) if opset >= 13 else ("Squeeze", by_attribute, None))
    return steps or [("Identity", {}, None)]


def drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Initializers that are inputs too (IR 3) become constants, which runtimes can fold."""
    names = {t.name for t in model.graph.initializer}
    kept = [i for i in model.graph.input if i.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.int64]]:
    """Integer and float constants by name, initializers and Constant nodes alike."""
    lib = require("onnx", "patching a model")
    found = {t.name: lib.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = lib.numpy_helper.to_array(node.attribute[0].t)
    return found


def _static_shapes(model: onnx.ModelProto, source: str) -> tuple[int, dict[str, list[int | None]]]:
    """The batch size of the export (1 where free), and the shape of every value at that batch, None where unknown."""
    lib = require("onnx", "patching a model")
    fixed: onnx.ModelProto = lib.ModelProto()
    fixed.CopyFrom(model)
    first = fixed.graph.input[0].type.tensor_type.shape.dim[0]
    batch = first.dim_value or 1
    first.ClearField("dim_param")
    first.dim_value = batch
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = lib.shape_inference.infer_shapes(fixed, data_prop=True)
    shapes = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return batch, shapes


def _data_nodes(graph: onnx.GraphProto, source: str) -> Iterator[onnx.NodeProto]:
    """The nodes that pictures flow through; arithmetic on shapes and on weights is none of them."""
    flowing = {source}
    for node in list(graph.node):
        if flowing.intersection(node.input) and node.op_type not in ("Shape", "Size"):
            flowing.update(node.output)
            yield node


def _free_reshape(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    target: NDArray[np.int64],
    data_shape: list[int | None] | None,
    batch: int,
    size: bool,
    where: str,
) -> None:
    lib = require("onnx", "patching a model")
    if target.ndim != 1 or not len(target) or target[0] != batch:
        return
    name = f"{where}: Reshape {node.name or node.output[0]!r} to {tuple(target.tolist())}"
    rest = target[1:]
    from_batch = data_shape is None or (len(data_shape) > 0 and data_shape[0] == batch)
    literal_zero = any(a.name == "allowzero" and a.i for a in node.attribute)
    first: int
    if from_batch and not literal_zero:
        # 0 copies the dimension: a wrong picture size then fails instead of moving values between pictures.
        first = 0
    elif -1 not in rest:
        first = -1
    else:
        raise ModelError(f"{name}: cannot tell which dimension is the batch; export the model with a free batch")
    if size and (first == -1 or _ties_size(rest, data_shape)):
        raise ModelError(f"{name}: its height and width cannot be freed; use it at the size it was made for")
    freed = np.concatenate(([first], rest)).astype(np.int64)
    fresh = _fresh(graph, f"{node.output[0]}_shape")
    graph.initializer.append(lib.numpy_helper.from_array(freed, fresh))
    node.input[1] = fresh


def _ties_size(target: NDArray[np.int64], data_shape: list[int | None] | None) -> bool:
    """Whether a Reshape to (batch, *target) holds for one height and width of its data only."""
    known = data_shape is not None and None not in data_shape
    spatial = data_shape[2:] if data_shape is not None and known else None
    if spatial is not None and all(side == 1 for side in spatial):  # pooled values, or rank 2
        return False
    if spatial is not None and len(spatial) >= 2 and len(target) >= 3 and target[-2:].tolist() == spatial[-2:]:
        return True
    return -1 not in target


def _free_resize(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    sizes: NDArray[np.int64],
    data_shape: list[int | None] | None,
    where: str,
) -> None:
    """Replace fixed output sizes by the scale factors that they mean."""
    lib = require("onnx", "patching a model")
    name = f"{where}: Resize {node.name or node.output[0]!r} to {tuple(sizes.tolist())}"
    if data_shape is None or None in data_shape or len(data_shape) != len(sizes):
        raise ModelError(f"{name}: its scale is not known; export the model with scales")
    have = np.asarray(data_shape, np.int64)
    if (sizes % have).any():
        raise ModelError(f"{name}: {tuple(have.tolist())} is not scaled by whole numbers; export it with scales")
    fresh = _fresh(graph, f"{node.output[0]}_scales")
    graph.initializer.append(lib.numpy_helper.from_array((sizes // have).astype(np.float32), fresh))
    node.input[2] = fresh
    del node.input[3:]


def _fresh(graph: onnx.GraphProto, wish: str) -> str:
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Constants that nothing reads go."""
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    if any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        return  # subgraphs see the names of the outer graph
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _reshaped(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model with shapes of its values as they follow from its input, instead of those of the export."""
    lib = require("onnx", "patching a model")
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:  # the rank stays: the checker wants a shape
            dim.Clear()
    try:
        inferred: onnx.ModelProto = lib.shape_inference.infer_shapes(model, data_prop=True)
    except lib.shape_inference.InferenceError as error:
        raise ModelError(f"{where}: its shapes contradict each other once freed: {error}") from error
    for output in inferred.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if dim.dim_param not in ("N", "H", "W"):  # names that the inference made up
                dim.ClearField("dim_param")
    del inferred.graph.value_info[:]
    check_model(inferred, where)
    return inferred
