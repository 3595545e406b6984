"""Every error that trt_anon raises on purpose, in one tree.

    TrtAnonError
    +-- UsageError            the caller asked for something that cannot be (exit code 2)
    |   +-- ConfigError       a configuration value or file is wrong
    +-- MissingError          something needed is not here (exit code 3)
    |   +-- PackageMissing    an optional package is not installed
    |   +-- ModelMissing      a model file is not here; the message names the way to get it
    |   +-- DeviceMissing     the device asked for is not on this machine
    +-- ModelError            a model is not what its recipe says, or cannot be run
    |   +-- HashMismatch      the file's SHA-256 is not the pinned one
    |   +-- EngineError       TensorRT cannot take, build or run a network; names node, operator, reason and a hint
    +-- MediaError            an input cannot be read, or an output cannot be written
    |   +-- InputError        the input is missing, empty, truncated, corrupt or of no known kind
    |   +-- OutputError       the output exists already, or cannot be written
    +-- VerificationFailed    a second look at an output found what can be read (exit code 4)
    +-- PipelineError         a stage failed while frames were under way; nothing was published
        +-- KernelError       a CUDA kernel does not compile, or was caught doing wrong
        +-- DeviceFailed      a GPU, or one of its engines for video, gave up; another one may do the work
        +-- OutOfDeviceMemory a GPU's memory, or the share of it that may be used, does not suffice

Native errors (FFmpeg, OpenVINO, ONNX Runtime, TensorRT) are wrapped once, at the stage that calls the library, with
``raise ... from error``. Messages name files and causes, never boxes or anything else about a detection.
"""

from __future__ import annotations


class TrtAnonError(Exception):
    """Base of all errors raised by trt_anon; `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(TrtAnonError):
    """The caller asked for something that cannot be done."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value, recipe or configuration file is wrong."""


class MissingError(TrtAnonError):
    """Something needed is not on this machine; the message says how to get it."""

    exit_code = 3


class PackageMissing(MissingError):
    """An optional package is not installed; the message names the extra that brings it."""


class ModelMissing(MissingError):
    """A model file is not on this machine; the message names the command that fetches it."""


class DeviceMissing(MissingError):
    """The device that was asked for explicitly is not on this machine."""


class ModelError(TrtAnonError):
    """A model is not what its recipe says, or its runtime failed on it."""


class HashMismatch(ModelError):
    """A file's SHA-256 differs from the pinned one; the file is refused."""


class EngineError(ModelError):
    """TensorRT cannot take, build, load or run a network.

    node, operator: the first of the network that is at fault, None where TensorRT does not say. operators: all those at
    fault, sorted. reason: TensorRT's own words. hint: what to do about it, None where nothing is known.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        operator: str | None = None,
        operators: tuple[str, ...] = (),
        reason: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.node = node
        self.operator = operator
        self.operators = operators or ((operator,) if operator else ())
        self.reason = reason
        self.hint = hint


class MediaError(TrtAnonError):
    """An image or video cannot be read or written."""


class InputError(MediaError):
    """An input is missing, empty, truncated, corrupt or of no known kind."""


class OutputError(MediaError):
    """An output exists already or cannot be written."""


class VerificationFailed(TrtAnonError):
    """A second look found objects that can be read in an output, or an output that is not its input any more."""

    exit_code = 4


class PipelineError(TrtAnonError):
    """A stage failed while frames were under way; nothing was published."""


class KernelError(PipelineError):
    """A CUDA kernel does not compile, cannot be launched, or was caught doing wrong."""


class DeviceFailed(PipelineError):
    """A GPU, or one of its engines for video, failed while it worked."""


class OutOfDeviceMemory(PipelineError):
    """A GPU's memory, or the share of it that may be used, does not suffice."""
