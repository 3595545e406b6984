"""Arrays of a caller on a device, taken through DLPack or CUDA's array interface: in place, without a copy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer, make_config
from trt_anon.cuda import foreign
from trt_anon.cuda.foreign import as_device_array, callers_context, is_foreign
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import UsageError
from trt_anon.job.device_detection import DeviceDetection
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, choose_recipes, with_growth
from trt_anon.pipeline.device_engine import DeviceEngine

pytest.importorskip("onnxruntime")


class Tensor:
    """An array of another library: nothing but DLPack."""

    def __init__(self, array: np.ndarray, device: int = 1) -> None:
        self.array, self._device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


class TensorList:
    """DALI's list of tensors: it gives one."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def as_tensor(self) -> Tensor:
        return Tensor(self.array)


@pytest.fixture(scope="module")
def anonymizer() -> Any:
    config = make_config(device="cpu", runtime="onnxruntime", precision="f32", threads=2, threshold=0.3, batch=2)
    registry = Registry()
    recipes = choose_recipes(config, registry)
    config = with_growth(config, recipes)
    engine = DeviceEngine(config, recipes, registry, HostMemory())
    with Anonymizer(config) as made:
        made._detector.close()
        made._detector = DeviceDetection([engine], lambda: FrameDetector.load(config, registry, recipes))
        yield made


@pytest.fixture
def pictures(faces: Any) -> np.ndarray:
    one = faces.picture()
    return np.stack([one, np.zeros_like(one), np.ascontiguousarray(one[:, ::-1])])


def test_detections_are_those_in_host_memory(anonymizer, pictures):
    before = pictures.copy()
    found = anonymizer.detect(Tensor(pictures))
    wanted = anonymizer.detect(pictures)
    assert [len(one) for one in found] == [len(one) for one in wanted] == [1, 0, 1]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.boxes_xyxy_px, other.boxes_xyxy_px, atol=1.0)
        np.testing.assert_allclose(one.landmarks_px, other.landmarks_px, atol=1.0)
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize("wrap", [Tensor, TensorList])
def test_redaction_is_in_place(anonymizer, pictures, wrap):
    detections = anonymizer.detect(pictures)
    wanted = anonymizer.redact(pictures, detections)
    mine = wrap(pictures)
    address = pictures.ctypes.data
    assert anonymizer.redact(mine, detections, out=mine) is mine
    assert mine.array.ctypes.data == address
    assert np.abs(pictures.astype(int) - wanted).max() <= 1
    memory = anonymizer._detector.engines[0].memory
    assert not {"decoded frames", "redacted frames"} & {
        *memory.traffic.totals.to_device,
        *memory.traffic.totals.to_host,
    }
    assert memory.traffic.totals.within == 0


def test_parts_of_larger_arrays(anonymizer, pictures):
    detections = anonymizer.detect(pictures)
    wanted = anonymizer.redact(pictures, detections)
    around = np.full((3, 300, 500, 3), 7, np.uint8)
    around[:, 10:266, 20:404] = pictures
    part = Tensor(around[:, 10:266, 20:404])
    anonymizer.redact(part, detections, out=part)
    assert np.abs(around[:, 10:266, 20:404].astype(int) - wanted).max() <= 1
    assert (around[:, :10] == 7).all()
    assert (around[:, :, 404:] == 7).all()


def test_threads(anonymizer, pictures):
    wanted = anonymizer.detect(Tensor(pictures))

    def work(number: int) -> None:
        own = Tensor(pictures[[number % 3]])
        (found,) = anonymizer.detect(own)
        np.testing.assert_array_equal(found.boxes_xyxy_px, wanted[number % 3].boxes_xyxy_px)
        anonymizer.redact(own, [found], out=own)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(6)))


def test_what_is_refused(anonymizer, pictures):
    with pytest.raises(UsageError, match="in place"):
        anonymizer.redact(Tensor(pictures), anonymizer.detect(pictures))
    with pytest.raises(UsageError, match="lies on a GPU; this Anonymizer has none"):
        anonymizer.detect(Tensor(pictures, device=2))
    for wrong, message in (
        (pictures[0], r"\(N, H, W, 3\)"),
        (pictures.astype(np.float32), "uint8"),
        (pictures[:, :, ::2], "contiguous"),
        (pictures[:, :0], "empty"),
    ):
        with pytest.raises(UsageError, match=message):
            anonymizer.detect(Tensor(wrong))
    mine, too_few = Tensor(pictures), anonymizer.detect(pictures[:1])
    with pytest.raises(UsageError, match="detections for 1"):
        anonymizer.redact(mine, too_few, out=mine)
    read_only = pictures.copy()
    read_only.flags.writeable = False
    with pytest.raises((UsageError, BufferError), match="read"):
        anonymizer.detect(Tensor(read_only))
    assert anonymizer.detect(Tensor(pictures[:0])) == []


def test_on_a_cpu_arrays_of_others_are_refused(pictures):
    with (
        Anonymizer(device="cpu", runtime="onnxruntime") as plain,
        pytest.raises(UsageError, match="device cuda"),
    ):
        plain.detect(Tensor(pictures))


def test_what_is_foreign(pictures):
    assert not is_foreign(pictures)
    assert not is_foreign([pictures[0]])
    assert is_foreign(Tensor(pictures))
    assert is_foreign(TensorList(pictures))


class Driver:
    """The driver's current context of a thread."""

    def __init__(self, current: int) -> None:
        self.current = current

    def cuCtxGetCurrent(self, place: Any) -> int:  # noqa: N802 - the driver's names
        place._obj.value = self.current
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:  # noqa: N802
        self.current = context.value
        return 0


def test_the_callers_context_is_there_again():
    driver = Driver(0x1234)  # PyCUDA's, say

    def fails() -> None:
        with callers_context(HostMemory(), driver):
            driver.current = 0x9999  # the primary one, which CuPy works in
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert driver.current == 0x1234
    driver = Driver(0)
    with callers_context(HostMemory(), driver):
        driver.current = 0x9999
    assert driver.current == 0x9999


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_arrays_of_a_gpu_are_taken_as_they_are(cupy, library):
    module = pytest.importorskip(library)
    from trt_anon.cuda.cuda_memory import CudaMemory

    memory = CudaMemory()
    values = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    if library == "cupy":
        array = module.asarray(values)
        address = array.data.ptr
    else:
        array = module.from_numpy(values).cuda()
        address = array.data_ptr()
    taken = as_device_array(array, memory, cupy.cuda.Stream.null)
    assert taken.data.ptr == address
    taken += 1
    host = array.get() if library == "cupy" else array.cpu().numpy()
    np.testing.assert_array_equal(host, values + 1)
    if library == "torch":
        with pytest.raises(UsageError, match="does not lie on a GPU"):
            foreign.as_device_array(module.from_numpy(values), memory, cupy.cuda.Stream.null)
