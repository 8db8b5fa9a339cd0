# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A storage box as a store: the file requests of SFTP, version 3, through OpenSSH's own client.

The C(sftp) program cannot store a stream, and paramiko either reads slowly or into memory without bounds.
The requests are those of draft-ietf-secsh-filexfer-02; fsync and statvfs are used where the server has them.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import stat
import struct
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from functools import partial
from typing import NamedTuple, TypeVar

from .errors import DeniedError, ExistsError, NotFoundError, StoreError
from .retry import Retry
from .settings import StoreSettings
from .store_local import UNFINISHED, Names, checked_key, walk
from .stores import PIECE_BYTES, Entry, Unfinished, put_by_upload

T = TypeVar("T")

# What every server takes in one request, and how many requests are on their way at a time.
BLOCK = 32768
WINDOW = 64

INIT, OPEN, CLOSE, READ, WRITE, LSTAT = 1, 3, 4, 5, 6, 7
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, RENAME, EXTENDED = 11, 12, 13, 14, 15, 18, 200
STATUS, HANDLE, DATA, NAMES, ATTRIBUTES, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
OK, END, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE = 0, 1, 2, 3, 4
FOR_READING, FOR_WRITING, CREATE = 0x01, 0x02, 0x08


class Attributes(NamedTuple):
    size: int
    mode: int
    modified: datetime


class RefusedError(StoreError):
    """The server said no without saying why."""


class SftpStore:
    def __init__(self, settings: StoreSettings, retry: Retry) -> None:
        self.settings, self.retry = settings, retry
        self.connection: Connection | None = None
        # Requests of an upload and of a listing may come from two threads.
        self.lock = threading.RLock()

    def put(self, key: str, data: bytes) -> None:
        put_by_upload(self, key, data)

    def begin(self, key: str, part_bytes: int) -> SftpUpload:
        folder, _slash, name = self.path(key).rpartition("/")
        part = f"{folder}/.{name}.{secrets.token_hex(4)}.unfinished"

        def create() -> None:
            self.connected().make_folders(folder)
            self.connected().write(part, 0, memoryview(b""))

        self.call(create)
        return SftpUpload(self, key, part, part_bytes)

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        reading = Reading(self, self.path(key), start)
        try:
            while data := self.call(reading.piece):
                yield data
        finally:
            with contextlib.suppress(StoreError):
                reading.close()

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        for key, found in walk(self.names_in, prefix, after):
            if not UNFINISHED.fullmatch(key.rpartition("/")[2]) and key.startswith(prefix) and key > after:
                yield Entry(key, found.size, found.modified)

    def delete(self, keys: Iterable[str]) -> None:
        kept = []
        folders = set()
        for key in keys:
            path = self.path(key)
            try:
                self.call(partial(self.remove, path))
            except (DeniedError, RefusedError) as error:
                kept.append(f"{key} ({error})")
            folders.add(path.rpartition("/")[0])
        for folder in folders:
            self.tidy(folder)
        if kept:
            raise DeniedError(f"{self.settings.label} did not delete {len(kept)} objects: {'; '.join(kept[:3])}")

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        for key, found in walk(self.names_in, prefix, ""):
            folder, slash, last = key.rpartition("/")
            name = UNFINISHED.fullmatch(last)
            if name and (folder + slash + name[1]).startswith(prefix):
                yield Unfinished(folder + slash + name[1], last, found.modified)

    def abort(self, upload: Unfinished) -> None:
        folder = self.path(upload.key).rpartition("/")[0]
        if not UNFINISHED.fullmatch(upload.handle):
            raise StoreError(f"{upload.handle!r} is no unfinished upload of {self.settings.label}.")
        self.call(partial(self.remove, f"{folder}/{upload.handle}"))
        self.tidy(folder)

    def remove(self, path: str) -> None:
        self.connected().remove(path)

    def path(self, key: str) -> str:
        checked_key(key)
        return f"{self.settings.path.rstrip('/')}/{key}"

    def names_in(self, folder: str) -> Names[Attributes]:
        return self.call(lambda: self.connected().names_in(f"{self.settings.path.rstrip('/')}/{folder}".rstrip("/")))

    def tidy(self, folder: str) -> None:
        """Removes the folder of a backup once nothing is in it."""
        if folder != self.settings.path.rstrip("/"):
            with contextlib.suppress(RefusedError, NotFoundError, DeniedError):
                self.call(lambda: self.connected().ask(RMDIR, text(folder)))

    def connected(self) -> Connection:
        if self.connection is None:
            self.connection = Connection(self.settings)
        return self.connection

    def call(self, work: Callable[[], T]) -> T:
        """What the work returns; it is done again over a new connection when the old one broke."""

        def attempt() -> T:
            with self.lock:
                try:
                    return work()
                except StoreError as error:
                    if error.transient and self.connection:
                        self.connection.close()
                        self.connection = None
                    raise

        return self.retry(attempt)


class SftpUpload:
    def __init__(self, store: SftpStore, key: str, part: str, part_bytes: int) -> None:
        self.store, self.key, self.unfinished, self.part_bytes = store, key, part, part_bytes
        self.ends: dict[int, int] = {}

    def part(self, number: int, data: bytes | memoryview) -> None:
        start = (number - 1) * self.part_bytes
        self.store.call(lambda: self.store.connected().write(self.unfinished, start, memoryview(data)))
        self.ends[number] = start + len(data)

    def complete(self) -> None:
        path, size = self.store.path(self.key), max(self.ends.values(), default=0)

        def publish() -> None:
            connection = self.store.connected()
            there = connection.attributes(path)
            if there:
                # Ours, if the answer to the first try was lost.
                if there.size == size and not connection.attributes(self.unfinished):
                    return
                raise ExistsError(f"{self.store.settings.label} has {self.key} already; it is not replaced.")
            connection.flush(self.unfinished)
            connection.ask(RENAME, text(self.unfinished), text(path))

        self.store.call(publish)

    def abort(self) -> None:
        self.store.abort(Unfinished(self.key, self.unfinished.rpartition("/")[2], datetime.now(timezone.utc)))


class Reading:
    """A file that is being read, with requests sent ahead; a connection that broke is taken up where it broke."""

    def __init__(self, store: SftpStore, path: str, start: int) -> None:
        self.store, self.path, self.position = store, path, start
        self.connection: Connection | None = None
        self.handle = b""
        self.sent: deque[tuple[int, int]] = deque()
        self.next = start
        self.ended = False

    def piece(self) -> bytes:
        connection = self.store.connected()
        if self.connection is not connection:
            self.open(connection)
        pieces: list[bytes] = []
        position = self.position
        while position - self.position < PIECE_BYTES and not self.ended:
            data = self.block(connection)
            self.ended = not data
            position += len(data)
            pieces.append(data)
        self.position = position
        return b"".join(pieces)

    def open(self, connection: Connection) -> None:
        self.sent.clear()
        self.next = self.position
        self.handle = connection.open(self.path, FOR_READING)
        self.connection = connection

    def block(self, connection: Connection) -> bytes:
        while len(self.sent) < WINDOW:
            self.sent.append(
                (connection.send(READ, text(self.handle), struct.pack(">QI", self.next, BLOCK)), self.next)
            )
            self.next += BLOCK
        number, offset = self.sent.popleft()
        data = connection.data(number)
        # A server may give less than asked for; what was sent ahead starts behind that.
        while 0 < len(data) < BLOCK:
            more = struct.pack(">QI", offset + len(data), BLOCK - len(data))
            rest = connection.data(connection.send(READ, text(self.handle), more))
            if not rest:
                break
            data += rest
        return data

    def close(self) -> None:
        with self.store.lock:
            connection = self.connection
            if connection and connection is self.store.connection:
                for number, _offset in self.sent:
                    connection.reply(number)
                connection.ask(CLOSE, text(self.handle))


class Connection:
    """One C(ssh -s … sftp) and the requests that go through it."""

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        argv = ssh_command(settings)
        try:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=2 * BLOCK
            )
        except OSError as error:
            raise StoreError(f"ssh could not be started: {error.strerror}: install openssh-client.") from error
        self.numbers = itertools.count(1)
        self.replies: dict[int, tuple[int, bytes]] = {}
        try:
            self.write_packet(struct.pack(">BI", INIT, 3))
            self.extensions = set(strings(self.read_packet()[5:]))
        except StoreError:
            self.close()
            raise

    # -- what a store needs -------------------------------------------------------------------------------------------

    def write(self, path: str, start: int, data: memoryview) -> None:
        """Writes bytes into a file that is made if need be."""
        handle = self.open(path, FOR_WRITING | CREATE)
        sent: deque[int] = deque()
        try:
            for offset in range(0, len(data), BLOCK):
                block = data[offset : offset + BLOCK]
                header = text(handle) + struct.pack(">QI", start + offset, len(block))
                sent.append(self.send(WRITE, header, block))
                if len(sent) == WINDOW:
                    self.finish(sent.popleft())
            while sent:
                self.finish(sent.popleft())
        except RefusedError as error:
            for number in sent:
                self.reply(number)
            raise self.full(path, len(data)) or error from error
        finally:
            if self.process.stdin and not self.process.stdin.closed:
                self.ask(CLOSE, text(handle))

    def flush(self, path: str) -> None:
        """Brings a file to the disk, where the server can."""
        if "fsync@openssh.com" in self.extensions:
            handle = self.open(path, FOR_WRITING)
            self.ask(EXTENDED, text("fsync@openssh.com"), text(handle))
            self.ask(CLOSE, text(handle))

    def names_in(self, folder: str) -> list[tuple[str, Attributes]]:
        """Names and attributes in a folder, folders with a slash at their end."""
        found: list[tuple[str, Attributes]] = []
        try:
            handle = self.handle(self.send(OPENDIR, text(folder)))
        except NotFoundError:
            return found
        while True:
            kind, payload = self.reply(self.send(READDIR, text(handle)))
            if kind != NAMES:
                self.ask(CLOSE, text(handle))
                self.check(kind, payload, END)
                return found
            reader = Reader(payload)
            for _number in range(reader.number()):
                name, _long, attributes = reader.string(), reader.string(), reader.attributes()
                if name not in (b".", b".."):
                    slash = "/" if stat.S_ISDIR(attributes.mode) else ""
                    found.append((name.decode(errors="surrogateescape") + slash, attributes))

    def attributes(self, path: str) -> Attributes | None:
        kind, payload = self.reply(self.send(LSTAT, text(path)))
        if kind == ATTRIBUTES:
            return Reader(payload).attributes()
        self.check(kind, payload, NO_SUCH_FILE)
        return None

    def remove(self, path: str) -> None:
        with contextlib.suppress(NotFoundError):
            self.ask(REMOVE, text(path))

    def make_folders(self, folder: str) -> None:
        if not folder or self.attributes(folder):
            return
        self.make_folders(folder.rpartition("/")[0])
        try:
            self.ask(MKDIR, text(folder), struct.pack(">II", 4, 0o700))
        except RefusedError:
            # Another run may have made it in the meantime.
            if not self.attributes(folder):
                raise

    def full(self, path: str, wanted: int) -> StoreError | None:
        """Whether the server said no because it has no room, which it has no code for."""
        if "statvfs@openssh.com" in self.extensions:
            kind, payload = self.reply(self.send(EXTENDED, text("statvfs@openssh.com"), text(path)))
            if kind == EXTENDED_REPLY:
                _block, size, _blocks, _free, available = struct.unpack_from(">5Q", payload)
                if size * available < wanted:
                    return StoreError(f"{self.settings.label} is full: make room, or prune.")
        return None

    # -- requests and replies -----------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> bytes:
        return self.handle(self.send(OPEN, text(path), struct.pack(">III", flags, 4, 0o600)))

    def handle(self, number: int) -> bytes:
        kind, payload = self.reply(number)
        if kind != HANDLE:
            self.check(kind, payload)
        return Reader(payload).string()

    def data(self, number: int) -> bytes:
        """The bytes that a read request gave, none at the end of the file."""
        kind, payload = self.reply(number)
        if kind == DATA:
            return payload[4:]
        self.check(kind, payload, END)
        return b""

    def ask(self, kind: int, *words: bytes) -> None:
        self.finish(self.send(kind, *words))

    def finish(self, number: int) -> None:
        self.check(*self.reply(number))

    def check(self, kind: int, payload: bytes, wanted: int = OK) -> None:
        """@raises StoreError: unless this is the wanted status"""
        if kind != STATUS:
            raise StoreError(f"{self.settings.label} answered something else than it was asked.")
        reader = Reader(payload)
        code, said = reader.number(), reader.string().decode(errors="replace") if reader.left() else ""
        if code == wanted:
            return
        where = self.settings.label
        if code == NO_SUCH_FILE:
            raise NotFoundError(f"{where} has no such file.")
        if code == PERMISSION_DENIED:
            raise DeniedError(f"{where} does not allow this user to do it ({said}).")
        raise RefusedError(f"{where} refused a request ({said or code}).")

    def send(self, kind: int, *words: bytes | memoryview) -> int:
        """Sends a request and gives its number."""
        number = next(self.numbers)
        self.write_packet(struct.pack(">BI", kind, number), *words)
        return number

    def reply(self, number: int) -> tuple[int, bytes]:
        """Kind and content of the reply to a request."""
        while number not in self.replies:
            packet = self.read_packet()
            kind, found = struct.unpack_from(">BI", packet)
            self.replies[found] = kind, packet[5:]
        return self.replies.pop(number)

    def write_packet(self, *words: bytes | memoryview) -> None:
        stdin = self.process.stdin
        try:
            stdin.write(struct.pack(">I", sum(len(word) for word in words)))  # type: ignore[union-attr]
            for word in words:
                stdin.write(word)  # type: ignore[union-attr]
        except (OSError, ValueError) as error:
            raise self.broken() from error

    def read_packet(self) -> bytes:
        try:
            self.process.stdin.flush()  # type: ignore[union-attr]
            size = self.exactly(4)
            return self.exactly(struct.unpack(">I", size)[0])
        except (OSError, ValueError) as error:
            raise self.broken() from error

    def exactly(self, size: int) -> bytes:
        data: bytes = self.process.stdout.read(size)  # type: ignore[union-attr]
        if len(data) < size:
            raise self.broken()
        return data

    def broken(self) -> StoreError:
        """Why ssh ended, in words."""
        self.close()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        return refusal(self.settings, lines)

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self.process.terminate()
        self.process.wait()


class Reader:
    """Takes the fields of a reply one after the other."""

    def __init__(self, data: bytes) -> None:
        self.payload, self.position = data, 0

    def left(self) -> int:
        return len(self.payload) - self.position

    def number(self, form: str = ">I") -> int:
        value: int = struct.unpack_from(form, self.payload, self.position)[0]
        self.position += struct.calcsize(form)
        return value

    def string(self) -> bytes:
        size = self.number()
        self.position += size
        return self.payload[self.position - size : self.position]

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.number(">Q") if flags & 1 else 0
        if flags & 2:
            self.number(">Q")
        mode = self.number() if flags & 4 else stat.S_IFREG
        modified = self.number(">Q") & 0xFFFFFFFF if flags & 8 else 0
        for _number in range(self.number() if flags & 0x80000000 else 0):
            self.string(), self.string()
        return Attributes(size, mode, datetime.fromtimestamp(modified, timezone.utc))


def text(value: str | bytes) -> bytes:
    data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def strings(data: bytes) -> Iterator[str]:
    reader = Reader(data)
    while reader.left():
        yield reader.string().decode(errors="replace")


def ssh_command(settings: StoreSettings) -> list[str]:
    """Nothing of this host's own ssh settings counts, and a server that is not known is never trusted."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": settings.known_hosts_file,
        "GlobalKnownHostsFile": "/dev/null",
        "IdentityFile": settings.key_file,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "ConnectTimeout": "20",
        # A dead line is noticed within a minute.
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    place = ["-p", str(settings.port), "-l", settings.user, settings.host]
    return ["ssh", "-F", "none", *words, "-s", *place, "sftp"]


def refusal(settings: StoreSettings, lines: list[str]) -> StoreError:
    """What ssh said before it ended, in words."""
    where, said = settings.label, "; ".join(line.rstrip(".") for line in lines[-3:])
    whole = " ".join(lines)
    if "HOST IDENTIFICATION HAS CHANGED" in whole:
        return StoreError(
            f"The host key of {where} is not the one in {settings.known_hosts_file}: "
            "ask the provider whether it was changed, and only then replace the line."
        )
    if "Host key verification failed" in whole or "host key is known for" in whole:
        return StoreError(
            f"The host key of {where} (port {settings.port}) is not in {settings.known_hosts_file}: "
            "put the key that the provider publishes there."
        )
    if "Permission denied" in whole or "invalid format" in whole or "UNPROTECTED PRIVATE KEY" in whole:
        return DeniedError(f"{where} does not take the key {settings.key_file} for {settings.user} ({said}).")
    if "subsystem request failed" in whole:
        return StoreError(f"{where} has no SFTP for {settings.user} ({said}).")
    return StoreError(f"{where} cannot be reached, or cut the connection: {said or 'it was closed'}.", transient=True)


def open_store(settings: StoreSettings) -> SftpStore:
    return SftpStore(settings, Retry(settings.patience_seconds))
