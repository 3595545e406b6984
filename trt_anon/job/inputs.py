"""What a job will do: which files it reads, and where each result goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trt_anon.errors import InputError, OutputError, TrtAnonError, UsageError
from trt_anon.job.publish import PARTIAL_PREFIX
from trt_anon.source.probe import sniff

Kind = Literal["image", "video"]

# fmt: off
EXTENSIONS: dict[Kind, frozenset[str]] = {
    "image": frozenset([
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ]),
    "video": frozenset([
        ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg",
        ".mpeg", ".vob", ".wmv", ".asf", ".flv", ".ogv", ".mxf", ".h264", ".264", ".avc", ".h265", ".265", ".hevc",
        ".ivf", ".obu", ".mjpeg", ".mjpg",
    ]),
}
# fmt: on
"""Names of media files, by kind. What a file is, its content decides; names are for outputs and for messages."""

_AMBIGUOUS = frozenset({".ts", ".mts"})  # TypeScript, too


@dataclass(frozen=True, slots=True)
class Task:
    """One file to anonymize."""

    source: Path
    destination: Path
    kind: Kind


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that cannot be worked on, and why; the others can."""

    source: Path
    destination: Path | None
    error: TrtAnonError


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a job: tasks in the order of work, inputs that failed already, files of folders that are no media."""

    tasks: tuple[Task, ...]
    failures: tuple[Failure, ...] = ()
    skipped: tuple[Path, ...] = ()


def plan(
    inputs: Sequence[Path],
    output: str | Path,
    *,
    overwrite: bool = False,
    single_file: bool = False,
    detect_only: bool = False,
) -> Plan:
    """Find the media files of `inputs` and name each one's output.

    One file goes to `output`, or into it where that is a folder or ends with a separator; one folder is searched
    recursively and mirrored below `output`; of several inputs each goes to `output`/name. Content decides what is
    media; other files of a folder are skipped, as are hidden files and folders, links to folders, and whatever lies in
    `output`. single_file: `output` is a file's name, whatever it looks like. detect_only: nothing is written per file,
    so destinations are those of the sources and are not checked. With either the first failure is raised.

    Raises UsageError where the outputs cannot be: no input, two inputs with one output, an output that is an input.
    What is wrong with one input (unreadable, no media, output exists without `overwrite`) is a Failure in the plan.
    """
    if not inputs:
        raise UsageError("no input given")
    found = _Search(None if detect_only else Path(output))
    for path in inputs:
        found.add(Path(path), _base(Path(path), inputs, output, single_file))
    if not detect_only:
        _check_destinations(found.tasks)
        found.tasks, clashes = _split_existing(found.tasks, overwrite)
        found.failures += clashes
    if (single_file or detect_only) and found.failures:
        raise found.failures[0].error
    return Plan(tuple(found.tasks), tuple(found.failures), tuple(found.skipped))


def _base(path: Path, inputs: Sequence[Path], output: str | Path, single_file: bool) -> Path:
    """Where an input's result goes: a file's path, or the folder that mirrors a folder."""
    target = Path(output)
    if single_file:
        return target
    into = is_folder(target) or str(output).endswith((os.sep, os.altsep or os.sep))
    several = len(inputs) > 1
    if (several or is_folder(path)) and os.path.exists(target) and not is_folder(target):  # noqa: PTH110
        raise UsageError(f"--output {target} is a file; several results need a folder")
    if several or (into and not is_folder(path)):
        name = path.name if path.name not in ("", "..") else path.resolve().name
        return target / name
    return target


class _Search:
    """Collects tasks, failures and skipped files of all inputs."""

    def __init__(self, output: Path | None) -> None:
        self.tasks: list[Task] = []
        self.failures: list[Failure] = []
        self.skipped: list[Path] = []
        self._output = output

    def add(self, path: Path, base: Path) -> None:
        """One input as the user named it."""
        try:
            mode = path.stat().st_mode
        except OSError as error:
            self._fail(path, None, f"cannot read {path}: {error.strerror}")
            return
        if stat.S_ISDIR(mode):
            self._add_folder(path, base)
        elif not stat.S_ISREG(mode):
            self._fail(path, None, f"{path} is neither a file nor a folder")
        else:
            self._add_file(path, base, named=True)

    def _fail(self, path: Path, destination: Path | None, message: str) -> None:
        self.failures.append(Failure(path, destination, InputError(message)))

    def _add_folder(self, folder: Path, base: Path) -> None:
        before = len(self.tasks), len(self.failures)
        if self._output is not None and _same_file(folder, base):
            raise UsageError(f"the output folder {base} is the input folder {folder}; name another one")
        for path in self._walk(folder):
            destination = base / path.relative_to(folder)
            try:
                mode = path.stat().st_mode
            except OSError as error:
                self._fail(path, destination, f"cannot read {path}: {error.strerror}")
                continue
            if stat.S_ISREG(mode):
                self._add_file(path, destination, named=False)
            elif not stat.S_ISDIR(mode):
                self.skipped.append(path)
        if (len(self.tasks), len(self.failures)) == before:
            self._fail(folder, None, f"{folder} has no images or videos in it")

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Files below a folder, depth first, by name; hidden ones, links to folders and the output left out."""
        try:
            with os.scandir(folder) as entries:
                names = sorted((entry for entry in entries), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            self._fail(folder, None, f"cannot read the folder {folder}: {error.strerror}")
            return
        for entry in names:
            path = folder / entry.name
            if entry.name.startswith("."):  # our own unpublished files among them
                continue
            if entry.is_dir(follow_symlinks=False):
                if self._output is None or not _same_file(path, self._output):
                    yield from self._walk(path)
            else:
                yield path

    def _add_file(self, path: Path, destination: Path, *, named: bool) -> None:
        if path.name.startswith(PARTIAL_PREFIX):
            self._fail(path, None, f"{path} is an unpublished file of this program")
            return
        try:
            kind = sniff(path)
        except InputError as error:
            self.failures.append(Failure(path, destination, error))
            return
        except OSError as error:
            self._fail(path, destination, f"cannot read {path}: {error.strerror}")
            return
        suffix = path.suffix.lower()
        if kind is not None:
            self.tasks.append(Task(path, destination if self._output is not None else path, kind))
        elif path.stat().st_size == 0 and (named or _looks_like_media(suffix)):
            self._fail(path, destination, f"{path} is empty")
        elif named:
            self._fail(path, destination, f"{path} is neither an image nor a video of a kind that is known here")
        elif _looks_like_media(suffix):
            self._fail(path, destination, f"{path} is named like media, but its content is not: is it damaged?")
        else:
            self.skipped.append(path)


def _looks_like_media(suffix: str) -> bool:
    return suffix not in _AMBIGUOUS and any(suffix in known for known in EXTENSIONS.values())


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name, as far as can be seen; pathlib raises where one may not look."""
    return os.path.isdir(path)  # noqa: PTH112


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _check_destinations(tasks: Sequence[Task]) -> None:
    """No output may be an input, by whatever name, no two the same, none of another kind than its input."""
    sources = {(info.st_dev, info.st_ino): task.source for task in tasks for info in [task.source.stat()]}
    folders: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for task in tasks:
        try:
            info = task.destination.stat()
        except OSError:
            pass
        else:
            source = sources.get((info.st_dev, info.st_ino))
            if source is not None:
                raise UsageError(f"the output {task.destination} is the input {source}; name another one")
        parent = task.destination.parent
        if parent not in folders:
            folders[parent] = Path(os.path.realpath(parent))  # pathlib raises on links in a circle
        place = folders[parent] / task.destination.name
        if place in taken:
            raise UsageError(f"{taken[place]} and {task.source} would both be written to {task.destination}")
        taken[place] = task.source
        _check_kind(task)


def check_apart(output: Path, tasks: Sequence[Task], *, overwrite: bool) -> None:
    """Raise UsageError where a file to be written beside the media (a report, boxes) cannot be.

    That is one of its inputs or outputs, a folder, or a file that exists already without `overwrite`.
    """
    place = os.path.realpath(output)
    for task in tasks:
        if _same_file(output, task.source):
            raise UsageError(f"the output {output} is the input {task.source}; name another one")
        if task.destination != task.source and place == os.path.realpath(task.destination):
            raise UsageError(f"{output} cannot be written twice; name another one")
    reason = _blocked(output, overwrite)
    if reason is not None:
        raise UsageError(reason)


def _check_kind(task: Task) -> None:
    suffix = task.destination.suffix.lower()
    other: Kind = "video" if task.kind == "image" else "image"
    renamed = suffix != task.source.suffix.lower()
    if renamed and suffix in EXTENSIONS[other] and suffix not in EXTENSIONS[task.kind]:
        raise UsageError(f"{task.source} is {_a(task.kind)}, it cannot be written to {task.destination}, {_a(other)}")


def _a(kind: Kind) -> str:
    return "an image" if kind == "image" else "a video"


def _split_existing(tasks: Sequence[Task], overwrite: bool) -> tuple[list[Task], list[Failure]]:
    """Tasks that can be written, and failures for those whose output is there already."""
    good: list[Task] = []
    bad: list[Failure] = []
    for task in tasks:
        reason = _blocked(task.destination, overwrite)
        if reason is None:
            good.append(task)
        else:
            bad.append(Failure(task.source, task.destination, OutputError(reason)))
    return good, bad


def _blocked(destination: Path, overwrite: bool) -> str | None:
    """Why a destination cannot be written, as far as can be seen before."""
    try:
        mode = destination.lstat().st_mode
    except OSError:  # not there, or not reachable: the attempt to write says more
        return None
    if is_folder(destination):
        return f"{destination} is a folder; name a file"
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return f"{destination} is not a plain file; it is left alone"
    if not overwrite:
        return f"{destination} exists already; pass --overwrite (overwrite=True) to replace it"
    return None
