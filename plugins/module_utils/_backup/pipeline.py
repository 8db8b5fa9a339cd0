# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The path of a stream: source → zstd → age → parts of an upload, and back. In bounded memory, no temporary file.

An upload is completed only when every program has ended well; whatever else happens aborts it. On the way back, a
program gets the end of its input only when the sums are right, so it cannot take a part for the whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from . import crypto
from .commands import PIPE_BYTES, Process
from .errors import BackupError, DrillError, IdentityError, IntegrityError, SourceError
from .kinds import Command, Stream
from .manifest import Member
from .stores import Store, Upload, part_bytes

Advance = Callable[[int], None]
# One is filled while the other is on its way.
BUFFERS = 2
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


@dataclass
class Sealing:
    """How plain bytes become stored ones.

    @param recipients: public keys; empty = not encrypted
    """

    recipients: Sequence[str]
    zstd_level: int = 3

    def file(self, name: str) -> str:
        return f"{name}.zst.age" if self.recipients else f"{name}.zst"

    def commands(self) -> list[Command]:
        zstd = Command(("zstd", "-q", "-c", f"-{self.zstd_level}", "--single-thread"))
        return [zstd, *([crypto.encrypt_command(self.recipients)] if self.recipients else [])]


class Chain:
    """Programs, each reading what the one before wrote. Whoever leaves it early has ended them all."""

    def __init__(self, commands: Sequence[Command], fds: Sequence[int] = ()) -> None:
        """@param fds: what the first program inherits beside its streams"""
        self.processes: list[Process] = []
        try:
            for command in commands:
                if not self.processes:
                    self.processes.append(Process(command, subprocess.PIPE, subprocess.PIPE, fds))
                    continue
                pipe = self.processes[-1].stdout
                self.processes.append(Process(command, pipe, subprocess.PIPE))
                # The reader alone has it now, or the writer would not notice when the reader ends.
                pipe.close()
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Chain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def kill(self) -> None:
        """Ends them and leaves the pipes as they are; for threads that do not own the chain."""
        for process in self.processes:
            process.signal(signal.SIGKILL)

    def end(self) -> None:
        for process in self.processes:
            process.end()

    @property
    def out(self) -> int:
        return self.processes[-1].stdout.fileno()

    def feed(self, data: bytes | memoryview) -> None:
        write(self.processes[0].stdin.fileno(), data)

    def close(self) -> None:
        self.processes[0].stdin.close()

    def check(self) -> None:
        """@raises BackupError: if one of the programs failed"""
        for process in self.processes:
            if process.wait():
                raise BackupError(f"{process.failure()}.")


class Uploader(threading.Thread):
    """Sends parts in a thread of its own, where the upload lives from C(begin) to its end.

    @param begin: starts the upload; called when the first part is there
    """

    def __init__(self, begin: Callable[[], Upload], part_bytes: int) -> None:
        super().__init__(name="uploader", daemon=True)
        self.begin, self.part_bytes = begin, part_bytes
        self.free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self.full: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()
        self.made = 0
        self.complete = False
        self.error: BaseException | None = None

    def buffer(self) -> bytearray | None:
        """An empty one; None = the upload has failed."""
        if self.made < BUFFERS and self.free.empty():
            # Small streams never need the second.
            self.made += 1
            return bytearray(self.part_bytes)
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
            for _buffer in range(BUFFERS):
                self.free.put(None)
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

    def __init__(self, uploader: Uploader, chain: Chain, source: Chain) -> None:
        super().__init__(name="collector", daemon=True)
        self.uploader, self.chain, self.source = uploader, chain, source
        self.sum = Sum()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.fill():
                pass
        except BaseException as error:
            self.error = error
            self.broken()

    def broken(self) -> None:
        """Nobody waits for the rest: whoever makes it is to stop."""
        self.source.kill()
        self.chain.kill()

    def fill(self) -> bool:
        """One part; whether there may be more."""
        buffer = self.uploader.buffer()
        if buffer is None:
            self.broken()
            return False
        view, length = memoryview(buffer), 0
        while length < len(buffer):
            count = os.readv(self.chain.out, [view[length:]])
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
    plain = Sum()
    with contextlib.ExitStack() as stack:
        chain = stack.enter_context(Chain(sealing.commands()))
        source = stack.enter_context(Chain([stream.command]))
        uploader = Uploader(lambda: store.begin(key, size), size)
        collector = Collector(uploader, chain, source)
        uploader.start()
        collector.start()
        try:
            # Whatever broke the pipe says more than that it is broken.
            with contextlib.suppress(BrokenPipeError):
                pump(source, chain, plain, stream, advance)
                chain.close()
                collector.join()
            for thread in (uploader, collector):
                if thread.error:
                    raise thread.error
            check_source(source.processes[0], stream)
            chain.check()
            collector.join()
        except BaseException:
            chain.kill()
            uploader.cancel()
            collector.join(ABORT_SECONDS)
            raise
        uploader.finish()
    return plain, collector.sum


def pump(source: Chain, chain: Chain, plain: Sum, stream: Stream, advance: Advance) -> None:
    buffer = bytearray(PIPE_BYTES)
    view, handle = memoryview(buffer), source.out
    while count := os.readv(handle, [buffer]):
        piece = view[:count]
        plain.add(piece)
        if stream.tap:
            stream.tap(piece)
        chain.feed(piece)
        advance(count)


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
            listening = True
            with contextlib.closing(self.pieces()) as pieces:
                for piece in pieces:
                    try:
                        if listening:
                            write(target.stdin.fileno(), piece)
                    except BrokenPipeError:
                        # It has seen enough, or failed; either may be because these are not the right bytes.
                        listening = False
            target.stdin.close()
            if target.wait():
                raise DrillError(f"{target.failure()}.")
        finally:
            target.end()

    def pieces(self) -> Generator[memoryview, None, None]:
        """The plain bytes; the generator ends well only if the sums of both forms are right."""
        stored, plain = Sum(), Sum()
        commands = [Command(("zstd", "-q", "-d", "-c"))]
        with contextlib.ExitStack() as stack:
            fds: list[int] = []
            if self.identity:
                fds.append(pipe_with(self.identity.encode()))
                stack.callback(os.close, fds[0])
                commands.insert(0, crypto.decrypt_command(fds[0]))
            chain = stack.enter_context(Chain(commands, fds))
            feeder = Feeder(self.stored_pieces(stored), chain)
            stack.callback(feeder.stop)
            feeder.start()
            yield from self.plain_pieces(chain, plain)
            feeder.join()
            self.judge(chain, feeder, stored, plain)

    def stored_pieces(self, stored: Sum) -> Iterator[bytes]:
        for piece in self.store.read(self.key):
            stored.add(piece)
            self.advance(len(piece))
            yield piece

    def plain_pieces(self, chain: Chain, plain: Sum) -> Iterator[memoryview]:
        buffer = bytearray(PIPE_BYTES)
        while count := os.readv(chain.out, [buffer]):
            piece = memoryview(buffer)[:count]
            plain.add(piece)
            yield piece

    def judge(self, chain: Chain, feeder: Feeder, stored: Sum, plain: Sum) -> None:
        """Raises the error that tells most: the store's, that of the stored bytes, the key's, a program's."""
        if feeder.error:
            raise feeder.error
        self.judge_stored(stored)
        for process in chain.processes:
            if process.wait() and UNKNOWN_KEY in process.tail:
                raise IdentityError(f"{self.key} was not encrypted for the private key of this host.")
            if process.wait():
                raise IntegrityError(f"{self.key} is what was stored, but cannot be read: {process.failure()}.")
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


class Feeder(threading.Thread):
    """Writes what the store gives to the first program. Reads on when that has ended: the sum tells why it did."""

    def __init__(self, pieces: Iterator[bytes], chain: Chain) -> None:
        super().__init__(name="feeder", daemon=True)
        self.pieces, self.chain = pieces, chain
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
                        self.chain.feed(piece)
                except BrokenPipeError:
                    listening = False
        except BaseException as error:
            self.error = error
        with contextlib.suppress(OSError):
            self.chain.close()

    def stop(self) -> None:
        self.stopped = True
        self.chain.kill()
        self.join(ABORT_SECONDS)


def write(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def pipe_with(data: bytes) -> int:
    """The end of a pipe from which these few bytes can be read: a key never touches a disk."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
    finally:
        os.close(writing)
    return reading
