"""Planning: which files are read, where results go, and what must never happen to an input."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.job.inputs import Plan, plan
from trt_anon.job.publish import PARTIAL_PREFIX

IMAGE = b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(40)  # what planning looks at: the first bytes


def make(root: Path, *names: str, content: bytes = IMAGE) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return paths


def pairs(result: Plan, root: Path) -> list[tuple[str, str]]:
    return [(str(t.source.relative_to(root)), str(t.destination.relative_to(root))) for t in result.tasks]


class TestOneFile:
    def test_to_a_name(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, "a.bmp")
        assert pairs(plan([path], tmp_path / "b.png"), tmp_path) == [("a.bmp", "b.png")]

    def test_into_an_existing_folder(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, "a.bmp")
        (tmp_path / "out").mkdir()
        assert pairs(plan([path], tmp_path / "out"), tmp_path) == [("a.bmp", "out/a.bmp")]

    def test_into_a_folder_to_be_made(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, "a.bmp")
        assert pairs(plan([path], f"{tmp_path}/out/"), tmp_path) == [("a.bmp", "out/a.bmp")]

    def test_as_a_single_file_whatever_the_name(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, "a.bmp")
        task = plan([path], tmp_path / "b.bmp", single_file=True).tasks[0]
        assert (task.destination, task.kind) == (tmp_path / "b.bmp", "image")

    def test_content_decides(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.mp4", "PNG")
        assert plan([tmp_path / "a.mp4"], tmp_path / "b.mp4").tasks[0].kind == "image"

    def test_to_a_name_of_another_kind(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, "a.bmp")
        with pytest.raises(UsageError, match="an image, it cannot be written to"):
            plan([path], tmp_path / "b.mp4")


class TestFolders:
    NAMES = ("in/b.bmp", "in/a.bmp", "in/sub/c.bmp", "in/sub/deep/d.bmp", "in/Z.bmp")

    def test_mirrored_in_a_fixed_order(self, tmp_path: Path) -> None:
        make(tmp_path, *self.NAMES)
        assert pairs(plan([tmp_path / "in"], tmp_path / "out"), tmp_path) == [
            ("in/Z.bmp", "out/Z.bmp"),
            ("in/a.bmp", "out/a.bmp"),
            ("in/b.bmp", "out/b.bmp"),
            ("in/sub/c.bmp", "out/sub/c.bmp"),
            ("in/sub/deep/d.bmp", "out/sub/deep/d.bmp"),
        ]

    def test_several_inputs_each_below_its_name(self, tmp_path: Path) -> None:
        make(tmp_path, "one/a.bmp", "two/a.bmp", "c.bmp")
        inputs = [tmp_path / "two", tmp_path / "one", tmp_path / "c.bmp"]
        assert pairs(plan(inputs, tmp_path / "out"), tmp_path) == [
            ("two/a.bmp", "out/two/a.bmp"),
            ("one/a.bmp", "out/one/a.bmp"),
            ("c.bmp", "out/c.bmp"),
        ]

    def test_this_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make(tmp_path, "in/a.bmp", "b.bmp")
        monkeypatch.chdir(tmp_path / "in")
        result = plan([Path(), Path("../b.bmp")], "../out")
        assert [str(task.destination) for task in result.tasks] == ["../out/in/a.bmp", "../out/b.bmp"]

    def test_other_files_are_skipped_and_named(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp")
        make(tmp_path, "in/notes.txt", "in/page.ts", content=b"let x: number = 1")
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert len(result.tasks) == 1
        assert [path.name for path in result.skipped] == ["notes.txt", "page.ts"]
        assert not result.failures

    def test_hidden_and_unpublished_files_are_not_seen(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp", "in/.b.bmp", "in/.git/c.bmp", f"in/{PARTIAL_PREFIX}1.bmp")
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert len(result.tasks) == 1
        assert not result.skipped

    def test_links_to_folders_are_not_followed(self, tmp_path: Path) -> None:
        make(tmp_path, "in/sub/a.bmp", "elsewhere/b.bmp")
        (tmp_path / "in" / "sub" / "up").symlink_to("..")
        (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "in" / "b.bmp").symlink_to(tmp_path / "elsewhere" / "b.bmp")
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert pairs(result, tmp_path) == [("in/b.bmp", "out/b.bmp"), ("in/sub/a.bmp", "out/sub/a.bmp")]

    def test_an_output_inside_is_not_an_input(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp", "in/out/a.bmp", "in/out/old.bmp")
        result = plan([tmp_path / "in"], tmp_path / "in" / "out", overwrite=True)
        assert pairs(result, tmp_path) == [("in/a.bmp", "in/out/a.bmp")]

    def test_special_files_are_skipped_unopened(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp")
        os.mkfifo(tmp_path / "in" / "pipe.mp4")
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert [path.name for path in result.skipped] == ["pipe.mp4"]

    def test_damaged_media_are_failures(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp")
        make(tmp_path, "in/text.mp4", content=b"no video")
        make(tmp_path, "in/empty.jpg", content=b"")
        (tmp_path / "in" / "broken.jpg").symlink_to("nowhere")
        (tmp_path / "in" / "self").symlink_to("self")
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert len(result.tasks) == 1
        assert [f.source.name for f in result.failures] == ["broken.jpg", "empty.jpg", "self", "text.mp4"]
        assert all(type(f.error) is InputError and str(f.source) in str(f.error) for f in result.failures)

    @pytest.mark.parametrize("names", [(), ("notes.txt",), (".hidden.bmp",)])
    def test_without_media(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        (tmp_path / "in").mkdir()
        make(tmp_path / "in", *names, content=b"text")
        (failure,) = plan([tmp_path / "in"], tmp_path / "out").failures
        assert type(failure.error) is InputError
        assert "no images or videos" in str(failure.error)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable_ones_are_named(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp", "in/no.bmp", "in/closed/b.bmp")
        (tmp_path / "in" / "no.bmp").chmod(0)
        (tmp_path / "in" / "closed").chmod(0)
        try:
            result = plan([tmp_path / "in"], tmp_path / "out")
        finally:
            (tmp_path / "in" / "closed").chmod(0o700)
        assert [f.source.name for f in result.failures] == ["closed", "no.bmp"]
        assert len(result.tasks) == 1

    def test_an_unreadable_folder_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make(tmp_path, "in/a.bmp", "in/closed/b.bmp")
        scandir = os.scandir

        def closed(path: Path) -> object:
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", closed)
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert [str(f.error) for f in result.failures] == [
            f"cannot read the folder {tmp_path / 'in' / 'closed'}: Permission denied"
        ]
        assert len(result.tasks) == 1


class TestInputsNamedByTheUser:
    @pytest.mark.parametrize(
        ("make_it", "reason"),
        [
            (lambda path: None, "No such file"),
            (lambda path: path.write_bytes(b""), "empty"),
            (lambda path: path.write_bytes(b"some text"), "neither an image nor a video"),
            (os.mkfifo, "neither a file nor a folder"),
            (lambda path: path.symlink_to(path), "Too many levels"),
        ],
    )
    def test_bad_ones_fail_and_the_others_are_done(
        self, tmp_path: Path, make_it: Callable[[Path], object], reason: str
    ) -> None:
        (good,) = make(tmp_path, "a.bmp")
        make_it(tmp_path / "bad.mp4")
        result = plan([tmp_path / "bad.mp4", good], tmp_path / "out")
        assert [task.source for task in result.tasks] == [good]
        (failure,) = result.failures
        assert type(failure.error) is InputError
        assert reason in str(failure.error)
        assert "bad.mp4" in str(failure.error)
        for option in ("single_file", "detect_only"):
            with pytest.raises(InputError, match="bad"):
                plan([tmp_path / "bad.mp4"], tmp_path / "out", **{option: True})

    def test_hidden_ones_are_taken_at_their_word(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, ".a.bmp")
        assert len(plan([path], tmp_path / "b.bmp").tasks) == 1

    def test_an_unpublished_file_is_refused(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, f"{PARTIAL_PREFIX}1.bmp")
        assert "unpublished" in str(plan([path], tmp_path / "b.bmp").failures[0].error)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no input"):
            plan([], tmp_path)


class TestOutputs:
    def test_that_are_the_input(self, tmp_path: Path) -> None:
        (path,) = make(tmp_path, "d/a.bmp")
        (tmp_path / "link.bmp").symlink_to(path)
        os.link(path, tmp_path / "hard.bmp")
        (tmp_path / "e").symlink_to("d")
        for output in (path, tmp_path / "link.bmp", tmp_path / "hard.bmp", tmp_path / "e" / "a.bmp", tmp_path / "d"):
            for overwrite in (False, True):
                with pytest.raises(UsageError, match="is the input"):
                    plan([path], output, overwrite=overwrite)
        with pytest.raises(UsageError, match="is the input"):
            plan([tmp_path / "link.bmp"], path)

    def test_that_are_another_input(self, tmp_path: Path) -> None:
        make(tmp_path, "a.bmp", "out/a.bmp")
        with pytest.raises(UsageError, match="is the input"):
            plan([tmp_path / "a.bmp", tmp_path / "out" / "a.bmp"], tmp_path / "out", overwrite=True)

    def test_that_are_the_input_folder(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp")
        (tmp_path / "link").symlink_to("in")
        for output in (tmp_path / "in", tmp_path / "link", tmp_path / "in" / ".." / "in"):
            with pytest.raises(UsageError, match="is the input folder"):
                plan([tmp_path / "in"], output)

    def test_of_two_inputs_with_one_name(self, tmp_path: Path) -> None:
        one, two = make(tmp_path, "one/a.bmp", "two/a.bmp")
        with pytest.raises(UsageError, match="both"):
            plan([one, two], tmp_path / "out")
        with pytest.raises(UsageError, match="both"):
            plan([one, one], tmp_path / "out")

    def test_that_are_a_file_where_a_folder_is_needed(self, tmp_path: Path) -> None:
        one, two, out = make(tmp_path, "in/a.bmp", "b.bmp", "out.bmp")
        for inputs in ([one, two], [tmp_path / "in"]):
            with pytest.raises(UsageError, match="need a folder"):
                plan(inputs, out)

    def test_that_exist_fail_alone(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a.bmp", "in/b.bmp", "out/a.bmp")
        result = plan([tmp_path / "in"], tmp_path / "out")
        assert pairs(result, tmp_path) == [("in/b.bmp", "out/b.bmp")]
        (failure,) = result.failures
        assert type(failure.error) is OutputError
        assert "--overwrite" in str(failure.error)
        assert len(plan([tmp_path / "in"], tmp_path / "out", overwrite=True).tasks) == 2
        with pytest.raises(OutputError, match="--overwrite"):
            plan([tmp_path / "in" / "a.bmp"], tmp_path / "out" / "a.bmp", single_file=True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_that_are_folders_or_special(self, tmp_path: Path, overwrite: bool) -> None:
        make(tmp_path, "in/a.bmp", "in/b.bmp")
        (tmp_path / "out" / "a.bmp").mkdir(parents=True)
        os.mkfifo(tmp_path / "out" / "b.bmp")
        result = plan([tmp_path / "in"], tmp_path / "out", overwrite=overwrite)
        assert not result.tasks
        assert [type(f.error) for f in result.failures] == [OutputError, OutputError]


def test_detecting_writes_nothing_per_file(tmp_path: Path) -> None:
    make(tmp_path, "in/a.bmp", "in/b.bmp")
    result = plan([tmp_path / "in"], tmp_path / "in", detect_only=True)
    assert [task.destination for task in result.tasks] == [task.source for task in result.tasks]
    assert len(result.tasks) == 2


NAME = st.text(st.sampled_from("abAB.é \n"), min_size=1, max_size=3).filter(lambda n: n not in (".", ".."))


@given(
    names=st.lists(st.lists(NAME, min_size=1, max_size=3), min_size=1, max_size=8),
    output=st.sampled_from(["out", "in/out", "in", "in/a", "elsewhere/deep"]),
)
def test_whatever_the_tree_no_input_is_an_output_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, names: list[list[str]], output: str
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for parts in names:
        path = root.joinpath("in", *parts)
        if not any(p.is_file() for p in path.parents) and not path.exists():
            make(root, str(path.relative_to(root)))
    (root / "in").mkdir(exist_ok=True)
    sources = {p for p in (root / "in").rglob("*") if p.is_file()}
    try:
        result = plan([root / "in"], root / output)
    except UsageError:
        same = output == "in" or (root / output).is_file()
        assert same or any((root / output / s.relative_to(root / "in")) in sources for s in sources)
        return
    again = plan([root / "in"], root / output)
    assert again.tasks == result.tasks
    destinations = [task.destination for task in result.tasks]
    assert len(set(destinations)) == len(destinations)
    assert not set(destinations) & sources
    inside = {p for p in sources if (root / output) in p.parents}
    hidden = {p for p in sources if any(part.startswith(".") for part in p.relative_to(root / "in").parts)}
    planned = {task.source for task in result.tasks} | {f.source for f in result.failures}
    assert planned - {root / "in"} == sources - inside - hidden
    for task in result.tasks:
        assert task.destination == root / output / task.source.relative_to(root / "in")
