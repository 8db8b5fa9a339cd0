# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A folder as a store: a second disk, or a network share that is mounted.

What is being written has a name of its own beside its later one; it is flushed to the disk before it gets that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from .errors import DeniedError, ExistsError, NotFoundError, StoreError
from .retry import Retry
from .settings import StoreSettings
from .stores import PIECE_BYTES, Entry, Unfinished, put_by_upload

UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{8}\.unfinished")
T = TypeVar("T")
# The names in a folder, each with what is known of it.
Names = list[tuple[str, T]]
NamesIn = Callable[[str], Names[T]]

MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# What a share says while its server is away.
AWAY = (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNRESET)


class LocalStore:
    def __init__(self, settings: StoreSettings, retry: Retry) -> None:
        self.settings, self.retry = settings, retry
        self.root = Path(settings.path)

    def put(self, key: str, data: bytes) -> None:
        put_by_upload(self, key, data)

    def begin(self, key: str, part_bytes: int) -> LocalUpload:
        path = self.path(key)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        return LocalUpload(self, path, part, self.call(lambda: self.create(part)), part_bytes)

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        path = self.path(key)

        def piece() -> bytes:
            # Opened for each piece: on a share whose server was away an open file stays lost.
            with path.open("rb", buffering=0) as handle:
                handle.seek(start)
                return handle.read(PIECE_BYTES)

        while data := self.call(piece):
            yield data
            start += len(data)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        for key, path in walk(self.names_in, prefix, after):
            if not UNFINISHED.fullmatch(path.name) and key.startswith(prefix) and key > after:
                state = self.state(path)
                if state:
                    yield Entry(key, state.st_size, moment(state))

    def delete(self, keys: Iterable[str]) -> None:
        self.call(self.check)
        kept = []
        folders = set()
        for key in keys:
            path = self.path(key)
            try:
                path.unlink(missing_ok=True)
                folders.add(path.parent)
            except NotADirectoryError:
                continue
            except OSError as error:
                kept.append(f"{key} ({error.strerror})")
        for folder in folders:
            self.tidy(folder)
        if kept:
            raise DeniedError(f"{self.settings.label} did not delete {len(kept)} objects: {'; '.join(kept[:3])}.")

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        for key, path in walk(self.names_in, prefix, ""):
            name = UNFINISHED.fullmatch(path.name)
            whole = key[: len(key) - len(path.name)] + name[1] if name else ""
            if name and whole.startswith(prefix):
                state = self.state(path)
                if state:
                    yield Unfinished(whole, path.name, moment(state))

    def abort(self, upload: Unfinished) -> None:
        path = self.path(upload.key).with_name(upload.handle)
        if not UNFINISHED.fullmatch(path.name):
            raise StoreError(f"{upload.handle!r} is no unfinished upload of {self.settings.label}.")
        self.call(lambda: path.unlink(missing_ok=True))
        self.tidy(path.parent)

    def path(self, key: str) -> Path:
        return self.root.joinpath(*checked_key(key))

    def check(self) -> None:
        """A share that is not mounted is an empty folder on the host's own disk: no place for backups."""
        if self.settings.mount_required and not os.path.ismount(self.root):
            raise StoreError(f"Nothing is mounted at {self.root}, so nothing is stored there: mount it.")
        if not self.root.is_dir():
            raise StoreError(f"The folder {self.root} does not exist: create it, or mount what holds the backups.")

    def call(self, work: Callable[[], T]) -> T:
        """What the work returns, its errors in words."""

        def checked() -> T:
            try:
                self.check()
                return work()
            except OSError as error:
                raise self.in_words(error) from error

        return self.retry(checked)

    def in_words(self, error: OSError) -> StoreError:
        where, code = self.settings.label, error.errno
        if code in MISSING:
            return NotFoundError(f"{where} has no {error.filename}.")
        if code == errno.EEXIST:
            return ExistsError(f"{where} has {error.filename2 or error.filename} already; it is not replaced.")
        if code in FULL:
            return StoreError(f"The disk of {where} is full ({error.strerror}): make room, or prune.")
        if code in REFUSED:
            return DeniedError(f"{where} refused access to {error.filename}: {error.strerror}.")
        return StoreError(f"{where} failed: {error.strerror}.", transient=code in AWAY)

    def create(self, path: Path) -> int:
        """Opens a new file; its folders are made so that they survive a power cut."""
        missing = path.parent
        new = []
        while missing != self.root and not missing.is_dir():
            new.append(missing)
            missing = missing.parent
        for folder in reversed(new):
            folder.mkdir(mode=0o700, exist_ok=True)
            flush(folder.parent)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def tidy(self, folder: Path) -> None:
        """Removes the folder of a backup once nothing is in it. Not those above: another run may be using them."""
        with contextlib.suppress(OSError):
            flush(folder)
            if folder != self.root:
                folder.rmdir()
                flush(folder.parent)

    def names_in(self, folder: str) -> Names[Path]:
        """The names in a folder with their paths, folders with a slash at their end."""

        def look() -> Names[Path]:
            try:
                with os.scandir(self.root / folder) as entries:
                    return [(one.name + "/" * one.is_dir(follow_symlinks=False), Path(one.path)) for one in entries]
            except (FileNotFoundError, NotADirectoryError):
                return []

        return self.call(look)

    def state(self, path: Path) -> os.stat_result | None:
        try:
            return self.call(path.stat)
        except NotFoundError:
            # Deleted while it was being listed.
            return None


class LocalUpload:
    def __init__(self, store: LocalStore, path: Path, part: Path, handle: int, part_bytes: int) -> None:
        self.store, self.path, self.unfinished, self.handle, self.part_bytes = store, path, part, handle, part_bytes

    def part(self, number: int, data: bytes | memoryview) -> None:
        def write() -> None:
            offset, rest = (number - 1) * self.part_bytes, memoryview(data)
            while rest:
                written = os.pwrite(self.handle, rest, offset)
                offset, rest = offset + written, rest[written:]

        self.store.call(write)

    def complete(self) -> None:
        def publish() -> None:
            os.fsync(self.handle)
            move(self.unfinished, self.path)
            flush(self.path.parent)

        self.store.call(publish)
        self.close()

    def abort(self) -> None:
        self.close()
        self.store.call(lambda: self.unfinished.unlink(missing_ok=True))
        self.store.tidy(self.unfinished.parent)

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def move(old: Path, new: Path) -> None:
    """Gives a file its name, unless another has it."""
    try:
        os.link(old, new)
        old.unlink()
    except FileExistsError:
        # Ours, if the first try got no answer.
        if not old.samefile(new):
            raise
        old.unlink()
    except OSError as error:
        # Shares and FAT have no second names for a file; names are unique there by their random part alone.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES):
            raise
        if new.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from error
        old.rename(new)


def checked_key(key: str) -> list[str]:
    """The folders of a key and its last name.

    @raises StoreError: if a file system would take it for something else
    """
    words = key.split("/")
    if not all(words) or {".", ".."} & set(words):
        raise StoreError(f"{key!r} cannot be the name of an object in a folder.")
    return words


def walk(names_in: NamesIn[T], prefix: str, after: str, folder: str | None = None) -> Iterator[tuple[str, T]]:
    """Files in the order of their keys, those of one folder in memory at a time.

    @param names_in: gives names in a folder (with the slash at its end, or ""), folders with a slash at their end
    """
    if folder is None:
        folder = prefix[: prefix.rfind("/") + 1]
    for name, found in sorted(names_in(folder), key=lambda one: one[0]):
        key = folder + name
        if not name.endswith("/"):
            yield key, found
        # Not into folders that hold nothing of the prefix, or only what comes before.
        elif (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
            yield from walk(names_in, prefix, after, key)


def moment(state: os.stat_result) -> datetime:
    return datetime.fromtimestamp(state.st_mtime, timezone.utc)


def flush(folder: Path) -> None:
    """Makes new names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some shares have nothing to flush for a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def open_store(settings: StoreSettings) -> LocalStore:
    return LocalStore(settings, Retry(settings.patience_seconds))
