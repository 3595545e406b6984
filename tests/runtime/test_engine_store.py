"""Engines on disk: found by what shaped them, refused if changed, built by one of many."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from trt_anon.errors import HashMismatch, ModelError, ModelMissing, UsageError
from trt_anon.runtime.engine_manifest import EngineKey, EngineManifest, LayerFacts, TensorFacts
from trt_anon.runtime.engine_store import Built, EngineStore, StoredEngine

SHAPES = ((1, 384, 640, 3), (4, 384, 640, 3), (8, 384, 640, 3))


def key(**changes: Any) -> EngineKey:
    values: dict[str, Any] = {
        "model": "yunet",
        "source_sha256": "a" * 64,
        "onnx_sha256": "b" * 64,
        "precision": "fp16",
        "backend": "tensorrt-rtx",
        "library_version": "1.7.1.116",
        "targets": ("sm_86", "sm_89"),
        "profiles": ({"pixels": SHAPES},),
        **changes,
    }
    return EngineKey(**values)


def built(wanted: EngineKey, data: bytes = b"engine") -> Built:
    return data, EngineManifest(
        key=wanted,
        engine_sha256=hashlib.sha256(data).hexdigest(),
        engine_bytes=len(data),
        inputs=(TensorFacts(name="pixels", dtype="uint8", shape=(None, None, None, 3)),),
        outputs=(TensorFacts(name="cls", dtype="float32", shape=(None, 4)),),
        layers=(
            LayerFacts(name="c", kind="correlation", precision="int8"),
            LayerFacts(name="d", kind="correlation", precision="fp16"),
            LayerFacts(name="k", kind="kgen", precision="fp16"),
        ),
        build_seconds=0.5,
        build_peak_memory_bytes=1 << 20,
        scratch_bytes=10,
        weights_bytes=20,
        built_by="trt-anon test",
    )


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def never() -> Built:
    raise AssertionError("must not be built")


# ---- Manifests -------------------------------------------------------------------------------------------------------


def test_a_manifest_survives_its_json() -> None:
    _, manifest = built(key())
    assert EngineManifest.from_json(manifest.to_json(), "m") == manifest
    assert manifest.convolutions() == {"fp16": 1, "int8": 1}
    assert manifest.model_copy(update={"layers": None}).convolutions() is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.update(format=2),
        lambda m: m.update(engine_sha256="x"),
        lambda m: m["key"].update(targets=[]),
        lambda m: m["key"].update(model="../../etc/passwd"),
        lambda m: m.update(more=1),
        lambda m: m.pop("key"),
    ],
)
def test_what_is_no_manifest_is_refused(damage: Any) -> None:
    values = json.loads(built(key())[1].to_json())
    damage(values)
    with pytest.raises(ModelError, match="m: is no manifest of an engine"):
        EngineManifest.from_json(json.dumps(values), "m")
    with pytest.raises(ModelError, match="m: is no manifest"):
        EngineManifest.from_json(b"\xff", "m")


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"source_sha256": "c" * 64, "onnx_sha256": "d" * 64}, "the model's file has changed"),
    ({"onnx_sha256": "c" * 64}, "the network has changed"),
    ({"calibration_sha256": "c" * 64, "onnx_sha256": "d" * 64}, "the calibration has changed"),
    ({"targets": ("sm_90",)}, "it is for sm_86, sm_89, needed is sm_90"),
    ({"library_version": "1.8.0"}, "it was built with version 1.7.1.116, here is 1.8.0"),
    ({"gpu": "NVIDIA L4"}, "its kernels were chosen on None, here is NVIDIA L4"),
    ({"profiles": ({"pixels": ((1, 64, 64, 3),) * 3},)}, "it takes other batches or sizes"),
    ({"workspace_bytes": 1 << 30}, "it was built with another workspace"),
    ({"optimization_level": 5}, "it was built at another optimization level"),
]


@pytest.mark.parametrize(("changes", "reason"), CHANGES)
def test_everything_that_shapes_an_engine_is_in_its_hash_and_has_a_reason(changes: dict[str, Any], reason: str) -> None:
    other = key(**changes)
    assert other.digest != key().digest
    assert other.differences(key()) == (reason,)


def test_the_name_is_only_a_name() -> None:
    assert key(model="other").digest == key().digest
    assert key(model="other").file_name != key().file_name


def test_every_field_but_the_name_is_hashed_and_compared() -> None:
    changed = {field for changes, _ in CHANGES for field in changes}
    assert changed | {"model", "precision", "backend"} == set(EngineKey.model_fields)
    for field, value in (("precision", "fp32"), ("backend", "tensorrt")):
        assert key(**{field: value}).digest != key().digest


@pytest.mark.parametrize(
    ("wanted", "serves"),
    [
        ({}, True),
        ({"targets": ("sm_89",)}, True),
        ({"targets": ("sm_89", "sm_90")}, False),
        ({"profiles": ({"pixels": ((2, 384, 640, 3),) * 3},)}, True),
        ({"profiles": ({"pixels": ((9, 384, 640, 3),) * 3},)}, False),
        ({"profiles": ({"pixels": ((2, 384, 641, 3),) * 3},)}, False),
        ({"profiles": ({"pixels": SHAPES}, {"pixels": ((1, 64, 64, 3),) * 3})}, False),
        ({"profiles": ({"other": SHAPES},)}, False),
        ({"profiles": ({"pixels": ((2, 384, 640),) * 3},)}, False),
        ({"onnx_sha256": "c" * 64}, False),
        ({"library_version": "1.7.1"}, False),
        ({"precision": "int8"}, False),
    ],
)
def test_an_engine_for_more_gpus_and_shapes_serves_as_well(wanted: dict[str, Any], serves: bool) -> None:
    assert key().serves(key(**wanted)) is serves


# ---- The store -------------------------------------------------------------------------------------------------------


def test_an_engine_is_built_once(store: EngineStore) -> None:
    made = store.get_or_build(key(), lambda: built(key()), say=pytest.fail)
    assert made.read() == b"engine"
    again = store.get_or_build(key(), never, say=pytest.fail)
    assert again == made
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600


def test_one_that_serves_is_taken(store: EngineStore) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    wanted = key(targets=("sm_89",), profiles=({"pixels": ((2, 384, 640, 3),) * 3},))
    assert store.get_or_build(wanted, never, say=pytest.fail) == made


@pytest.mark.parametrize(("changes", "reason"), CHANGES)
def test_another_gpu_version_or_model_is_built_again_and_says_why(
    store: EngineStore, changes: dict[str, Any], reason: str
) -> None:
    store.get_or_build(key(), lambda: built(key()))
    other, said = key(**changes), []
    made = store.get_or_build(other, lambda: built(other, b"another"), say=said.append)
    assert made.read() == b"another"
    assert said == [f"yunet: there is an engine in fp16, but {reason}: building another"]
    assert len(list(store.engines())) == 2


def test_an_engine_of_another_model_or_precision_is_no_reason(store: EngineStore) -> None:
    store.get_or_build(key(), lambda: built(key()))
    for other in (key(model="centerface", onnx_sha256="c" * 64), key(precision="int8")):
        store.get_or_build(other, lambda other=other: built(other), say=pytest.fail)


@pytest.mark.parametrize("damage", [b"Engine", b"engine and more", b""])
def test_a_tampered_engine_is_refused_and_built_again(store: EngineStore, damage: bytes) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    made.path.write_bytes(damage)
    with pytest.raises(HashMismatch, match=r"refused, as engines are code"):
        made.read()
    assert next(iter(store.engines())).path == made.path
    said: list[str] = []
    again = store.get_or_build(key(), lambda: built(key()), say=said.append)
    assert again.read() == b"engine"
    assert "it is built again" in said[0]


def test_an_engine_under_anothers_name_is_refused(store: EngineStore) -> None:
    other = key(onnx_sha256="c" * 64)
    made = store.get_or_build(other, lambda: built(other, b"other"))
    wanted = store.folder / key().file_name
    for suffix in (".engine", ".json"):
        wanted.with_suffix(suffix).write_bytes(made.path.with_suffix(suffix).read_bytes())
    said: list[str] = []
    assert store.get_or_build(key(), lambda: built(key()), say=said.append).read() == b"engine"
    assert "its manifest is that of another engine; it is built again" in said[0]


def test_a_manifest_that_is_missing_or_damaged_means_another_build(store: EngineStore) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    manifest = made.path.with_suffix(".json")
    for damage in (manifest.unlink, lambda: manifest.write_text("{}")):
        damage()
        said: list[str] = []
        store.get_or_build(key(), lambda: built(key()), say=said.append)
        assert any("it is built again" in line for line in said)


def test_the_manifest_must_be_that_of_what_was_built(store: EngineStore) -> None:
    data, manifest = built(key())
    for wrong in ((b"other", manifest), (data, built(key(precision="int8"))[1])):
        with pytest.raises(ModelError, match="the manifest is not that of the engine"):
            store.get_or_build(key(), lambda wrong=wrong: wrong)
    assert not list(store.engines())


def test_a_build_that_fails_leaves_nothing(store: EngineStore) -> None:
    with pytest.raises(AssertionError):
        store.get_or_build(key(), never)
    assert [path.suffix for path in store.folder.iterdir()] == [".lock"]
    assert store.get_or_build(key(), lambda: built(key())).read() == b"engine"


def test_threads_that_want_the_same_engine_build_it_once(store: EngineStore) -> None:
    builds, said = [], []

    def slow() -> Built:
        builds.append(1)
        time.sleep(0.1)
        return built(key())

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: store.get_or_build(key(), slow, say=said.append), range(4)))
    assert len(builds) == 1
    assert len({engine.path for engine in found}) == 1
    assert said == ["yunet: another process builds this engine; waiting for it"] * 3


def _build_in_process(folder: Path, log: Path, number: int) -> None:
    def slow() -> Built:
        with log.open("a") as file:
            file.write(f"{number}\n")
        time.sleep(0.3)
        return built(key(), f"engine of {number}".encode())

    found = EngineStore(folder).get_or_build(key(), slow, say=lambda line: None)
    assert found.read().startswith(b"engine of ")


def test_processes_that_want_the_same_engine_build_it_once(store: EngineStore, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = tmp_path / "builds"
    processes = [context.Process(target=_build_in_process, args=(store.folder, log, n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    (number,) = log.read_text().split()
    assert store.get(key()).read() == f"engine of {number}".encode()  # type: ignore[union-attr]


# ---- Files from elsewhere --------------------------------------------------------------------------------------------


def test_an_engine_goes_with_its_manifest(store: EngineStore, tmp_path: Path) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    assert StoredEngine.at(made.path).manifest == made.manifest
    with pytest.raises(ModelMissing, match=r"none\.engine: is not there"):
        StoredEngine.at(tmp_path / "none.engine")
    made.path.with_suffix(".json").unlink()
    with pytest.raises(ModelMissing, match=r"\.json: is not there; an engine goes with its manifest"):
        StoredEngine.at(made.path)


@pytest.mark.parametrize("what", ["engine", "manifest", "folder"])
def test_an_engine_that_others_may_change_is_refused(store: EngineStore, what: str) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    path = {"engine": made.path, "manifest": made.path.with_suffix(".json"), "folder": made.path.parent}[what]
    path.chmod(path.stat().st_mode | 0o022)
    with pytest.raises(UsageError, match="can be written by others, and an engine is code"):
        StoredEngine.at(made.path)


def test_an_engine_of_another_user_is_refused(store: EngineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    if os.geteuid() == 0:
        os.chown(made.path, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UsageError, match="can be written by others"):
        made.read()


def test_an_engine_is_taken_over(store: EngineStore, tmp_path: Path) -> None:
    elsewhere = EngineStore(tmp_path / "elsewhere")
    made = elsewhere.get_or_build(key(), lambda: built(key()))
    store.add(StoredEngine.at(made.path))
    assert store.get_or_build(key(), never).read() == b"engine"
    made.path.write_bytes(b"changed")
    with pytest.raises(HashMismatch):
        store.add(StoredEngine.at(made.path))


def test_engines_are_found_by_name_and_hash(store: EngineStore) -> None:
    other = key(onnx_sha256="c" * 64)
    for wanted in (key(), other):
        store.get_or_build(wanted, lambda wanted=wanted: built(wanted), say=lambda line: None)
    for name in (key().file_name, key().file_name[:-7], key().digest[:10], key().digest):
        assert store.find(name).manifest.key == key()
    with pytest.raises(UsageError, match=r"several engines match 'yunet': yunet-fp16-.*engine, yunet-fp16-"):
        store.find("yunet")
    with pytest.raises(UsageError, match=r"there is no engine 'none': yunet-"):
        store.find("none")


def test_removing_engines_and_leftovers(store: EngineStore) -> None:
    made = store.get_or_build(key(), lambda: built(key()))
    orphans = [store.folder / name for name in (".x.engine.abc.partial", "a.engine", "b.json", "c.lock")]
    for orphan in orphans:
        orphan.write_bytes(b"12345")
    (store.folder / "timings.cache").write_bytes(b"kept")
    assert store.remove_leftovers() == 0  # a build may be writing them
    for orphan in orphans:
        os.utime(orphan, (0, 0))
    assert store.remove_leftovers() == 20
    assert made.read() == b"engine"
    assert store.remove([made]) > 6
    assert [path.name for path in store.folder.iterdir()] == ["timings.cache"]


def test_files_that_are_no_engines_are_said_and_left_out(store: EngineStore, caplog: pytest.LogCaptureFixture) -> None:
    (store.folder / "a.engine").write_bytes(b"x")
    (store.folder / "a.json").write_text("{}")
    (store.folder / "b.engine").write_bytes(b"x")
    assert not list(store.engines())
    assert "a.json: is no manifest of an engine" in caplog.text
    assert "b.json: is not there" in caplog.text


def test_the_folder_is_that_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRT_ANON_CACHE", str(tmp_path / "cache"))
    assert EngineStore().folder == tmp_path / "cache" / "engines"
