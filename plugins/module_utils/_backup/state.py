# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What this host remembers between runs, and who may run now: state files, locks, scratch folders."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import BackupError, BusyError

# How long a prune waits for backups, and they for it, before it says busy.
WAIT_SECONDS = 3600
POLL_SECONDS = 0.5
SCRATCH_CHARACTERS = 30


def read_states(folder: str) -> dict[str, dict[str, Any]]:
    """What is known of every job, by name. A file that cannot be read is a job of which nothing is known."""
    return {path.stem: known for path in sorted(Path(folder).glob("*.json")) if (known := read_state(path)) is not None}


def read_state(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known
    return None


def remember(folder: str, job: str, **values: Any) -> None:
    """Adds to what is known of a job; readers see the old file or the new one."""
    path = Path(folder) / f"{job}.json"
    # A drill and a backup of the same job may end at the same time.
    with lock(folder, "state", wait_seconds=60):
        known = read_state(path) or {}
        replace(path, json.dumps({**known, **values}, indent=1, sort_keys=True) + "\n")


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file so that neither a reader nor a power cut finds half of it."""
    temporary = path.with_name(f".{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as handle:
        # Whatever the mask of the process says.
        os.fchmod(handle.fileno(), mode)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def lock(
    folder: str,
    name: str,
    what: str = "Another run",
    *,
    shared: bool = False,
    wait_seconds: float = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Holds a lock of this host; the kernel lets go of it when the process ends, however that happens.

    @param what: for whom, as the next one is told: C(The backup of shop)
    @raises BusyError: with who holds it
    """
    path = Path(folder) / "locks" / name
    with open_lock(path) as handle:
        deadline, waited = time.monotonic() + wait_seconds, False
        while not taken(handle, shared):
            holder = path.read_text(encoding="utf-8").strip() or what
            if time.monotonic() >= deadline:
                raise BusyError(f"{holder} is not done yet: try again later.")
            if not waited:
                say(f"Waiting: {holder} is not done yet.")
            waited = True
            time.sleep(POLL_SECONDS)
        # Of several that share it, the last one is named; none on a disk that is full.
        with contextlib.suppress(OSError):
            handle.truncate(0)
            handle.write(f"{what} (process {os.getpid()}, since {time.strftime('%H:%M:%S')})".encode())
        yield


def open_lock(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    except OSError as error:
        raise BackupError(f"The lock {path} cannot be made: {error.strerror}.") from error


def taken(handle: IO[bytes], shared: bool) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def scratch(base: str, name: str) -> Iterator[Path]:
    """An empty folder for one run. What a run that was killed left there is removed first: its lock is ours now."""
    # The path of a server's socket in there has 107 bytes at most.
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    parent = Path(base) / (name if len(name) <= SCRATCH_CHARACTERS else f"{name[: SCRATCH_CHARACTERS - 11]}-{digest}")
    made = [] if parent.parent.exists() else [parent.parent]
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(dir=parent))
    # Others pass through to what is theirs, whatever the mask of this process.
    for folder in (*made, parent, path):
        folder.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(parent, ignore_errors=True)
