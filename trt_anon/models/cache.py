"""Patched models, kept in the user's cache and checked each time they are taken from it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

from trt_anon._optional import require
from trt_anon.build.check import check_batch_independence, check_same_outputs
from trt_anon.build.load import parse_model
from trt_anon.build.patch import PATCH_VERSION, fold_input, make_dynamic
from trt_anon.config import RuntimeConfig
from trt_anon.errors import UsageError
from trt_anon.models.fetch import hash_of, write_atomically
from trt_anon.runtime.select import open_runner
from trt_anon.types import InputSpec

_log = logging.getLogger("trt_anon")


class ModelCache:
    """Models ready to run, in a folder of the user's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, data: bytes, spec: InputSpec, name: str) -> Path:
        """The path of the patched and folded form of an ONNX file; built, and verified by running it, if not there yet.

        data: the original, its hash checked already. Raises ModelError where it cannot be patched, or where the result
        does not compute what the original does or mixes the pictures of a batch.
        """
        key = {
            "source_sha256": hashlib.sha256(data).hexdigest(),
            "patch": PATCH_VERSION,
            "onnx": require("onnx", "preparing a model").__version__,
            "mean": spec.mean,
            "scale": spec.scale,
            "size_px": spec.size_px,
            "stride_px": spec.stride_px,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self._private_folder() / f"{name}-{digest[:16]}.onnx"
        manifest = path.with_suffix(".json")
        if _intact(path, manifest):
            return path
        folded = _build(data, spec, name, path.parent)
        # Deterministic for a key: processes that prepare it at the same time write the same bytes.
        write_atomically(path, folded)
        written = {"sha256": hashlib.sha256(folded).hexdigest(), **key}
        write_atomically(manifest, json.dumps(written, indent=2).encode())
        return path

    def _private_folder(self) -> Path:
        folder = self._folder / "models"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            state = folder.stat()
            if state.st_uid != os.geteuid():
                raise UsageError(f"{folder} belongs to another user; set TRT_ANON_CACHE to a folder of your own")
            if state.st_mode & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"cannot use the cache folder {folder}: {error.strerror}; set TRT_ANON_CACHE to another"
            ) from error
        return folder


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


def _build(data: bytes, spec: InputSpec, name: str, folder: Path) -> bytes:
    dynamic = make_dynamic(parse_model(data, name), size=spec.size_px is None, where=name)
    folded = fold_input(dynamic, spec.mean, spec.scale, where=name)
    result = bytes(folded.SerializeToString(deterministic=True))
    if spec.size_px is None:
        height_px, width_px = (-(-side // spec.stride_px) * spec.stride_px for side in (160, 192))
    else:
        width_px, height_px = spec.size_px
    try:
        with tempfile.TemporaryDirectory(prefix=".verify-", dir=folder) as scratch:
            before, after = Path(scratch) / f"{name}-original.onnx", Path(scratch) / f"{name}.onnx"
            before.write_bytes(data)
            after.write_bytes(result)
            _verify(before, after, spec, (height_px, width_px), name)
    except OSError as error:
        raise UsageError(f"cannot write to the cache folder {folder}: {error.strerror}") from error
    return result


def _verify(before: Path, after: Path, spec: InputSpec, hw_px: tuple[int, int], name: str) -> None:
    config = RuntimeConfig(device="cpu")
    runner = open_runner(after, config)
    try:
        reference = open_runner(before, config)
        try:
            check_same_outputs(reference, runner, spec.mean, spec.scale, hw_px, where=name)
        finally:
            reference.close()
        check_batch_independence(runner, *hw_px, where=name)
    finally:
        runner.close()
