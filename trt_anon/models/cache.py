"""Patched models, kept in the user's cache and checked each time they are taken from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trt_anon._optional import require
from trt_anon.build.check import check_batch_independence, check_same_outputs
from trt_anon.build.load import parse_model
from trt_anon.build.patch import PATCH_VERSION, fold_input, make_dynamic, one_picture, pin_input
from trt_anon.build.picture_input import PictureInput, picture_input
from trt_anon.build.quantized import is_quantized, spell_out
from trt_anon.config import RuntimeConfig
from trt_anon.errors import ModelError, UsageError
from trt_anon.files import hash_of, private_folder, write_atomically
from trt_anon.runtime.base import Runner
from trt_anon.runtime.select import open_runner
from trt_anon.types import InputSpec

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger("trt_anon")


class ModelCache:
    """Models ready to run, in a folder of the user's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, data: bytes, spec: InputSpec, name: str, batch: Literal["free", "one"] = "free") -> Path:
        """The path of the patched and folded form of an ONNX file; built, and verified by running it, if not there yet.

        data: the original, its hash checked already. batch: `one` leaves the graph as it is, for one picture at a time
        of the size that it was made for. Raises ModelError where it cannot be patched, or where the result does not
        compute what the original does or mixes the pictures of a batch.
        """
        key = {
            "source_sha256": hashlib.sha256(data).hexdigest(),
            "patch": PATCH_VERSION,
            "onnx": require("onnx", "preparing a model").__version__,
            "mean": spec.mean,
            "scale": spec.scale,
            "size_px": spec.size_px,
            "stride_px": spec.stride_px,
            "batch": batch,
        }
        return self.keep(name, key, lambda folder: _build(data, spec, name, folder, batch))

    def keep(self, name: str, key: Mapping[str, Any], make: Callable[[Path], bytes]) -> Path:
        """The path of what `make` gives, an ONNX file that follows from `key` alone; made if it is not there yet.

        make: given a folder for files of its own. Raises UsageError where the cache folder cannot be used.
        """
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        folder = private_folder(self._folder / "models", "set TRT_ANON_CACHE to a folder of your own")
        path = folder / f"{name}-{digest[:16]}.onnx"
        manifest = path.with_suffix(".json")
        if _intact(path, manifest):
            return path
        made = make(folder)
        # Deterministic for a key: processes that prepare it at the same time write the same bytes.
        write_atomically(path, made)
        written = {"sha256": hashlib.sha256(made).hexdigest(), **key}
        write_atomically(manifest, json.dumps(written, indent=2).encode())
        return path


def _intact(path: Path, manifest: Path) -> bool:
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
        found = hash_of(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        expected = found = None
    if expected is None or found != expected:
        _log.warning("%s is not what was written there; it is built again", path)
        return False
    return True


def _build(data: bytes, spec: InputSpec, name: str, folder: Path, batch: Literal["free", "one"]) -> bytes:
    original = spell_out(parse_model(data, name), name)
    source = picture_input(original, name)
    if batch == "one":
        if source.size_px is not None and source.size_px != spec.size_px:
            raise ModelError(
                f"{name}: takes pictures of {source.size_px[0]}x{source.size_px[1]}, one at a time; its recipe must "
                f"give this size as size_px, not {spec.size_px}"
            )
        ready = one_picture(original, where=name)
    else:
        frees_size = spec.size_px is None or source.size_px not in (None, spec.size_px)
        ready = make_dynamic(original, size=frees_size, where=name)
    folded = fold_input(ready, spec.mean, spec.scale, where=name)
    try:
        with tempfile.TemporaryDirectory(prefix=".verify-", dir=folder) as scratch:
            _verify(original, folded, source, spec, Path(scratch), name)
    except OSError as error:
        raise UsageError(f"cannot write to the cache folder {folder}: {error.strerror}") from error
    return bytes(folded.SerializeToString(deterministic=True))


def _verify(
    original: onnx.ModelProto, folded: onnx.ModelProto, source: PictureInput, spec: InputSpec, scratch: Path, name: str
) -> None:
    """Run the folded model: at the size of the original it computes what that does, and pictures of a batch stay apart.

    For the first, both are compiled for the same fixed shape, so that a runtime optimises both alike: for a free one it
    chooses other kernels, and quantized networks then round otherwise.
    """
    quantized = is_quantized(original)
    width_px, height_px = spec.size_px or tuple(-(-side // spec.stride_px) * spec.stride_px for side in (192, 160))
    own = source.batch or 1, source.height or height_px, source.width or width_px
    with _opened(pin_input(original, *own), scratch / f"{name}-original.onnx") as reference:
        with _opened(pin_input(folded, *own), scratch / f"{name}-pinned.onnx") as pinned:
            check_same_outputs(reference, pinned, spec.mean, spec.scale, own[1:], where=name)
        if not any(dim.dim_param for dim in folded.graph.input[0].type.tensor_type.shape.dim):
            return
        with _opened(folded, scratch / f"{name}.onnx") as runner:
            check_same_outputs(reference, runner, spec.mean, spec.scale, own[1:], where=name, quantized=quantized)
            if runner.inputs[0].shape[0] is None:
                check_batch_independence(runner, height_px, width_px, where=name, quantized=quantized)


@contextlib.contextmanager
def _opened(model: onnx.ModelProto, path: Path) -> Iterator[Runner]:
    path.write_bytes(model.SerializeToString(deterministic=True))
    # Exact arithmetic: bf16 would hide small faults.
    runner = open_runner(path, RuntimeConfig(device="cpu", precision="f32"))
    try:
        yield runner
    finally:
        runner.close()
