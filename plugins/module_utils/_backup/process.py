# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs the commands that the kinds build."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import IO, Any

from .errors import BackupError, SourceError
from .kinds import Command

# The end of what a program said is what explains its failure.
SAID_BYTES = 4096
Pipe = int | IO[bytes] | None


def start(command: Command, *, stdin: Pipe = subprocess.DEVNULL, stdout: Pipe, stderr: Pipe) -> subprocess.Popen[bytes]:
    """Starts a command, as the account that it names.

    @raises SourceError: if there is no such program or account
    """
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}
    account: dict[str, Any] = {}
    try:
        if command.user:
            entry = pwd.getpwnam(command.user)
            env["HOME"] = entry.pw_dir
            if entry.pw_uid != os.geteuid():
                groups = os.getgrouplist(command.user, entry.pw_gid)
                account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
        return subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**env, **command.env},
            cwd=command.cwd,
            **account,
        )
    except KeyError as error:
        raise SourceError(f"There is no account {command.user!r} to run {command.argv[0]} as.") from error
    except OSError as error:
        raise SourceError(f"{command.argv[0]} cannot be started: {error.strerror}; is it installed?") from error


def run(
    command: Command,
    text_in: str = "",
    *,
    error: type[BackupError] = SourceError,
    ok_status: tuple[int, ...] = (0,),
    timeout_seconds: float = 3600,
) -> str:
    """Runs a command to its end and gives what it wrote; for short answers, not for data.

    @raises BackupError: of the given family, with the end of what the command said, if it failed or took too long
    """
    pipe = subprocess.PIPE
    with start(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            out, said = process.communicate(text_in.encode(), timeout_seconds)
        except subprocess.TimeoutExpired as late:
            process.kill()
            raise error(f"{command.argv[0]} did not end within {timeout_seconds:.0f} s.") from late
    if process.returncode not in ok_status:
        raise error(f"{command.argv[0]} ended with {process.returncode}: {last_words(said) or last_words(out)}")
    return out.decode(errors="surrogateescape")


def last_words(said: bytes) -> str:
    """The last lines of a program's messages in one, for a sentence."""
    lines = said[-SAID_BYTES:].decode(errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-3:])
