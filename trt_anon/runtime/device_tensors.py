"""Checking arrays that stay on a device, before a native library is given their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from trt_anon.errors import ModelError
from trt_anon.runtime.base import TensorSpec

Memory = Literal["host", "cuda"]


class Place(NamedTuple):
    """A tensor as a native library wants it: its name, the address of its first element, its shape."""

    name: str
    address: int
    shape: tuple[int, ...]


class PreparedShapes:
    """The shapes that a device runner was prepared for, and the check that arrays are of them.

    memory: where the arrays must lie: NumPy's in `host`, CuPy's (or others with `__cuda_array_interface__`) in `cuda`.
    alignment_bytes: what the addresses of their first elements must be multiples of.
    """

    def __init__(
        self,
        model: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        memory: Memory,
        *,
        alignment_bytes: int = 1,
    ) -> None:
        self._model = model
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._names = {spec.name for spec in self._inputs}, {spec.name for spec in self._outputs}
        self._memory: Memory = memory
        self._alignment_bytes = alignment_bytes
        self._known: dict[tuple[tuple[int, ...], ...], dict[str, tuple[int, ...]]] = {}

    def key(self, shapes: Mapping[str, Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        """The shapes in the order of the inputs. Raises ModelError where the model does not take them."""
        if set(shapes) != self._names[0]:
            raise ModelError(f"{self._model}: has the inputs {sorted(self._names[0])}, not {sorted(shapes)}")
        for spec in self._inputs:
            shape = tuple(shapes[spec.name])
            fits = len(shape) == len(spec.shape) and all(
                have > 0 and want in (None, have) for have, want in zip(shape, spec.shape, strict=True)
            )
            if not fits:
                wanted = ", ".join("any" if d is None else str(d) for d in spec.shape)
                raise ModelError(f"{self._model}: input {spec.name!r} takes ({wanted}), not {shape}")
        return tuple(tuple(int(side) for side in shapes[spec.name]) for spec in self._inputs)

    def outputs_of(self, key: tuple[tuple[int, ...], ...]) -> dict[str, tuple[int, ...]] | None:
        """The shapes of the outputs, by name, if these inputs were prepared."""
        known = self._known.get(key)
        return None if known is None else dict(known)

    def add(self, key: tuple[tuple[int, ...], ...], outputs: Mapping[str, tuple[int, ...]]) -> None:
        """Note what inputs of these shapes give."""
        self._known[key] = dict(outputs)

    def places(
        self, feeds: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
        """Names, addresses and shapes of all arrays, inputs and outputs in the order of the model.

        Raises ModelError for an array that is missing, unknown, elsewhere, not C-contiguous, not aligned, read-only
        though written, or of another type or of a shape that was not prepared.
        """
        if feeds.keys() != self._names[0] or outputs.keys() != self._names[1]:
            raise ModelError(
                f"{self._model}: has the inputs {sorted(self._names[0])} and the outputs {sorted(self._names[1])}, was "
                f"given {sorted(feeds)} and {sorted(outputs)}"
            )
        taken = tuple(self._place(feeds[spec.name], spec, "input") for spec in self._inputs)
        known = self._known.get(tuple(place.shape for place in taken))
        if known is None:
            raise ModelError(f"{self._model}: was not prepared for {self._described(taken)}")
        given = tuple(self._place(outputs[spec.name], spec, "output") for spec in self._outputs)
        for place in given:
            if place.shape != known[place.name]:
                raise ModelError(
                    f"{self._model}: output {place.name!r} has the shape {known[place.name]} for "
                    f"{self._described(taken)}, was given {place.shape}"
                )
        return taken, given

    def _place(self, array: Any, spec: TensorSpec, what: str) -> Place:
        where = f"{self._model}: {what} {spec.name!r}"
        address, shape, dtype, contiguous, writable = _facts(array, self._memory, where)
        if dtype != spec.dtype:
            raise ModelError(f"{where} is {spec.dtype}, was given {dtype}")
        if not contiguous:
            raise ModelError(f"{where} is not C-contiguous")
        if what == "output" and not writable:
            raise ModelError(f"{where} is read-only")
        if address % self._alignment_bytes:
            raise ModelError(
                f"{where} begins at an address that is no multiple of {self._alignment_bytes} bytes; arrays that were "
                f"allocated on their own do, parts of larger ones may not"
            )
        return Place(spec.name, address, shape)

    @staticmethod
    def _described(places: Sequence[Place]) -> str:
        return ", ".join(f"{place.name!r} {place.shape}" for place in places)


def _facts(array: Any, memory: Memory, what: str) -> tuple[int, tuple[int, ...], np.dtype[Any], bool, bool]:
    """Address, shape, dtype, whether it is C-contiguous, and whether it may be written."""
    if isinstance(array, np.ndarray):
        if memory != "host":
            raise ModelError(f"{what} lies in host memory; this runner works on arrays of the GPU")
        flags = array.flags
        return array.ctypes.data, array.shape, array.dtype, flags.c_contiguous, flags.writeable
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        raise ModelError(f"{what} is no array of NumPy, CuPy or the like, but {type(array).__name__}")
    if memory != "cuda":
        raise ModelError(f"{what} lies on the GPU; this runner works on NumPy arrays")
    address, read_only = interface["data"]
    shape, dtype, strides = tuple(interface["shape"]), np.dtype(interface["typestr"]), interface.get("strides")
    return int(address), shape, dtype, strides is None or _c_order(shape, strides, dtype.itemsize), not read_only


def _c_order(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    expected = itemsize
    for side, stride in zip(reversed(shape), reversed(strides), strict=True):
        if side != 1 and stride != expected:
            return False
        expected *= side
    return True
