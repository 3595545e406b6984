"""One recipe on a device: its network on the caller's arrays, and how its outputs are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import AnonymizeConfig, Scale
from trt_anon.detect.base import Family
from trt_anon.detect.families import get_family
from trt_anon.errors import ModelError
from trt_anon.models.networks import recipe_network
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import Detector
from trt_anon.runtime.base import DeviceRunner, Tensor
from trt_anon.runtime.runner_memory import RunnerMemory
from trt_anon.runtime.select import device_precision, open_device_runner


class DeviceDetector(Detector):
    """A detector whose pictures and outputs lie on a device; serves one stream at a time, `another` one beside it."""

    def __init__(
        self,
        family: Family,
        runner: DeviceRunner,
        scales: Sequence[Scale],
        class_map: Sequence[int | None],
        threshold: float,
        *,
        flip: bool = False,
        weak_threshold: float | None = None,
    ) -> None:
        """As `Detector`, on another kind of runner. Raises ModelError for a network that takes no uint8 pictures."""
        super().__init__(
            family, _Described(runner), scales, class_map, threshold, flip=flip, weak_threshold=weak_threshold
        )
        (source, *more) = runner.inputs
        if more or source.dtype != np.uint8 or len(source.shape) != 4 or source.shape[3] != 3:
            raise ModelError(f"{family.name}: expected a network of one input, uint8 (N, H, W, 3), got {runner.inputs}")
        self.device_runner = runner
        self._given_map = tuple(class_map)

    @property
    def family(self) -> Family:
        """How its outputs are decoded."""
        return self._family

    @property
    def weak_threshold(self) -> float:
        """The least score of a candidate that may continue a track."""
        return self._weak_threshold

    @property
    def class_map(self) -> NDArray[np.int32]:
        """For each class of the model its number in detections, negative to leave it out."""
        return self._class_map

    @property
    def input_name(self) -> str:
        """Of the network's input."""
        return self._input_name

    def pictures_at_once(self, batch: int) -> int:
        """How many pictures one inference takes: a batch, or what the graph fixes."""
        fixed = self.device_runner.inputs[0].shape[0]
        return batch if fixed is None else fixed

    def another(self) -> DeviceDetector:
        """The same detector for another stream."""
        return DeviceDetector(
            self._family,
            self.device_runner.another(),
            self._scales,
            self._given_map,
            self._threshold,
            flip=self._flip,
            weak_threshold=self._weak_threshold,
        )

    def close(self) -> None:
        """Free the model."""
        self.device_runner.close()


class Ready:
    """Outputs that are there already, for `Detector.collect`."""

    def __init__(self, outputs: Mapping[str, Tensor]) -> None:
        self._outputs = dict(outputs)

    def result(self) -> dict[str, Tensor]:
        """The outputs."""
        return self._outputs


class _Described:
    """What `Detector` wants to know of a runner, which here runs elsewhere."""

    concurrency = 1

    def __init__(self, runner: DeviceRunner) -> None:
        self.inputs, self.outputs = runner.inputs, runner.outputs

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Nothing is run here."""

    def submit(self, feeds: Mapping[str, Tensor]) -> Any:
        raise ModelError("this network takes pictures that lie on a device")

    run = submit

    def close(self) -> None:
        """Nothing is held here."""


def load_device_detectors(
    recipes: Sequence[Recipe], config: AnonymizeConfig, registry: Registry, memory: RunnerMemory | None
) -> list[DeviceDetector]:
    """The recipes' networks in the precision asked for, opened on a device (None: on the host in its place).

    Raises what `open_device_runner` and `recipe_network` do.
    """
    detectors: list[DeviceDetector] = []
    try:
        for recipe in recipes:
            network = recipe_network(registry, recipe, device_precision(config.runtime))
            overrides = recipe.input.given() if recipe.input else None
            family = get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes))
            runner = open_device_runner(network, config.runtime, memory=memory)
            wanted = config.detect.classes
            class_map = [wanted.index(name) if name in wanted else None for name in recipe.classes]
            threshold = config.detect.threshold or recipe.threshold
            weak = config.track.weak_threshold
            detectors.append(
                DeviceDetector(
                    family, runner, recipe.scales, class_map, threshold, flip=recipe.flip, weak_threshold=weak
                )
            )
    except BaseException:
        for detector in detectors:
            detector.close()
        raise
    return detectors
