"""Tidied networks compute what they did."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from trt_anon.build.load import load_model
from trt_anon.build.measure import open_model, probe_feeds
from trt_anon.build.patch import fold_input, make_dynamic
from trt_anon.build.tidy import OPSET, network_sha256, tidy
from trt_anon.errors import ModelError

PADS = [1, 1, 1, 1]


def outputs(model, folder, feeds=None):
    runner = open_model(model, folder, "m")
    try:
        return runner.run(feeds or probe_feeds(model)[0])
    finally:
        runner.close()


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.fixture
def check(tmp_path):
    """Tidies a network and holds its outputs against what they were."""

    def hold(model, *gone):
        tidied = tidy(model)
        assert not set(gone) & set(operators(tidied))
        assert tidied.opset_import[0].version == OPSET
        names = [node.name for node in tidied.graph.node]
        assert all(names)
        assert len(set(names)) == len(names)
        before, after = outputs(model, tmp_path), outputs(tidied, tmp_path)
        assert list(before) == list(after)
        for name, value in before.items():
            np.testing.assert_allclose(after[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
        return tidied

    return hold


def normalised(networks, conv: str = "Conv", group: int = 1, bias: bool = True, opset: int = 13):
    random = np.random.default_rng(3)
    given = 3 if conv == "Conv" else 4
    shape = (6, given // group, 3, 3) if conv == "Conv" else (given, 6 // group, 3, 3)
    constants = [
        networks.constant("w", random.normal(size=shape), np.float32),
        networks.constant("b", random.normal(size=6), np.float32),
        *(networks.constant(n, random.uniform(0.5, 2, 6), np.float32) for n in ("gamma", "beta", "mean", "variance")),
    ]
    nodes = []
    source = "input"
    if conv == "ConvTranspose":  # a fourth channel, so that it has groups
        constants.append(networks.constant("widen", random.normal(size=(4, 3, 1, 1)), np.float32))
        nodes.append(helper.make_node("Conv", ["input", "widen"], ["wide"]))
        source = "wide"
    nodes += [
        helper.make_node(conv, [source, "w", "b"] if bias else [source, "w"], ["c"], pads=PADS, group=group),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"], epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["out"]),
    ]
    return networks.network(nodes, constants, {"out": (1, 6, 32, 32)}, opset=opset)


@pytest.mark.parametrize(
    ("conv", "group", "bias"),
    [("Conv", 1, True), ("Conv", 1, False), ("Conv", 3, True), ("ConvTranspose", 1, True), ("ConvTranspose", 2, False)],
)
def test_a_batch_normalization_becomes_part_of_its_convolution(networks, check, conv, group, bias):
    tidied = check(normalised(networks, conv, group, bias), "BatchNormalization")
    assert "n" in {name for node in tidied.graph.node for name in node.output}


def test_one_of_a_value_that_others_read_stays(networks, check):
    model = normalised(networks)
    model.graph.node.append(helper.make_node("Sigmoid", ["c"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", 1, (1, 6, 32, 32)))
    assert "BatchNormalization" in operators(check(model))


def test_what_follows_from_constants_is_computed(networks, check):
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["three"], value=numpy_helper.from_array(np.float32([3]))),
        helper.make_node("Mul", ["two", "three"], ["six"]),
        helper.make_node("Mul", ["input", "six"], ["out"]),
    ]
    assert operators(check(networks.network(nodes, [], {"out": (1, 3, 32, 32)}), "Constant")) == ["Mul"]


def test_operators_that_do_nothing_go_and_outputs_keep_their_names(networks, check):
    nodes = [
        helper.make_node("Identity", ["input"], ["same"]),
        helper.make_node("Conv", ["same", "weights"], ["c"], pads=PADS),
        helper.make_node("Identity", ["c"], ["first"]),
        helper.make_node("Identity", ["first"], ["again"]),
        helper.make_node("Relu", ["again"], ["second"]),
        helper.make_node("Identity", ["input"], ["third"]),
    ]
    sizes = {"first": (1, 4, 32, 32), "second": (1, 4, 32, 32), "third": (1, 3, 32, 32)}
    assert operators(check(networks.network(nodes, [networks.convolution()], sizes))) == ["Conv", "Relu", "Identity"]


def test_names_are_given_where_there_are_none_or_two(networks, check):
    nodes = [
        helper.make_node("Relu", ["input"], ["a"], name="x"),
        helper.make_node("Relu", ["a"], ["b"], name="x"),
        helper.make_node("Relu", ["b"], ["out"]),
    ]
    tidied = check(networks.network(nodes, [], {"out": (1, 3, 32, 32)}))
    assert [node.name for node in tidied.graph.node] == ["x", "Relu:b", "Relu:out"]


def test_old_opsets_are_raised_and_metadata_stays(networks, check):
    model = normalised(networks, opset=9)
    model.metadata_props.add(key="license", value="MIT")
    assert check(model, "BatchNormalization").metadata_props[0].value == "MIT"


def test_branches_are_refused(networks):
    branch = helper.make_graph([helper.make_node("Identity", ["input"], ["x"])], "b", [], [
        helper.make_tensor_value_info("x", 1, None)
    ])  # fmt: skip
    condition = networks.constant("yes", True, np.bool_)
    node = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match="branches or loops"):
        tidy(networks.network([node], [condition], {"out": (1, 3, 32, 32)}))


def test_the_hash_is_that_of_the_network_whatever_its_input(networks):
    model = networks.grid_head()
    freed = make_dynamic(model, size=False)
    hashes = {network_sha256(tidy(one)) for one in (model, freed, fold_input(freed, (1, 2, 3), (1, 1, 1)))}
    assert len(hashes) == 1
    changed = networks.grid_head()
    changed.graph.initializer[0].CopyFrom(networks.convolution(seed=1))
    assert network_sha256(tidy(changed)) not in hashes


@pytest.mark.dataset
@pytest.mark.parametrize("model", ["ultralight_version-RFB-320", "yolov8-lite-t-face", "dk_yoloface-500k-v2"])
def test_real_detectors_compute_the_same(data_dir, check, model):
    check(load_model(data_dir / "models" / f"{model}.onnx"), "BatchNormalization", "Constant", "Identity")
