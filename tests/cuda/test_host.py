"""The host build: it must do what a GPU does, and catch what a GPU lets pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trt_anon.cuda import host
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.cuda.kernel import Kernel
from trt_anon.errors import KernelError, MissingError

PROBE = Path(__file__).with_name("probe.cu")
PLAIN = HostOptions()
CHECKED = HostOptions(check=True, threads=1)
SHUFFLED = HostOptions(seed=11, poison=255, check=True)
EVERY = [PLAIN, CHECKED, SHUFFLED, HostOptions(seed=2**63, threads=2)]


def probe(options, which, *, n=0, blocks=4, threads=64, source=None, floats=None, numbers=None, shared_bytes=64):
    floats = np.zeros(blocks * threads, np.float32) if floats is None else floats
    numbers = np.zeros(blocks * threads, np.int32) if numbers is None else numbers
    source = np.arange(blocks * threads, dtype=np.float32) if source is None else source
    kernel = Kernel(PROBE, "probe", host=options)
    kernel.launch((blocks,), (threads,), (np.int32(which), source, floats, numbers, np.int32(n)), None, shared_bytes)
    return floats, numbers


@pytest.mark.parametrize("options", EVERY)
def test_barrier_and_shared_memory(options):
    floats, _ = probe(options, 0, blocks=9, threads=256)
    assert np.array_equal(floats.reshape(9, 256), np.arange(9 * 256).reshape(9, 256)[:, ::-1])


@pytest.mark.parametrize("options", [HostOptions(poison=255), SHUFFLED, HostOptions(seed=5)])
def test_a_forgotten_barrier_shows(options):
    floats, _ = probe(options, 1)
    assert not np.array_equal(floats.reshape(4, 64), np.arange(256).reshape(4, 64)[:, ::-1])


@pytest.mark.parametrize("options", EVERY)
@pytest.mark.parametrize(
    ("which", "n", "message"),
    [
        (2, 60, "divergent barrier: 60 of 64 threads wait at line 17, 4 have returned"),
        (3, 7, "divergent barrier: thread"),
        (9, 5, "for lanes ffffffff of its warp, which do not come"),
        (10, 3, "lane 3 calls a warp operation with the mask fffffff7"),
        (15, 9, "lanes of a warp disagree"),
    ],
)
def test_divergence_is_an_error(options, which, n, message):
    with pytest.raises(KernelError, match=message) as caught:
        probe(options, which, n=n)
    assert "kernel probe" in str(caught.value)
    floats, _ = probe(options, 0)  # and the next launch is as good as ever
    assert floats[0] == 63


@pytest.mark.parametrize("options", [CHECKED, SHUFFLED])
@pytest.mark.parametrize(
    ("which", "n", "message"),
    [
        (4, 1, "touches memory outside of every buffer"),
        (5, 1, "touches memory outside of every buffer"),
        (5, -(2**14), "touches memory outside of every buffer"),
        (4, -1, "writes in front of an array"),
        (7, 256, "leaves undefined"),
        (13, 0, "undefined|divides"),
        (17, 32, "leaves undefined"),
    ],
)
def test_stray_access_is_an_error_that_names_the_thread(options, which, n, message):
    with pytest.raises(KernelError, match=message) as caught:
        probe(options, which, n=n)
    assert "front" in message or "thread (" in str(caught.value)
    assert probe(options, 0)[0][0] == 63


def test_overrun_of_dynamic_shared_memory_is_an_error():
    probe(SHUFFLED, 6, shared_bytes=64)
    with pytest.raises(KernelError, match="writes byte 64 of dynamic shared memory, which has 64"):
        probe(SHUFFLED, 6, n=1, shared_bytes=64)


@pytest.mark.parametrize("options", EVERY)
def test_warp_operations(options):
    _, numbers = probe(options, 8, numbers=np.zeros(6 * 256, np.int32))
    ballot, exchanged, up, down, largest, total = numbers.reshape(256, 6).T
    i = np.arange(256)
    lane = i % 32
    assert (ballot.view(np.uint32) == sum(1 << k for k in range(0, 32, 3))).all()
    assert np.array_equal(exchanged, i ^ 5)
    assert np.array_equal(up, np.where(lane % 16 >= 3, i - 3, i))
    assert np.array_equal(down, np.where(lane <= 28, i + 3, i))
    assert np.array_equal(largest, -(i - lane))
    assert np.array_equal(total, i.reshape(-1, 32).sum(1).repeat(32))


@pytest.mark.parametrize("options", EVERY)
def test_groups_of_lanes_at_their_own_pace(options):
    _, numbers = probe(options, 18)
    sums = np.arange(256)
    for rounds in range(3):
        added = sums + sums[np.arange(256) ^ 1]
        sums = np.where((np.arange(256) % 32 < 16) | (rounds == 0), added, sums)
    assert np.array_equal(numbers, sums.reshape(-1, 32).sum(1).repeat(32))


@pytest.mark.parametrize("options", EVERY)
def test_atomics_across_blocks(options):
    floats, numbers = probe(options, 11, blocks=300)
    count = 300 * 64
    assert list(numbers[:5]) == [count * (count - 1) // 2, count - 1, -(count - 1), 7, -1]
    assert floats[0] == count


@pytest.mark.parametrize("options", EVERY)
def test_barriers_that_count(options):
    _, numbers = probe(options, 16, n=63, numbers=np.zeros(3 * 256, np.int32))
    assert (numbers.reshape(-1, 3) == [22, 1, 0]).all()
    _, numbers = probe(options, 16, n=0, numbers=np.zeros(3 * 256, np.int32))
    assert (numbers.reshape(-1, 3) == [22, 1, 1]).all()


def test_order_is_natural_or_drawn_from_the_seed():
    def order(seed):
        return probe(HostOptions(seed=seed, threads=1), 12, n=256, numbers=np.zeros(257, np.int32))[1][:256]

    assert np.array_equal(order(0), np.arange(256))
    assert np.array_equal(order(4), order(4))
    assert not np.array_equal(order(4), order(5))
    starts = {tuple(order(seed).reshape(4, 64).min(1)) for seed in range(1, 20)}
    assert len(starts) > 4  # blocks, too
    assert sorted(order(4)) == list(range(256))


def test_half_is_rounded_as_numpy_rounds_it():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
    values[:4096] = rng.uniform(-1e-7, 1e-7, 4096)
    values[4096:8192] = rng.uniform(65000, 66000, 4096)
    ties = (every[8192:20000].astype(np.float64) + every[8193:20001].astype(np.float64)) / 2
    values[8192:20000] = ties
    floats, numbers = probe(PLAIN, 14, blocks=256, threads=256, source=values)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = values.astype(np.float16)
    assert np.array_equal(floats, every.astype(np.float32), equal_nan=True)
    number = ~np.isnan(wanted)
    assert np.array_equal(numbers.astype(np.uint16)[number], wanted.view(np.uint16)[number])
    assert np.isnan(numbers.astype(np.uint16).view(np.float16)[~number]).all()


def test_conversions_saturate():
    values = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 2.5, -2.5, 5e9], np.float32)
    _, numbers = probe(CHECKED, 19, blocks=1, threads=8, source=values, numbers=np.zeros(16, np.int32))
    signed, unsigned = numbers.reshape(8, 2).T
    top, bottom = 2**31 - 1, -(2**31)
    assert list(signed) == [0, top, bottom, top, bottom, 2, -2, top]
    assert list(unsigned.view(np.uint32)) == [0, 2**32 - 1, 0, 3_000_000_000, 0, 2, 0, 2**32 - 1]


def test_three_dimensions():
    out = np.zeros(64, np.float32)
    args = (np.int32(99), out, out.copy(), np.zeros(1, np.int32), np.int32(0))
    Kernel(PROBE, "probe", host=CHECKED).launch((1, 1, 5), (8, 1, 1), args)
    assert list(args[2][:8]) == [5 + i for i in range(8)]


def test_guarded_keeps_values_and_shape():
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    copy = guarded(array)
    assert copy.dtype == array.dtype
    assert np.array_equal(copy, array)
    assert (copy.ctypes.data + copy.nbytes) % os.sysconf("SC_PAGESIZE") == 0
    assert guarded(np.zeros((0, 4), np.float32)).shape == (0, 4)


# ---- Options, compiler, cache ----------------------------------------------------------------------------------------


def test_options_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("TRT_ANON_HOST_CUDA", raising=False)
    assert HostOptions.from_environment() == HostOptions()
    monkeypatch.setenv("TRT_ANON_HOST_CUDA", "seed=3, poison=255,check,threads=1")
    assert HostOptions.from_environment() == HostOptions(3, 255, True, 1)
    for wrong in ("sed=3", "seed", "poison=x", "poison=256", "seed=-1"):
        monkeypatch.setenv("TRT_ANON_HOST_CUDA", wrong)
        with pytest.raises(ValueError, match=r"TRT_ANON_HOST_CUDA|byte"):
            HostOptions.from_environment()


def test_no_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingError, match=r"probe\.cu.*'no-such-compiler' is not here: install g\+\+"):
        probe(PLAIN, 0)


def test_compiled_once_and_again_when_anything_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("TRT_ANON_CACHE", str(tmp_path))
    source = tmp_path / "tiny.cu"
    source.write_text('extern "C" __global__ void tiny(int* out) { out[threadIdx.x] = VALUE; }\n')
    out = np.zeros(4, np.int32)

    def run(value):
        Kernel(source, "tiny", {"VALUE": value}, host=PLAIN).launch((1,), (4,), (out,))
        return sorted((tmp_path / "kernels").glob("*.so"))

    first = run(3)
    stamp = first[0].stat().st_mtime_ns
    assert (out == 3).all()
    assert run(3) == first
    assert first[0].stat().st_mtime_ns == stamp
    assert len(run(4)) == 2
    assert (out == 4).all()
    assert [path.name for path in (tmp_path / "kernels").iterdir() if path.suffix != ".so"] == []
    source.write_text('extern "C" __global__ void tiny(int* out) { int unused; out[threadIdx.x] = VALUE; }\n')
    with pytest.raises(KernelError, match=r"tiny\.cu does not compile for the CPU:\n(.|\n)*unused"):
        run(3)


def test_a_cache_that_others_can_write_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TRT_ANON_CACHE", str(tmp_path))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(0o777)
    with pytest.raises(KernelError, match="can be written by others"):
        host.cache_directory()


def test_portable_fibres_do_the_same(monkeypatch, tmp_path):
    """Other processors switch with ucontext; here it is compiled in by a define, and has to agree."""
    source = tmp_path / "fibres.cu"
    source.write_text(
        'extern "C" __global__ void fibres(int* out) {\n'
        "    __shared__ int s[64];\n"
        "    s[threadIdx.x] = threadIdx.x;\n"
        "    __syncthreads();\n"
        "    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, s[63 - threadIdx.x], 1);\n}\n"
    )
    results = []
    for defines in ({}, {"HOST_CUDA_UCONTEXT": 1}):
        out = np.zeros(64, np.int32)
        Kernel(source, "fibres", defines, host=SHUFFLED).launch((1,), (64,), (out,))
        results.append(out)
    assert np.array_equal(results[0], (63 - np.arange(64)) ^ 1)
    assert np.array_equal(*results)


def test_faults_outside_of_a_kernel_are_not_swallowed():
    script = (
        "import ctypes, numpy as np\n"
        "from pathlib import Path\n"
        "from trt_anon.cuda.host import HostOptions\n"
        "from trt_anon.cuda.kernel import Kernel\n"
        f"k = Kernel(Path({str(PROBE)!r}), 'probe', host=HostOptions(check=True, threads=1))\n"
        "a = np.zeros(32, np.float32)\n"
        "k.launch((1,), (32,), (np.int32(4), a, a.copy(), np.zeros(32, np.int32), np.int32(0)))\n"
        "ctypes.string_at(16)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -11, done.stderr


SANITIZED = """
import numpy as np
from pathlib import Path
from trt_anon.cuda.kernel import Kernel
here, there, numbers = np.zeros(256, np.float32), np.zeros(2048, np.float32), np.zeros(8, np.int32)
Kernel(Path({probe!r}), "probe").launch((4,), (64,), (np.int32(4), here, there, numbers, np.int32({n})))
print("fine")
"""


def test_the_address_sanitizer_sees_one_element_too_far(sanitized):
    good = sanitized(SANITIZED.format(probe=str(PROBE), n=2048 - 256))
    assert (good.returncode, good.stdout) == (0, "fine\n"), good.stderr[-2000:]
    bad = sanitized(SANITIZED.format(probe=str(PROBE), n=2048 - 255))
    assert bad.returncode != 0
    assert "heap-buffer-overflow" in bad.stderr
    assert "probe.cu" in bad.stderr


def test_without_its_runtime_the_address_sanitizer_is_refused():
    if "LD_PRELOAD" in os.environ:
        pytest.skip("something is preloaded")
    with pytest.raises(MissingError, match="LD_PRELOAD"):
        probe(HostOptions(address=True), 0)
