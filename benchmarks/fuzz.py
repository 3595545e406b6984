"""Mutated files of every kind that is read: does each end in success or in a clear error?

    python benchmarks/fuzz.py --cases 10000

Images, videos, ONNX files, recipes, region files, files of detections, engine manifests, receipts and configurations
are mutated (bytes flipped, cut, repeated, exchanged, numbers made extreme) and read by a process of its own, as a
command would. A case fails where that process dies, hangs for 30 s, uses 2 GB, raises anything but an error of this
program, leaves a file behind after an error, or, for media, publishes a picture that is not redacted: every picture is
to be blackened as a whole by a region given by hand, so that anything else in an output is a leak. `--keep` keeps
inputs that fail.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("image", "video", "onnx", "recipe", "regions", "detections", "manifest", "receipt", "config")
TIMEOUT_SECONDS = 30.0
MEMORY_BYTES = 2 << 30
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """One to eight random changes."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not made:
            break
        at = chance.randrange(len(made))
        what = chance.randrange(8)
        if what == 0:
            made[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            made[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 2:
            size = chance.choice((1, 2, 4))
            value = chance.choice(_EXTREMES) & ((1 << 8 * size) - 1)
            made[at : at + size] = value.to_bytes(size, chance.choice(("big", "little")))
        elif what == 3:
            del made[at : at + chance.randrange(1, 64)]
        elif what == 4:
            part = made[at : at + chance.randrange(1, 64)]
            made[at:at] = part * chance.choice((1, 2, 16))
        elif what == 5:
            del made[at:]
        elif what == 6 and other:
            start = chance.randrange(len(other))
            part = other[start : start + chance.randrange(1, 256)]
            made[at : at + len(part)] = part
        else:
            made[at:at] = chance.randbytes(chance.randrange(1, 16))
    return bytes(made)


def mutate_text(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """A change of a value in a text, or one of bytes."""
    if chance.random() < 0.4:
        return mutate(data, chance, other)
    text = data.decode()
    values = ("1e999", "-1", "0", "null", "NaN", '"x"', "[]", "{}", "true", "9" * 30, '"../../etc/passwd"', '"\\u0000"')
    pieces = [i for i, c in enumerate(text) if c.isdigit() and (i == 0 or not text[i - 1].isalnum())]
    for _ in range(chance.choice((1, 1, 2))):
        if pieces:
            at = chance.choice(pieces)
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] in ".+-"):
                end += 1
            text = text[:at] + chance.choice(values) + text[end:]
            pieces = [i for i in pieces if i < len(text)]
    return text.encode("utf-8", "replace")


# --- the process that reads


class Reader:
    """What mutates and reads, by kind; it lives in a process of its own."""

    def __init__(self, root: Path) -> None:
        from trt_anon.api import Anonymizer
        from trt_anon.regions.schema import RegionsConfig

        self.root = root
        everything = RegionsConfig(
            coordinates="relative", regions=({"box": (0, 0, 1, 1), "redact": {"method": "solid"}},)
        )
        config = {"runtime": {"runtime": "null", "threads": 1}, "track": {"track": "off"}}
        from trt_anon.config import AnonymizeConfig

        self.anonymizer = Anonymizer(AnonymizeConfig(**config, regions=everything))
        self.seeds: dict[str, list[tuple[str, bytes]]] = {kind: self._seeds(kind) for kind in KINDS}

        for kind in KINDS:  # what is refused as it is would fuzz nothing
            for name, data in self.seeds[kind]:
                outcome = self._read(kind, name, data)
                if outcome not in ("success", "UsageError", "ModelMissing"):
                    raise AssertionError(f"{kind} {name}: {outcome}")

    def case(self, number: int, seed: int) -> tuple[str, str]:
        """(kind, outcome): `success`, or the name of the error."""
        chance = random.Random(f"{seed}/{number}")
        kind = KINDS[number % len(KINDS)]
        name, data = chance.choice(self.seeds[kind])
        other = chance.choice(self.seeds[kind])[1]
        change = mutate if kind in ("image", "video", "onnx") else mutate_text
        return kind, self._read(kind, name, change(data, chance, other))

    def _read(self, kind: str, name: str, data: bytes) -> str:
        from trt_anon.errors import TrtAnonError

        place = self.root / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        path = place / name
        path.write_bytes(data)
        try:
            getattr(self, f"read_{kind}")(path, place)
        except TrtAnonError as error:
            if not str(error):
                raise AssertionError("an error without words") from error
            left = [p.name for p in place.rglob("*") if p.name.startswith((".trt-anon", "out"))]
            if left:
                raise AssertionError(f"left behind after an error: {left}") from error
            return type(error).__name__
        return "success"

    def read_image(self, path: Path, place: Path) -> None:
        from PIL import Image, ImageSequence

        out = place / f"out{path.suffix}"
        self.anonymizer.file(path, out)
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(out) as image:
            for frame in ImageSequence.Iterator(image):
                darkest = frame.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
                if max(darkest) > 24:
                    raise AssertionError(f"a picture that is not black: {darkest}")

    def read_video(self, path: Path, place: Path) -> None:
        import av

        out = place / f"out{path.suffix}"
        self.anonymizer.file(path, out)
        with av.open(str(out)) as container:
            for frame in container.decode(video=0):
                mean = float(frame.reformat(format="gray").to_ndarray().mean())
                if mean > 40:
                    raise AssertionError(f"a frame that is not black: {mean}")

    def read_onnx(self, path: Path, place: Path) -> None:
        from trt_anon.build.inspect import inspect_model
        from trt_anon.build.load import parse_model, read_model
        from trt_anon.build.patch import make_dynamic, one_picture
        from trt_anon.build.recognise import recognise

        data = read_model(path)
        model = parse_model(data, path.name)
        one_picture(model, where=path.name)
        make_dynamic(model, size=True, where=path.name)
        if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < 1 << 20:
            recognise(inspect_model(data, path.name), path.name)

    def read_recipe(self, path: Path, place: Path) -> None:
        from trt_anon.detect.families import get_family
        from trt_anon.models.registry import Registry

        registry = Registry()
        recipe = registry.get(path)
        overrides = recipe.input.given() if recipe.input else None
        get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes))
        registry.locate(recipe)

    def read_regions(self, path: Path, place: Path) -> None:
        from trt_anon.job.regions_file import read_regions

        read_regions(path)

    def read_detections(self, path: Path, place: Path) -> None:
        from trt_anon.job.given import GivenDetections

        GivenDetections(path).for_source(Path("a.png"))

    def read_manifest(self, path: Path, place: Path) -> None:
        from trt_anon.runtime.engine_store import EngineStore, StoredEngine

        engine = path.with_suffix(".engine")
        engine.write_bytes(b"engine")
        path.chmod(0o600)
        engine.chmod(0o600)
        StoredEngine.at(engine).read()
        list(EngineStore(place).engines())

    def read_receipt(self, path: Path, place: Path) -> None:
        from trt_anon.job.receipt import read_receipt

        read_receipt(path).signed_bytes()

    def read_config(self, path: Path, place: Path) -> None:
        from trt_anon.config import AnonymizeConfig

        AnonymizeConfig.from_toml(path)

    def _seeds(self, kind: str) -> list[tuple[str, bytes]]:
        made: Callable[[], list[tuple[str, bytes]]] = getattr(self, f"_{kind}_seeds")
        return made()

    def _image_seeds(self) -> list[tuple[str, bytes]]:
        import io

        import numpy as np
        from PIL import Image

        y, x = np.mgrid[:48, :64]
        waves = np.stack([200 + 50 * np.sin(x / 5 + i) * np.cos(y / 4) for i in range(3)], axis=-1).astype(np.uint8)
        picture = Image.fromarray(waves)
        seeds = []
        for name, options in (
            ("a.png", {}), ("a.jpg", {}), ("b.jpg", {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
            ("a.bmp", {}), ("a.tif", {"compression": "tiff_lzw"}), ("a.webp", {}), ("b.webp", {"lossless": True}),
            ("a.gif", {"save_all": True, "append_images": [picture.rotate(90)]}),
            ("b.png", {"save_all": True, "append_images": [picture.rotate(90)]}),
        ):  # fmt: skip
            out = io.BytesIO()
            picture.save(out, {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper()), **options)
            seeds.append((name, out.getvalue()))
        return seeds

    def _video_seeds(self) -> list[tuple[str, bytes]]:
        import av
        import numpy as np

        seeds = []
        for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx265"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9"),
                            ("a.ts", "libx264"), ("a.mov", "mjpeg"), ("b.mp4", "mpeg4")):  # fmt: skip
            path = self.root / name
            with av.open(str(path), "w") as out:
                stream = out.add_stream(codec, rate=25, width=64, height=48)
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                if codec == "libx265":
                    stream.options = {"x265-params": "log-level=none"}
                for index in range(8):
                    y, x = np.mgrid[:48, :64]
                    wave = (200 + 50 * np.sin((x + 4 * index) / 5) * np.cos(y / 4)).astype(np.uint8)
                    frame = av.VideoFrame.from_ndarray(np.repeat(wave[..., None], 3, 2), format="rgb24")
                    out.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
                out.mux(stream.encode(None))
            seeds.append((name, path.read_bytes()))
            path.unlink()
        return seeds

    def _onnx_seeds(self) -> list[tuple[str, bytes]]:
        import onnx
        from onnx import TensorProto, helper

        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Reshape", ["c", "s"], ["y"], name="shape"),
        ]
        weights = [
            helper.make_tensor("w", TensorProto.FLOAT, [6, 3, 3, 3], [0.1] * 162),
            helper.make_tensor("s", TensorProto.INT64, [3], [1, -1, 6]),
        ]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4096, 6])
        graph = helper.make_graph(nodes, "g", [x], [y], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return [("a.onnx", model.SerializeToString())]

    def _recipe_seeds(self) -> list[tuple[str, bytes]]:
        import trt_anon

        package = Path(trt_anon.__file__).parent
        folder = next(f for f in (package / "engines", package.parent / "engines") if f.is_dir())
        return [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.toml"))]

    def _regions_seeds(self) -> list[tuple[str, bytes]]:
        own = {
            "time_unit": "seconds",
            "coordinates": "relative",
            "regions": [
                {"box": [0.1, 0.2, 0.3, 0.4], "start": 1, "end": 2},
                {"polygon": [[0, 0], [1, 0], [1, 1]], "action": "keep", "files": ["*.mp4"]},
                {"keyframes": [{"at": 0, "box": [0, 0, 0.5, 0.5]}, {"at": 3, "box": [0.5, 0.5, 1, 1]}]},
            ],
            "treatments": {"face": {"method": "solid"}},
        }
        cvat = (
            '<annotations><version>1.1</version><meta><task><size>9</size></task></meta><track id="0" label="face">'
            '<box frame="0" xtl="1" ytl="2" xbr="30" ybr="40" outside="0" occluded="0" keyframe="1"></box>'
            '<box frame="5" xtl="3" ytl="2" xbr="33" ybr="40" outside="1" occluded="0" keyframe="1"></box>'
            "</track></annotations>"
        )
        return [("a.json", json.dumps(own).encode()), ("a.xml", cvat.encode()), *self._detections_seeds()]

    def _detections_seeds(self) -> list[tuple[str, bytes]]:
        values = {
            "categories": [{"id": 1, "name": "face"}],
            "images": [
                {"id": 1, "file_name": "a.png", "frame_index": 0, "width": 64, "height": 48, "pts_seconds": 0.0}
            ],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.0, 2, 30, 20], "area": 600, "score": 0.5,
                 "iscrowd": 0, "segmentation": [[1, 2, 31, 2, 31, 22]]}
            ],
        }  # fmt: skip
        return [("a.json", json.dumps(values).encode())]

    def _manifest_seeds(self) -> list[tuple[str, bytes]]:
        import hashlib

        from trt_anon.runtime.engine_manifest import EngineKey, EngineManifest, TensorFacts

        key = EngineKey(
            model="yunet", source_sha256="a" * 64, onnx_sha256="b" * 64, precision="fp16", backend="tensorrt-rtx",
            library_version="1.7.1.116", targets=("sm_86",), profiles=({"pixels": ((1, 8, 8, 3),) * 3},),
        )  # fmt: skip
        manifest = EngineManifest(
            key=key, engine_sha256=hashlib.sha256(b"engine").hexdigest(), engine_bytes=6,
            inputs=(TensorFacts(name="pixels", dtype="uint8", shape=(None, None, None, 3)),),
            outputs=(TensorFacts(name="cls", dtype="float32", shape=(None, 4)),),
            build_seconds=0.5, build_peak_memory_bytes=1, built_by="fuzz",
        )  # fmt: skip
        return [("a.json", manifest.to_json().encode())]

    def _receipt_seeds(self) -> list[tuple[str, bytes]]:
        from trt_anon.job.receipt import FileDone, Receipt

        file = FileDone(
            input_sha256="a" * 64, output_sha256="b" * 64, kind="video", frames=3, objects={"face": 2},
            frames_redacted_whole={},
        )  # fmt: skip
        receipt = Receipt(
            made="2026-01-01T00:00:00Z", software={"trt-anon": "1"}, configuration_sha256="c" * 64, settings={"a": 1.5},
            detectors=(), files=(file,), failed={"InputError": 1},
        )  # fmt: skip
        return [("a.json", receipt.model_dump_json().encode())]

    def _config_seeds(self) -> list[tuple[str, bytes]]:
        text = (
            '[detect]\nclasses = ["face", "license_plate"]\nthreshold = 0.25\n[redact]\nmethod = "pixelate"\n'
            'strength = 0.3\ngrow = 1.5\n[sink]\nquality = 80\naudio = "drop"\n[runtime]\nthreads = 2\n'
            "[pipeline]\nqueue_frames = 4\n[track]\nlook_ahead_seconds = 1.5\n"
        )
        return [("a.toml", text.encode())]


def read_cases(root: Path, seed: int) -> None:
    """Serve: a number on standard input is a case, a line of JSON on the real standard output its outcome."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print does not belong there
    reader = Reader(root)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            kind, outcome = reader.case(int(line), seed)
            answer: dict[str, Any] = {"kind": kind, "outcome": outcome}
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            import traceback

            answer = {"kind": KINDS[int(line) % len(KINDS)], "failure": repr(error), "trace": traceback.format_exc()}
        # What this case needed, not those before: the mark is set back after it is read.
        status = Path("/proc/self/status").read_text()
        answer["peak_bytes"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5")
        print(json.dumps(answer), file=answers, flush=True)


# --- the process that watches


class Child:
    """A reader in a process of its own, replaced when it dies or hangs."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._seed = root, seed
        self.start()

    def start(self) -> None:
        words = [sys.executable, __file__, "--read", self._root, "--seed", self._seed]
        self.process = subprocess.Popen(
            [str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=_limited, env={**os.environ, "OPENCV_LOG_LEVEL": "OFF"},
        )  # fmt: skip
        if self._answer(300) is None:
            sys.exit("the reading process does not start; run with --read to see why")

    def ask(self, number: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n".encode())
        self.process.stdin.flush()
        answer = self._answer(TIMEOUT_SECONDS)
        if answer is not None:
            return answer
        kind = KINDS[number % len(KINDS)]
        hangs = self.process.poll() is None
        self.process.kill()
        status = self.process.wait()
        self.start()
        return {"kind": kind, "failure": f"hangs for {TIMEOUT_SECONDS:g} s" if hangs else f"dies (status {status})"}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else b""
        return json.loads(line) if line else None


def _limited() -> None:
    # Address space, of which libraries reserve much more than they use; what is used is measured for each case.
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def main() -> None:
    """Run it; exits with 1 where a case fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that fail")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        read_cases(options.read, options.seed)
        return
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    failures = []
    start = time.perf_counter()
    slowest = peak = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        child = Child(Path(scratch), options.seed)
        for number in range(options.first, options.first + options.cases):
            began = time.perf_counter()
            answer = child.ask(number)
            slowest = max(slowest, time.perf_counter() - began)
            peak = max(peak, answer.get("peak_bytes", 0))
            if "failure" not in answer and answer.get("peak_bytes", 0) > MEMORY_BYTES:
                answer["failure"] = f"uses {answer['peak_bytes'] >> 20} MiB"
            if "failure" in answer:
                failures.append({"case": number, **answer})
                outcomes[answer["kind"]]["FAILED"] += 1
                print(f"case {number}: {answer['kind']}: {answer['failure']}", file=sys.stderr, flush=True)
                if options.keep is not None:
                    shutil.copytree(Path(scratch) / "case", options.keep / str(number), dirs_exist_ok=True)
            else:
                outcomes[answer["kind"]][answer["outcome"]] += 1
            if sys.stderr.isatty() and number % 100 == 99:
                print(f"{number + 1 - options.first}/{options.cases}", file=sys.stderr)
        child.stop()
    figures = {
        "cases": options.cases,
        "failures": failures,
        "outcomes": {kind: dict(counts.most_common()) for kind, counts in outcomes.items()},
        "slowest_seconds": round(slowest, 2),
        "peak_mib": round(peak / 2**20),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(figures, indent=2))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
