# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The path of a stream: source → zstd → age → parts of an upload, and back. In bounded memory, no temporary file.

An upload is completed only when every program has ended well; whatever else happens aborts it. On the way back, a
program gets the end of its input only when the sums are right, so it cannot take a part for the whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import mmap
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from . import crypto
from .commands import PIPE_BYTES, Process
from .errors import BackupError, DrillError, IdentityError, IntegrityError, SettingsError, SourceError
from .kinds import Command, Stream
from .manifest import Member
from .stores import PIECE_BYTES, Store, Upload, part_bytes

Advance = Callable[[int], None]
# One is filled while the other is on its way.
BUFFERS = 2
ZSTD_JOB_BYTES = 2**20
# How long the last call of an upload may take to end once the run has failed; the next run sweeps what is left.
ABORT_SECONDS = 30
UNKNOWN_KEY = b"no identity matched"


class Sum:
    """Counts and hashes the bytes that pass."""

    def __init__(self) -> None:
        self.bytes = 0
        self.hash = hashlib.sha256()

    def add(self, data: bytes | memoryview) -> None:
        self.bytes += len(data)
        self.hash.update(data)

    @property
    def sha256(self) -> str:
        return self.hash.hexdigest()


class Compressor(Protocol):
    def compress(self, data: bytes | memoryview) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass
class Sealing:
    """How plain bytes become stored ones.

    @param recipients: public keys; empty = not encrypted
    """

    recipients: Sequence[str]
    zstd_level: int = 3

    def file(self, name: str) -> str:
        return f"{name}.zst.age" if self.recipients else f"{name}.zst"

    def compressor(self) -> Compressor:
        """In a thread of its own, beside the one that reads and hashes; its jobs are small, and so is what it holds."""
        library = zstandard()
        words = {"threads": 1, "job_size": ZSTD_JOB_BYTES, "write_checksum": 1}
        chosen = library.ZstdCompressionParameters.from_level(self.zstd_level, **words)
        made: Compressor = library.ZstdCompressor(compression_params=chosen).compressobj()
        return made

    def command(self) -> Command:
        return crypto.encrypt_command(self.recipients) if self.recipients else Command(("cat",))


def zstandard() -> Any:
    """The library instead of the program: a dump does not pass through one more pipe, which saves CPU."""
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        raise SettingsError("The Python library zstandard is missing: install python3-zstandard.") from error


class Uploader(threading.Thread):
    """Sends parts in a thread of its own, where the upload lives from C(begin) to its end.

    @param begin: starts the upload; called when the first part is there
    @param broken: called when it has failed
    """

    def __init__(self, begin: Callable[[], Upload], part_bytes: int, broken: Callable[[], None]) -> None:
        super().__init__(name="uploader", daemon=True)
        self.begin, self.part_bytes, self.broken = begin, part_bytes, broken
        self.free: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
        self.full: queue.SimpleQueue[tuple[mmap.mmap, int] | None] = queue.SimpleQueue()
        self.made = 0
        self.complete = False
        self.error: BaseException | None = None

    def buffer(self) -> mmap.mmap | None:
        """An empty one; None = the upload has failed."""
        if self.made < BUFFERS and self.free.empty():
            # Small streams never need the second; and memory of this kind goes back to the system at once.
            self.made += 1
            return mmap.mmap(-1, self.part_bytes)
        return self.free.get()

    def run(self) -> None:
        upload: Upload | None = None
        number = 0
        try:
            while item := self.full.get():
                buffer, length = item
                upload = upload or self.begin()
                number += 1
                upload.part(number, memoryview(buffer)[:length])
                self.free.put(buffer)
            if self.complete:
                upload = upload or self.begin()
                upload.complete()
                return
        except BaseException as error:
            self.error = error
            self.free.put(None)
            self.broken()
        if upload:
            # Its first error is the one to report.
            with contextlib.suppress(BackupError):
                upload.abort()

    def finish(self) -> None:
        """@raises StoreError: if a part or the completion failed"""
        self.complete = True
        self.full.put(None)
        self.join()
        if self.error:
            raise self.error

    def cancel(self) -> None:
        """Aborts the upload, unless a call to the store does not come back in time."""
        self.complete = False
        self.free.put(None)
        self.full.put(None)
        self.join(ABORT_SECONDS)


class Collector(threading.Thread):
    """Reads what the last program writes, and fills parts with it."""

    def __init__(self, uploader: Uploader, source: IO[bytes], broken: Callable[[], None]) -> None:
        super().__init__(name="collector", daemon=True)
        self.uploader, self.source, self.broken = uploader, source, broken
        self.sum = Sum()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.fill():
                pass
        except BaseException as error:
            self.error = error
            self.broken()

    def fill(self) -> bool:
        """One part; whether there may be more."""
        buffer = self.uploader.buffer()
        if buffer is None:
            return False
        view, length = memoryview(buffer), 0
        while length < len(buffer):
            count = os.readv(self.source.fileno(), [view[length:]])
            if not count:
                break
            self.sum.add(view[length : length + count])
            length += count
        if length:
            self.uploader.full.put((buffer, length))
        return length == len(buffer)


def store_stream(store: Store, key: str, stream: Stream, sealing: Sealing, advance: Advance) -> tuple[Sum, Sum]:
    """Stores what a command writes; the sums of the plain and of the stored bytes.

    @raises SourceError: if the command failed
    @raises StoreError: if the store did
    """
    size = part_bytes(stream.expected_bytes)
    compressor = sealing.compressor()
    plain = Sum()
    with contextlib.ExitStack() as stack:
        sealer = Process(sealing.command(), subprocess.PIPE, subprocess.PIPE)
        stack.callback(sealer.end)
        source = Process(stream.command, stdout=subprocess.PIPE)
        stack.callback(source.end)

        def broken() -> None:
            """Nobody waits for the rest: whoever makes it is to stop."""
            sealer.signal(signal.SIGKILL)
            source.stop()

        uploader = Uploader(lambda: store.begin(key, size), size, broken)
        collector = Collector(uploader, sealer.stdout, broken)
        uploader.start()
        collector.start()
        try:
            # Whatever broke the pipe says more than that it is broken.
            with contextlib.suppress(BrokenPipeError):
                for piece in pieces_of(source.stdout):
                    plain.add(piece)
                    if stream.tap:
                        stream.tap(piece)
                    write(sealer.stdin, compressor.compress(piece))
                    advance(len(piece))
                write(sealer.stdin, compressor.flush())
                sealer.stdin.close()
                collector.join()
            for thread in (uploader, collector):
                if thread.error:
                    raise thread.error
            check_source(source, stream)
            if sealer.wait():
                raise BackupError(f"{sealer.failure()}.")
        except BaseException:
            sealer.signal(signal.SIGKILL)
            uploader.cancel()
            collector.join(ABORT_SECONDS)
            raise
        uploader.finish()
    return plain, collector.sum


def check_source(process: Process, stream: Stream) -> None:
    stream.status, stream.said = process.wait(), process.tail.decode(errors="replace")
    if stream.status not in stream.ok_status:
        raise SourceError(f"{stream.name}: {process.failure()}. Nothing of this backup is kept.")


@dataclass
class Reading:
    """A member in the store, as plain bytes.

    @param identity: the private key; "" = the member is not encrypted
    """

    store: Store
    key: str
    member: Member
    identity: str
    advance: Advance

    def feed(self, command: Command) -> None:
        """Runs a command with the plain bytes as its input; it gets the end of them only if the sums are right.

        @raises IntegrityError: if they are not
        @raises DrillError: if the command failed
        """
        target = Process(command, subprocess.PIPE)
        try:
            with Guard(target) as guard:
                listening = True
                with contextlib.closing(self.pieces()) as pieces:
                    for piece in pieces:
                        try:
                            if listening:
                                write(target.stdin, piece)
                        except BrokenPipeError:
                            # It has seen enough, or failed; either may be because these are not the right bytes.
                            listening = False
                guard.release()
            if target.wait():
                raise DrillError(f"{target.failure()}.")
        finally:
            target.end()

    def pieces(self) -> Generator[memoryview, None, None]:
        """The plain bytes; the generator ends well only if the sums of both forms are right."""
        library = zstandard()
        stored, plain = Sum(), Sum()
        with contextlib.ExitStack() as stack:
            opener = self.opener(stack)
            stack.callback(opener.end)
            feeder = Feeder(self.stored_pieces(stored), opener)
            stack.callback(feeder.stop)
            feeder.start()
            damage = ""
            try:
                # Never more than a piece of it in memory, however well it was compressed.
                reader = library.ZstdDecompressor().stream_reader(opener.stdout, read_size=PIECE_BYTES)
                for piece in pieces_of(reader):
                    plain.add(piece)
                    yield piece
            except library.ZstdError as error:
                damage = str(error)
                opener.signal(signal.SIGKILL)
            feeder.join()
            self.judge(opener, feeder, stored, plain, damage)

    def opener(self, stack: contextlib.ExitStack) -> Process:
        """The program that gives back what was encrypted."""
        if not self.identity:
            return Process(Command(("cat",)), subprocess.PIPE, subprocess.PIPE)
        key = pipe_with(self.identity.encode())
        stack.callback(os.close, key)
        return Process(crypto.decrypt_command(key), subprocess.PIPE, subprocess.PIPE, [key])

    def stored_pieces(self, stored: Sum) -> Iterator[bytes]:
        for piece in self.store.read(self.key):
            stored.add(piece)
            self.advance(len(piece))
            yield piece

    def judge(self, opener: Process, feeder: Feeder, stored: Sum, plain: Sum, damage: str) -> None:
        """Raises the error that tells most: that of the store, the stored bytes, the key, what they hold."""
        if feeder.error:
            raise feeder.error
        self.judge_stored(stored)
        if not damage and opener.wait():
            if UNKNOWN_KEY in opener.tail:
                raise IdentityError(f"{self.key} was not encrypted for the private key of this host.")
            damage = opener.failure()
        if damage:
            raise IntegrityError(f"{self.key} is what was stored, but cannot be read: {damage}.")
        if (plain.bytes, plain.sha256) != (self.member.plain_bytes, self.member.plain_sha256):
            raise IntegrityError(f"{self.key} is what was stored, but what it holds is not what was backed up.")

    def judge_stored(self, stored: Sum) -> None:
        member = self.member
        if stored.bytes != member.stored_bytes:
            raise IntegrityError(
                f"{self.key} has {stored.bytes} bytes, its manifest says {member.stored_bytes}: cut off?"
            )
        if stored.sha256 != member.stored_sha256:
            raise IntegrityError(f"{self.key} is not what was stored: it was changed, damaged or swapped.")

    def check(self) -> None:
        """Reads and decrypts all of it.

        @raises IntegrityError: if one of the sums is not right
        """
        for _piece in self.pieces():
            pass

    def check_stored(self) -> None:
        """Reads all stored bytes; needs no key.

        @raises IntegrityError: if they are not those that were stored
        """
        stored = Sum()
        for _piece in self.stored_pieces(stored):
            pass
        self.judge_stored(stored)


class Guard:
    """Holds the input of a program open, too, until it was given all of it.

    When this process is killed, the program would see the end of its input and take what it has for the whole: then
    the guard, which is left, ends it first.
    """

    SCRIPT = 'read -r all || kill -9 "-$0"'

    def __init__(self, target: Process) -> None:
        self.target = target
        self.popen = subprocess.Popen(
            ("sh", "-c", self.SCRIPT, str(target.popen.pid)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[target.stdin.fileno()],
            start_new_session=True,
        )

    def __enter__(self) -> Guard:
        return self

    def release(self) -> None:
        """Lets the program see the end of its input."""
        self.target.stdin.close()
        self.popen.communicate(b"all\n")

    def __exit__(self, *error: object) -> None:
        if self.popen.poll() is None:
            # Not the guard ends the program now: its owner does, and may tell why.
            self.target.stop()
            self.popen.kill()
            self.popen.communicate()


class Feeder(threading.Thread):
    """Writes what the store gives to the first program. Reads on when that has ended: the sum tells why it did."""

    def __init__(self, pieces: Iterator[bytes], opener: Process) -> None:
        super().__init__(name="feeder", daemon=True)
        self.pieces, self.opener = pieces, opener
        self.error: BaseException | None = None
        self.stopped = False

    def run(self) -> None:
        listening = True
        try:
            for piece in self.pieces:
                if self.stopped:
                    break
                try:
                    if listening:
                        write(self.opener.stdin, piece)
                except BrokenPipeError:
                    listening = False
        except BaseException as error:
            self.error = error
        with contextlib.suppress(OSError):
            self.opener.stdin.close()

    def stop(self) -> None:
        self.stopped = True
        self.opener.signal(signal.SIGKILL)
        self.join(ABORT_SECONDS)


def pieces_of(source: Any) -> Iterator[memoryview]:
    """What a binary file gives, in the same memory again and again."""
    buffer = memoryview(bytearray(PIPE_BYTES))
    while count := source.readinto(buffer):
        yield buffer[:count]


def write(pipe: IO[bytes], data: bytes | memoryview) -> None:
    """All of it; a pipe without a buffer takes what fits."""
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def pipe_with(data: bytes) -> int:
    """The end of a pipe from which these few bytes can be read: a key never touches a disk."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
    finally:
        os.close(writing)
    return reading
