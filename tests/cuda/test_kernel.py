"""The loader: what it refuses, what it counts, and what it asks of CuPy."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from trt_anon.cuda.device import Accounting, address_of, side_of
from trt_anon.cuda.kernel import Kernel, fat_binary
from trt_anon.errors import KernelError

PROBE = Path(__file__).with_name("probe.cu")
FLOATS, NUMBERS = np.zeros(32, np.float32), np.zeros(32, np.int32)
GOOD = (np.int32(0), FLOATS, FLOATS.copy(), NUMBERS, np.int32(0))


def swapped(place, arg):
    return tuple(arg if i == place else old for i, old in enumerate(GOOD))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (GOOD[:-1], "takes 5 arguments, got 4"),
        (swapped(0, 0), "argument 0: give a NumPy scalar of the declared width, not <class 'int'>"),
        (swapped(0, np.int64(0)), r"argument 0: the kernel declares i4, got int64 \(i8\)"),
        (swapped(0, NUMBERS), "argument 0: the kernel declares i4, got an array"),
        (swapped(1, FLOATS.astype(np.float64)), r"argument 1: the kernel declares const\*f4, got float64"),
        (swapped(2, NUMBERS), r"argument 2: the kernel declares \*f4, got int32"),
        (swapped(1, np.float32(0)), r"argument 1: the kernel declares const\*f4, got a value"),
        (
            swapped(2, np.broadcast_to(np.float32(0), (1,))),
            "argument 2: the kernel may write it, but the array is read-only",
        ),
        (swapped(1, np.zeros(1, [("x", np.float32)])), "argument 1: the kernel declares .* got a value"),
        (swapped(1, np.zeros(2, [("x", np.float32)])), r"a structure is a NumPy array of shape \(1,\)"),
        (swapped(1, object()), "argument 1"),
    ],
)
def test_wrong_arguments(args, message):
    with pytest.raises(TypeError, match=message):
        Kernel(PROBE, "probe").launch((1,), (32,), args)


def test_read_only_input_is_fine():
    fixed = FLOATS.copy()
    fixed.flags.writeable = False
    Kernel(PROBE, "probe").launch((1,), (32,), swapped(1, fixed))


def test_layout():
    with pytest.raises(ValueError, match="argument 1: the array must be C-contiguous"):
        Kernel(PROBE, "probe").launch((1,), (16,), swapped(1, FLOATS[::2]))
    crooked = np.zeros(129, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="argument 1: the array is not aligned"):
        Kernel(PROBE, "probe").launch((1,), (32,), swapped(1, crooked))


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [
        ((1,), (0,), 0),
        ((1,), (1025,), 0),
        ((1,), (64, 32), 0),
        ((1, 65536), (1,), 0),
        ((1, 1, 1, 1), (1,), 0),
        ((), (1,), 0),
        ((1,), (1,), 1 << 20),
        ((-1,), (1,), 0),
    ],
)
def test_wrong_sizes(grid, block, shared):
    with pytest.raises(ValueError, match=r"must be|at most"):
        Kernel(PROBE, "probe").launch(grid, block, GOOD, None, shared)


def test_stream_with_numpy_is_refused():
    with pytest.raises(TypeError, match="NumPy arrays have no stream"):
        Kernel(PROBE, "probe").launch((1,), (32,), GOOD, object())


def test_an_unknown_kernel_does_not_compile():
    with pytest.raises(KernelError, match="no_such_kernel"):
        Kernel(PROBE, "no_such_kernel").launch((1,), (32,), GOOD)


def test_accounting():
    accounting = Accounting()
    kernel = Kernel(PROBE, "probe", accounting=accounting)
    kernel.launch((1,), (32,), GOOD, bytes_moved=100)
    kernel.launch((1,), (32,), GOOD, bytes_moved=11)
    kernel.launch((0,), (32,), GOOD, bytes_moved=11)  # nothing to do, nothing launched
    assert accounting.by_kernel["probe"].launches == 2
    assert accounting.total.bytes_moved == 111


# ---- CuPy, as far as it can be shown without a GPU: what the loader hands to it --------------------------------------


class FakeArray:
    """What the loader looks at in a cupy.ndarray."""

    __module__ = "cupy"
    __cuda_array_interface__: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, dtype, device=0, contiguous=True):
        self.dtype = np.dtype(dtype)
        self.flags = types.SimpleNamespace(c_contiguous=contiguous)
        self.device = types.SimpleNamespace(id=device)
        self.data = types.SimpleNamespace(ptr=4096)


@pytest.fixture
def fake_cupy(monkeypatch):
    calls = []

    class Function:
        max_dynamic_shared_size_bytes = 49152

        def __call__(self, grid, block, args, *, shared_mem):
            calls.append(("launch", grid, block, args, shared_mem, self.max_dynamic_shared_size_bytes))

    class RawModule:
        def __init__(self, **keywords):
            calls.append(("load", keywords))

        def get_function(self, name):
            calls.append(("get", name))
            return Function()

    @contextmanager
    def stream():
        calls.append(("enter",))
        yield
        calls.append(("leave",))

    module = types.ModuleType("cupy")
    module.RawModule = RawModule
    module.cuda = types.SimpleNamespace(
        Device=lambda: types.SimpleNamespace(id=0),
        get_current_stream=stream,
        compiler=types.SimpleNamespace(CompileException=KeyError),
        driver=types.SimpleNamespace(CUDADriverError=IndexError),
    )
    module.calls = calls
    module.stream = stream
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def gpu_args(**changes):
    array = FakeArray(np.float32, **changes)
    return (np.int32(0), array, array, FakeArray(np.int32), np.int32(0))


def test_cupy_is_given_the_source_and_the_defines_apart(fake_cupy):
    kernel = Kernel(PROBE, "probe", {"B": 2, "A": 1})
    args = gpu_args()
    kernel.launch((3,), (32,), args, fake_cupy.stream(), 100_000)
    kernel.launch((3, 2), (32,), args)
    loads = [call for call in fake_cupy.calls if call[0] == "load"]
    assert loads == [
        (
            "load",
            {
                "code": PROBE.read_text(),
                "options": ("-std=c++17", "-fmad=false", "-DA=1", "-DB=2"),
                "backend": "nvrtc",
            },
        )
    ]
    launches = [call for call in fake_cupy.calls if call[0] == "launch"]
    assert launches == [
        ("launch", (3, 1, 1), (32, 1, 1), args, 100_000, 100_000),
        ("launch", (3, 2, 1), (32, 1, 1), args, 0, 100_000),
    ]
    assert fake_cupy.calls.count(("enter",)) == fake_cupy.calls.count(("leave",)) == 2


def test_a_carried_fat_binary_of_the_same_source_is_used(fake_cupy, monkeypatch, tmp_path):
    source = tmp_path / "tiny.cu"
    source.write_text('extern "C" __global__ void tiny() {}\n')
    carried = tmp_path / "tiny.fatbin"
    carried.write_bytes(b"")
    monkeypatch.setattr("trt_anon.cuda.kernel.fat_binary", lambda _: carried)
    Kernel(source, "tiny").launch((1,), (1,), (FakeArray(np.float32),))
    Kernel(source, "tiny", {"A": 1}).launch((1,), (1,), (FakeArray(np.float32),))
    loads = [call[1] for call in fake_cupy.calls if call[0] == "load"]
    assert loads[0] == {"path": str(carried)}
    assert "code" in loads[1]


def test_the_name_of_a_fat_binary_changes_with_the_source(tmp_path):
    source = tmp_path / "tiny.cu"
    source.write_text("a")
    first = fat_binary(source)
    source.write_text("b")
    assert first != fat_binary(source)
    assert first.suffix == ".fatbin"


def test_cupy_refusals(fake_cupy):
    with pytest.raises(TypeError, match="all of NumPy or all of CuPy; got cupy and numpy"):
        Kernel(PROBE, "probe").launch((1,), (32,), (np.int32(0), FakeArray(np.float32), *GOOD[2:]))
    with pytest.raises(TypeError, match="got cupy and numpy"):
        Kernel(PROBE, "probe").launch((1,), (32,), gpu_args(), reaches=[FLOATS])
    with pytest.raises(ValueError, match="arrays of device"):
        Kernel(PROBE, "probe").launch((1,), (32,), gpu_args(device=1))
    with pytest.raises(ValueError, match="C-contiguous"):
        Kernel(PROBE, "probe").launch((1,), (32,), gpu_args(contiguous=False))


def test_errors_of_cupy_are_wrapped_once(fake_cupy, monkeypatch):
    def refuse(**_):
        raise KeyError("error: expected a ;")

    monkeypatch.setattr(fake_cupy, "RawModule", refuse)
    with pytest.raises(KernelError, match=r"kernel probe of probe\.cu: .*expected a ;"):
        Kernel(PROBE, "probe").launch((1,), (32,), gpu_args())


def test_sides():
    assert side_of([FLOATS]) == "numpy"
    assert side_of([FakeArray(np.float32)]) == "cupy"
    assert address_of(FakeArray(np.float32)) == 4096
    assert address_of(FLOATS) == FLOATS.ctypes.data
    with pytest.raises(TypeError, match="got none"):
        side_of([])
    with pytest.raises(TypeError, match="not on list"):
        side_of([[1]])
