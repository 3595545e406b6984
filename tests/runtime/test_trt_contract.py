"""Every attribute, call and constant of TensorRT that the adapter uses exists in the bindings of 10, 11 and RTX.

The bindings of TensorRT import without its libraries (which are not on PyPI) once a few symbols are there that they
never call here: a stub library has them. TensorRT-RTX is installed whole.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs
import pytest

from trt_anon._optional import available

ADAPTER = Path(importlib.import_module("trt_anon.runtime.trt").__file__ or "").parent

# The oldest that is supported, the last 10, and 11.
WHEELS = {
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.16": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
RTX = "RTX"

# What only TensorRT-RTX has, or what TensorRT's oldest lacks: the adapter uses it for RTX alone.
ONLY_RTX = {
    ".ComputeCapability",
    "ComputeCapability.__members__",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.set_execution_context_allocation_strategy",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    ".DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "IExecutionContext.is_stream_capturable",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
}
# Deprecated there, and not called.
NOT_FOR_RTX = {
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.get_timing_cache",
    "IBuilderConfig.set_timing_cache",
    "ITimingCache.serialize",
}
_SYMBOLS = (
    "createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL "
    "createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion "
    "getPluginRegistry initLibNvInferPlugins"
)


def _wheel(requirement: str) -> Path:
    """The wheel, kept in the user's cache between runs; skips where pip cannot get it."""
    folder = platformdirs.user_cache_path("trt-anon-tests") / "wheels" / requirement / f"py3{sys.version_info.minor}"
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip cannot download {requirement}: {done.stderr.strip().splitlines()[-1:]}")
    return next(folder.glob("*.whl"))


def _surface(tmp: Path, version: str, script: str) -> dict[str, Any]:
    """The surface of TensorRT's bindings, imported in a process of their own over a stub of its libraries."""
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("there is no C compiler to make a stub of TensorRT's libraries with")
    with zipfile.ZipFile(_wheel(WHEELS[version])) as wheel:
        wheel.extractall(tmp)
    source = tmp / "stub.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in _SYMBOLS.split()))
    major = version.partition(".")[0]
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        soname = f"lib{name}.so.{major}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(tmp / soname)]
        subprocess.run([compiler, *flags, str(source)], check=True)
    written = tmp / "surface.json"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp), "PYTHONPATH": str(tmp)}
    subprocess.run([sys.executable, script, "tensorrt_bindings", str(written)], check=True, env=environment)
    surface: dict[str, Any] = json.loads(written.read_text())
    assert surface["version"].startswith(version)
    return surface


@pytest.fixture(scope="module", params=[*WHEELS, RTX])
def surface(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trt_surface: ModuleType
) -> dict[str, Any]:
    if request.param != RTX:
        found = _surface(tmp_path_factory.mktemp(request.param), request.param, trt_surface.__file__ or "")
    elif not available("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is not installed: pip install 'trt-anon[tensorrt-rtx]'")
    else:
        found = trt_surface.surface_of(importlib.import_module("tensorrt_rtx"))
    return {"name": request.param, **found}


@pytest.fixture(scope="module")
def used(trt_surface: ModuleType) -> tuple[list[Any], list[Any]]:
    return trt_surface.uses_of(sorted(ADAPTER.glob("*.py")))


def test_the_adapter_is_read(used: tuple[list[Any], list[Any]]) -> None:
    uses, overrides = used
    keys = {use.key for use in uses}
    # Of each way in which the adapter gets hold of an object: a call, an argument, an attribute of self, an enum.
    assert {
        "Builder.create_network",
        "ParserError.node_operator",
        "IExecutionContext.execute_async_v3",
        "MemoryPoolType.WORKSPACE",
        ".OnnxParser",
        "ICudaEngine.create_runtime_config",
        "ITensor.shape",
    } <= keys
    assert len(keys) > 70
    assert {(o.owner, o.name) for o in overrides} == {
        ("ILogger", "log"),
        ("IProgressMonitor", "phase_start"),
        ("IProgressMonitor", "step_complete"),
        ("IProgressMonitor", "phase_finish"),
    }
    assert keys >= ONLY_RTX


def test_everything_used_exists(surface: dict[str, Any], used: tuple[list[Any], list[Any]]) -> None:
    classes = surface["classes"]
    wrong = []
    for use in used[0]:
        if use.key in ONLY_RTX and surface["name"] != RTX:
            continue
        if use.owner == "":
            if use.name not in classes and use.name != "__version__":
                wrong.append(f"{use.where}: there is no {use.name}")
            continue
        if use.name == "__members__":
            continue
        member = classes.get(use.owner, {}).get(use.name)
        if member is None:
            wrong.append(f"{use.where}: there is no {use.key}")
        elif use.writes and not member.get("writable"):
            wrong.append(f"{use.where}: {use.key} cannot be set")
    assert not wrong


def test_nothing_used_is_deprecated(surface: dict[str, Any], used: tuple[list[Any], list[Any]]) -> None:
    old = {
        use.key
        for use in used[0]
        if use.owner and surface["classes"].get(use.owner, {}).get(use.name, {}).get("deprecated")
    }
    assert not old - (NOT_FOR_RTX if surface["name"] == RTX else set())


def test_every_call_has_the_right_arguments(surface: dict[str, Any], used: tuple[list[Any], list[Any]]) -> None:
    wrong, checked = [], 0
    for use in used[0]:
        if use.positional is None or (use.key in ONLY_RTX and surface["name"] != RTX):
            continue
        owner, name = (use.name, "__init__") if use.owner == "" else (use.owner, use.name)
        member = surface["classes"][owner][name]
        assert member["kind"] == "method", f"{use.where}: {use.key} is a {member['kind']}, and is called"
        overloads = member["overloads"]
        checked += bool(overloads)
        if not any(_takes(parameters, use) for parameters in overloads):
            wrong.append(f"{use.where}: {use.key} takes {overloads}, is given {use.positional} and {use.named}")
    assert not wrong
    assert checked > 30


def _takes(parameters: list[list[Any]], use: Any) -> bool:
    names = [name for name, _ in parameters]
    if use.starred:
        return use.positional <= len(names) and set(use.named) <= set(names)
    required = {name for name, needed in parameters if needed}
    given = set(names[: use.positional]) | set(use.named)
    return use.positional <= len(names) and set(use.named) <= set(names[use.positional :]) and required <= given


def test_every_object_of_the_library_is_annotated(surface: dict[str, Any], used: tuple[list[Any], list[Any]]) -> None:
    """So that what is done with it is checked, too."""
    wrong = []
    for use in used[0]:
        if use.assigned_as is None or (use.key in ONLY_RTX and surface["name"] != RTX):
            continue
        returns = [use.name] if use.owner == "" else surface["classes"][use.owner][use.name]["returns"]
        ours = [kind for kind in returns if kind in surface["classes"] and kind[:1] == "I"]
        wrong += [f"{use.where}: {use.key} gives a {kind}" for kind in ours if use.assigned_as != kind]
    assert not wrong


def test_overridden_methods_take_what_they_are_given(
    surface: dict[str, Any], used: tuple[list[Any], list[Any]]
) -> None:
    for override in used[1]:
        (parameters,) = surface["classes"][override.owner][override.name]["overloads"]
        assert override.parameters == tuple(name for name, _ in parameters), override


def test_the_stand_in_is_like_the_real_thing(surface: dict[str, Any], fake_tensorrt: ModuleType) -> None:
    if (fake_tensorrt.backend == "tensorrt-rtx") != (surface["name"] == RTX):
        return  # each is compared with its own
    for name, kind in vars(fake_tensorrt).items():
        if not isinstance(kind, type) or kind.__module__ != fake_tensorrt.__name__ or name == "Severity":
            continue
        if surface["name"] != RTX and (f".{name}" in ONLY_RTX or name in ("IRuntimeConfig", "IRuntimeCache")):
            continue
        real = surface["classes"][name]
        for attribute, value in vars(kind).items():
            if attribute.startswith("_") or (f"{name}.{attribute}" in ONLY_RTX and surface["name"] != RTX):
                continue
            assert attribute in real, f"{name}.{attribute}"
            code = getattr(value, "__code__", None)
            if code is not None and real[attribute]["kind"] == "method":
                own = list(code.co_varnames[1 : code.co_argcount])
                overloads = [[p for p, _ in overload] for overload in real[attribute]["overloads"]]
                assert any(own == overload[: len(own)] for overload in overloads), f"{name}.{attribute}: {overloads}"
