"""Publication: an output file appears complete, by rename, or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from trt_anon.errors import OutputError

PARTIAL_PREFIX = ".trt-anon-partial-"
"""How the name of every unpublished file begins; folders are searched without them."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


def atomic_output(dst: Path, *, overwrite: bool, times_of: Path | None = None) -> _Publication:
    """A context that gives the path of a private file and publishes it as `dst` when its block ends without exception.

    The private file lies in the destination's folder (made if it is not there) with a hidden name, the suffix of `dst`
    and mode 0600; published it has the mode that the umask allows. Whatever ends the block early, an interrupt
    included, deletes it, and with it the folders that were made. `dst` is never replaced unless `overwrite` is set,
    even if it appears while the block runs. Files that a killed run left unpublished for the same `dst` are deleted.
    times_of: the file whose times of access and change the published one gets; None leaves it those of its making.

    Raises OutputError where the destination exists, is not a plain file, or cannot be written.
    """
    return _Publication(dst, overwrite, times_of)


class _Publication:
    """One private file on its way to its name; a class, so that no interrupt falls between body and clean-up."""

    def __init__(self, dst: Path, overwrite: bool, times_of: Path | None) -> None:
        self._dst = dst
        self._times_of = times_of
        self._overwrite = overwrite
        self._made: list[Path] = []
        self._lock: int | None = None
        self._partial: Path | None = None

    def __enter__(self) -> Path:
        try:
            with as_output_error(self._dst):
                self._check_destination()
                self._make_partial()
        except BaseException:
            self._discard()
            raise
        assert self._partial is not None
        return self._partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with as_output_error(self._dst):
                    self._publish()
        finally:
            self._discard()

    def _check_destination(self) -> None:
        try:
            mode = self._dst.lstat().st_mode
        except FileNotFoundError:
            return
        if self._dst.is_dir():
            raise OutputError(f"{self._dst} is a folder; name a file")
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OutputError(f"{self._dst} is not a plain file; it is left alone")
        if not self._overwrite:
            raise OutputError(_exists(self._dst))

    def _make_partial(self) -> None:
        # Another job may remove a folder between its making and its use, or a cleaner take the file before its lock.
        for _ in range(8):
            self._make_folders(self._dst.parent)
            remove_stale(self._dst)
            partial = self._dst.parent / f"{_stem(self._dst)}{secrets.token_hex(8)}{self._dst.suffix}"
            try:
                self._partial = partial  # before the file is made: an interrupt in between is cleaned up too
                self._lock = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                continue
            if _locked(self._lock) is not False and _is_same(self._lock, partial):
                return
            os.close(self._lock)
            self._lock = None
        raise OutputError(f"cannot write {self._dst}: its folder keeps changing")

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            if folder == folder.parent:
                break
            folder = folder.parent
        for path in reversed(missing):
            try:
                path.mkdir()
            except FileExistsError:
                if not path.is_dir():
                    raise OutputError(f"cannot write {self._dst}: {path} is not a folder") from None
            else:
                self._made.append(path)

    def _publish(self) -> None:
        assert self._partial is not None
        # By path: whoever wrote the file may have replaced the one that was opened here.
        file = os.open(self._partial, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fchmod(file, 0o666 & ~_umask())
            if self._times_of is not None:
                source = self._times_of.stat()
                os.utime(file, ns=(source.st_atime_ns, source.st_mtime_ns))
            os.fsync(file)
        finally:
            os.close(file)
        if self._overwrite:
            self._check_destination()
            self._partial.replace(self._dst)
        else:
            self._publish_without_clobbering(self._partial)
        self._made.clear()
        folder = os.open(self._dst.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot flush a folder
                raise
        finally:
            os.close(folder)

    def _publish_without_clobbering(self, partial: Path) -> None:
        try:
            os.link(partial, self._dst, follow_symlinks=False)
        except FileExistsError:
            raise OutputError(_exists(self._dst)) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return
        # No hard links here (FAT, some network file systems): claim the name with an empty file, then replace that.
        try:
            os.close(os.open(self._dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise OutputError(_exists(self._dst)) from None
        try:
            partial.replace(self._dst)
        except BaseException:
            self._dst.unlink(missing_ok=True)
            raise

    def _discard(self) -> None:
        """Delete what is not published; the lock is released last, so that no cleaner interferes."""
        try:
            if self._partial is not None:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._partial.unlink()
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EACCES, errno.EROFS):
                raise OutputError(f"cannot delete the unpublished file {self._partial}: {error.strerror}") from error
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            while self._made:
                try:
                    self._made.pop().rmdir()
                except OSError:  # somebody else uses it by now
                    self._made.clear()


def remove_stale(dst: Path) -> int:
    """Delete the unpublished files for `dst` whose writers are gone (nobody holds their lock); gives their number."""
    removed = 0
    stem = _stem(dst)
    for path in [p for p in dst.parent.iterdir() if p.name.startswith(stem)]:
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone by now, or not ours to open
            continue
        try:
            if _locked(file) is True and _is_same(file, path):
                path.unlink()
                removed += 1
        finally:
            os.close(file)
    return removed


def _stem(dst: Path) -> str:
    # A digest, for a long name of the destination would not leave room for one of its own.
    return f"{PARTIAL_PREFIX}{hashlib.sha256(os.fsencode(dst.name)).hexdigest()[:16]}-"


def _locked(file: int) -> bool | None:
    """Take the lock of an open file: False if another holds it, None where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _umask() -> int:
    """The process's umask, read without setting it where the system allows, for other threads make files too."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    current = os.umask(0o077)
    os.umask(current)
    return current


def _exists(dst: Path) -> str:
    return f"{dst} exists already; pass --overwrite (overwrite=True) to replace it"


@contextmanager
def as_output_error(dst: Path) -> Iterator[None]:
    """What the file system says while something is written for `dst`, as an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {dst}: {error.strerror or error}") from error
