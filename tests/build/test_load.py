from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from trt_anon.build import load
from trt_anon.build.load import load_model, parse_model
from trt_anon.errors import ModelError, ModelMissing


def test_a_plain_network_is_read(networks: ModuleType, tmp_path: Path) -> None:
    path = networks.save(networks.grid_head(), tmp_path / "m.onnx")
    assert [node.op_type for node in load_model(path).graph.node] == ["Conv", "Transpose", "Reshape"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"absent\.onnx"):
        load_model(tmp_path / "absent.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("data", [b"", b"not a model at all", b"\x00" * 64, b"PK\x03\x04", b"\x08\x08"])
def test_not_onnx(data: bytes, tmp_path: Path, networks: ModuleType) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.onnx: is not an ONNX file"):
        load_model(path)


def test_truncated(networks: ModuleType) -> None:
    data = networks.grid_head().SerializeToString()
    for length in range(1, len(data), 37):
        with pytest.raises(ModelError):
            parse_model(data[:length], "cut")


def test_size_is_bounded(networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = networks.save(networks.grid_head(), tmp_path / "m.onnx")
    monkeypatch.setattr(load, "MAX_MODEL_BYTES", 100)
    with pytest.raises(ModelError, match="more than 100 bytes"):
        load_model(path)


def test_external_data_is_refused(networks: ModuleType) -> None:
    import onnx

    model = networks.grid_head()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    with pytest.raises(ModelError, match="another file"):
        parse_model(model.SerializeToString(), "m")


def test_external_data_in_a_subgraph_is_refused(networks: ModuleType) -> None:
    from onnx import TensorProto, helper

    branch = helper.make_graph(
        [helper.make_node("Identity", ["k"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])],
        [networks.constant("k", [1.0], np.float32)],
    )
    model = networks.network(
        [
            helper.make_node("ReduceMax", ["input"], ["m"], keepdims=0),
            helper.make_node("Cast", ["m"], ["flag"], to=TensorProto.BOOL),
            helper.make_node("If", ["flag"], ["out"], then_branch=branch, else_branch=branch),
        ],
        [],
        {"out": (1,)},
    )
    parse_model(model.SerializeToString(), "m")  # fine as it is
    inner = model.graph.node[2].attribute[0].g.initializer[0]
    inner.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="another file"):
        parse_model(model.SerializeToString(), "m")


def test_custom_operators_are_refused(networks: ModuleType) -> None:
    model = networks.scaled()
    model.graph.node[0].domain = "com.evil"
    model.opset_import.add(domain="com.evil", version=1)
    with pytest.raises(ModelError, match=r"custom domain 'com\.evil'"):
        parse_model(model.SerializeToString(), "m")


def test_unused_domains_do_no_harm(networks: ModuleType) -> None:
    model = networks.scaled()
    model.opset_import.add(domain="com.other", version=1)
    parse_model(model.SerializeToString(), "m")


def test_functions_are_refused(networks: ModuleType) -> None:
    from onnx import helper

    model = networks.scaled()
    function = helper.make_function(
        "com.microsoft",
        "F",
        ["x"],
        ["y"],
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_opsetid("", 13)],
    )
    model.functions.append(function)
    with pytest.raises(ModelError, match="functions"):
        parse_model(model.SerializeToString(), "m")


def test_broken_graphs_are_refused(networks: ModuleType) -> None:
    model = networks.scaled()
    model.graph.node[0].input[1] = "nowhere"
    with pytest.raises(ModelError, match="breaks the rules of ONNX"):
        parse_model(model.SerializeToString(), "m")
