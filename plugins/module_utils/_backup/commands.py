# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs programs: as the user who may, with the end of what they said kept for messages."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterable
from typing import IO, Any

from .errors import SourceError
from .kinds import Command

# Enough for the last lines of a dump that failed, too little to fill the memory.
TAIL_BYTES = 4000
POLITE_SECONDS = 5
PIPE_BYTES = 2**20


class Process:
    """A program that runs, the leader of its own group of processes.

    @param stdin: as for Popen; so is stdout
    @param fds: what it inherits beside its streams
    @raises SourceError: if it cannot be started
    """

    def __init__(
        self,
        command: Command,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        fds: Iterable[int] = (),
    ) -> None:
        self.name = os.path.basename(command.argv[0])
        self.tail = b""
        self.popen = popen(command, stdin, stdout, tuple(fds))
        self.listener = threading.Thread(target=self.listen, name=f"{self.name} stderr", daemon=True)
        self.listener.start()

    def listen(self) -> None:
        """A pipe that nobody reads would stop the program."""
        stderr = self.popen.stderr
        while stderr and (piece := os.read(stderr.fileno(), TAIL_BYTES)):
            self.tail = (self.tail + piece)[-TAIL_BYTES:]

    @property
    def stdin(self) -> IO[bytes]:
        if self.popen.stdin is None:
            raise ValueError(f"{self.name} has no stdin")
        return self.popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        if self.popen.stdout is None:
            raise ValueError(f"{self.name} has no stdout")
        return self.popen.stdout

    def wait(self) -> int:
        """The exit status; negative: the signal that ended it."""
        status = self.popen.wait()
        # What a child of it that lives on may still say does not count.
        self.listener.join(timeout=1)
        return status

    def signal(self, number: int) -> None:
        """To it and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def stop(self) -> None:
        """Ends it and all that it started: politely, then for certain."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(POLITE_SECONDS)
                return

    def end(self) -> None:
        """Stops it, then closes its pipes: whoever reads them is to find no end before it has ended."""
        self.stop()
        self.wait()
        # A child that has left the group may still hold the other end of this one, so the listener may still read it.
        heard = [] if self.listener.is_alive() else [self.popen.stderr]
        for pipe in (self.popen.stdin, self.popen.stdout, *heard):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def failure(self) -> str:
        """How it ended, with the end of what it said: C(pg_dump failed (exit status 1): no such table)."""
        status = self.wait()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed (exit status {status})"
        said = last_lines(self.tail.decode(errors="replace"))
        return f"{self.name} {how}" + (f": {said}" if said else "")


def popen(command: Command, stdin: Any, stdout: Any, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    account: dict[str, Any] = {}
    if command.user:
        try:
            entry = pwd.getpwnam(command.user)
        except KeyError as error:
            raise SourceError(
                f"{command.argv[0]} is to run as {command.user}, but this host has no such user."
            ) from error
        env.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)
        if entry.pw_uid != os.geteuid():
            groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
            account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
    try:
        return subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            bufsize=0,
            pipesize=PIPE_BYTES,
            cwd=command.cwd,
            env={**env, **command.env},
            pass_fds=fds,
            start_new_session=True,
            **account,
        )
    except FileNotFoundError as error:
        raise SourceError(
            f"{command.argv[0]} is not installed on this host (or {command.cwd} does not exist)."
        ) from error
    except OSError as error:
        raise SourceError(f"{command.argv[0]} could not be started: {error.strerror}.") from error


def output(command: Command, text_in: str = "", ok_status: tuple[int, ...] = (0,)) -> str:
    """What a short program prints.

    @raises SourceError: if it fails, with the end of what it said
    """
    process = popen(command, subprocess.PIPE, subprocess.PIPE)
    try:
        out, said = process.communicate(text_in.encode())
    finally:
        # Nothing is left running when this is interrupted.
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode not in ok_status:
        tail = last_lines(said.decode(errors="replace"))
        raise SourceError(f"{shlex.join(command.argv[:3])} … failed (exit status {process.returncode}): {tail}")
    return out.decode(errors="replace")


def last_lines(text: str, count: int = 5) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-count:])
