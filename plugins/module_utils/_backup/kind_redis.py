# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Redis instance: the snapshot that it sends to a replica, as one stream. Redis 6.2 and later.

The snapshot is of one moment, so it is enough for an instance with an append-only file too. That file is made
from it when it is restored: Redis reads the append-only file and no snapshot where C(appendonly) is on.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import renames
from .commands import Process, output
from .errors import BackupError, BusyError, DrillError, SettingsError, SourceError
from .kinds import Backup, Check, Command, Context, Stream, options
from .manifest import Manifest
from .memory import free_memory
from .names import STAMP
from .table import bytes_text

OPTIONS: Mapping[str, Any] = {
    # The user needs the commands sync, psync, replconf and info, and no keys.
    "user": "",
    "password": "",
    "address": "127.0.0.1",
    "port": 6379,
    # In place of address and port.
    "socket": "",
    "tls": False,
    "ca_file": "",
    "cert_file": "",
    "key_file": "",
    # For drills and restores.
    "unit": "redis-server.service",
    "config_file": "/etc/redis/redis.conf",
    "account": "redis",
}
REQUIRED: tuple[str, ...] = ()
RESTORE: Mapping[str, str] = {"path": "an empty folder for the snapshot, in place of the running instance"}
MEMBER = "dump.rdb"
MAGIC = b"REDIS"
POLL_SECONDS = 0.05
START_SECONDS = 30
# Memory for a server beside its data.
SPARE = 1.2
# Redis without the settings that matter here, as redis.conf(5) and the source of Redis 7 have them.
DEFAULTS = {"dir": "./", "dbfilename": "dump.rdb", "appendonly": "no"}


def client(wanted: Mapping[str, Any], *words: str) -> Command:
    """redis-cli for a job; the password is in its environment, where only its own account can see it."""
    address = ["-s", wanted["socket"]] if wanted["socket"] else ["-h", wanted["address"], "-p", str(wanted["port"])]
    tls = ["--tls"] if wanted["tls"] else []
    for option, name in (("--cacert", "ca_file"), ("--cert", "cert_file"), ("--key", "key_file")):
        tls += [option, wanted[name]] if wanted[name] else []
    user = ["--user", wanted["user"]] if wanted["user"] else []
    env = {"REDISCLI_AUTH": wanted["password"]} if wanted["password"] else {}
    return Command(("redis-cli", *address, *tls, *user, *words), env=env)


def info(command: Command) -> dict[str, str]:
    """What INFO says. redis-cli ends with 0 even if it was refused, so the answer itself has to tell.

    @raises SourceError: with the answer, if it is not that of INFO
    """
    text = output(command)
    found = dict(line.rstrip("\r").split(":", 1) for line in text.splitlines() if ":" in line and line[0] != "#")
    if "redis_version" not in found:
        raise SourceError(f"Redis did not say how it is: {text.strip()[:200] or 'no answer'}")
    return found


def keys(found: Mapping[str, str]) -> int:
    """All keys of all databases, from C(db0:keys=4,expires=0,…)."""
    counts = [re.match(r"keys=(\d+)", value) for name, value in found.items() if re.fullmatch(r"db\d+", name)]
    return sum(int(count[1]) for count in counts if count)


def commands_run(found: Mapping[str, str]) -> int:
    return sum(int(found.get(name, 0)) for name in ("total_commands_processed", "expired_keys", "evicted_keys"))


def streams(context: Context) -> Iterator[Stream]:
    wanted = options(context.job)
    before = info(client(wanted, "INFO"))
    head = bytearray()

    def tap(piece: bytes | memoryview) -> None:
        if len(head) < len(MAGIC):
            head.extend(piece[: len(MAGIC) - len(head)])

    # Snapshots are compressed a little, and hold no indexes; the memory in use is a generous guess.
    expected = int(before.get("used_memory", 0))
    stream = Stream(MEMBER, client(wanted, "--rdb", "-"), expected, tap=tap)
    yield stream
    if bytes(head) != MAGIC:
        raise SourceError("What redis-cli gave is not a snapshot.")
    after = info(client(wanted, "INFO"))
    stream.evidence.update(
        version=before["redis_version"],
        append_only=before.get("aof_enabled") == "1",
        memory_bytes=expected,
        # The snapshot was taken between the two, so its keys are between these, but for what was done meanwhile.
        keys=[keys(before), keys(after)],
        commands=max(commands_run(after) - commands_run(before), 0),
    )


def needed_bytes(manifest: Manifest) -> int:
    return manifest.plain_bytes


def drill(context: Context, backup: Backup) -> list[Check]:
    wanted = options(context.job)
    evidence = backup.manifest.member(MEMBER).evidence
    check_memory(int(evidence["memory_bytes"]))
    folder = context.scratch / "redis"
    make_folder(folder, wanted["account"])
    counted = place(backup, folder, MEMBER, wanted["account"])
    with private_server(folder, MEMBER, wanted["account"]) as ask:
        found = info(ask("INFO"))
    return [
        Check("snapshot", True, f"redis-check-rdb read {counted['read']} keys to the end and found the checksum right"),
        check_loaded(counted, found),
        check_bounds(counted["read"], evidence),
    ]


def check_loaded(counted: Mapping[str, int], found: Mapping[str, str]) -> Check:
    """Whether the server has what the snapshot holds; what expires while it loads is not missing."""
    there = keys(found)
    ok = counted["read"] - counted["expires"] <= there <= counted["read"]
    text = f"a server loaded {there} of {counted['read']} keys; {counted['expires']} of them expire by themselves"
    return Check("loaded", ok, text)


def check_bounds(read: int, evidence: Mapping[str, Any]) -> Check:
    """Whether the snapshot is that of the instance: as many keys as it had, give or take what was done meanwhile.

    One command may change many keys, so only far more or far fewer are wrong.
    """
    low, high = min(evidence["keys"]), max(evidence["keys"])
    slack = high // 2 + 100 * int(evidence["commands"])
    ok = low - slack <= read <= high + slack
    return Check("amount", ok, f"{read} keys; the instance had {low} to {high} when it was backed up")


def check_memory(needed: int) -> None:
    """@raises BusyError: if a second instance would not fit into the memory that this process may use"""
    free = free_memory()
    if free < needed * SPARE:
        raise BusyError(
            f"The drill was skipped: it needs {bytes_text(needed * SPARE)} of memory, and {bytes_text(free)} are free. "
            "Give the drills more memory, or drill this job on another host."
        )


def make_folder(folder: Path, account: str) -> None:
    try:
        entry = pwd.getpwnam(account)
    except KeyError as error:
        raise SettingsError(f"This host has no account {account}: install redis-server.") from error
    folder.mkdir(mode=0o750, parents=True)
    os.chown(folder, entry.pw_uid, entry.pw_gid)


def place(backup: Backup, folder: Path, name: str, account: str) -> dict[str, int]:
    """Writes the snapshot to a file and has it checked; C(read) keys, of which C(expires) do so."""
    path = folder / name
    # As the account of Redis, as all that follows: the snapshot may come from anybody who has the public key.
    backup.feed(MEMBER, Command(("dd", f"of={path}", "bs=1M", "iflag=fullblock", "status=none"), account))
    try:
        text = output(Command(("redis-check-rdb", str(path)), account))
    except SourceError as error:
        raise DrillError(f"redis-check-rdb refused the snapshot: {error}") from error
    return {"read": count_of(text, "keys read"), "expires": count_of(text, "expires")}


def count_of(text: str, what: str) -> int:
    found = re.search(rf"\[info\] (\d+) {what}", text)
    if not found:
        raise DrillError(f"redis-check-rdb did not say how many {what} there are.")
    return int(found[1])


@contextmanager
def private_server(folder: Path, name: str, account: str) -> Iterator[Any]:
    """A server that nobody else can reach, with the snapshot loaded; gives a function that makes commands for it.

    @raises DrillError: if it does not load
    """
    # Relative, because the whole path may be longer than a socket's may be.
    socket, cwd = "private.sock", str(folder)
    words = ("--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", cwd)
    rest = ("--dbfilename", name, "--save", "", "--appendonly", "no", "--daemonize", "no")
    server = Process(Command(("redis-server", *words, *rest), account, cwd=cwd))

    def ask(*words: str) -> Command:
        return Command(("redis-cli", "-s", socket, *words), account, cwd=cwd)

    try:
        wait_until_loaded(server, ask)
        yield ask
        # Without a snapshot: the one on disk is the one that was restored.
        output(ask("SHUTDOWN", "NOSAVE"), ok_status=(0, 1))
        server.wait()
    finally:
        server.end()
        (folder / socket).unlink(missing_ok=True)


def wait_until_loaded(server: Process, ask: Any) -> None:
    """How long it may take depends on the data, so it ends when the server does; only the first answer has a limit."""
    deadline = time.monotonic() + START_SECONDS
    answered = False
    while True:
        if server.popen.poll() is not None:
            raise DrillError(f"A private Redis did not load the snapshot: {server.failure()}.")
        try:
            found = info(ask("INFO"))
        except SourceError:
            found = {}
        answered = answered or bool(found)
        if found.get("loading") == "0":
            return
        if not answered and time.monotonic() > deadline:
            raise DrillError(f"A private Redis did not answer within {START_SECONDS} s.")
        time.sleep(POLL_SECONDS)


def settings_of(config_file: str) -> dict[str, str]:
    """What a redis.conf says of its files; the last line of a name counts."""
    found = dict(DEFAULTS)
    try:
        lines = Path(config_file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"{config_file} cannot be read: {error.strerror}; set config_file of the job.") from error
    for line in lines:
        name, _space, value = line.strip().partition(" ")
        if name.lower() in found:
            found[name.lower()] = value.strip().strip("\"'")
    if not found["dir"].startswith("/"):
        raise SettingsError(f"{config_file} has no absolute 'dir', so it is not known where the data belongs.")
    return found


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    wanted = options(context.job)
    if target.get("path"):
        folder = Path(target["path"])
        if folder.exists() and any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty; name a folder that is, or that does not exist.")
        if not folder.exists():
            make_folder(folder, wanted["account"])
        counted = place(backup, folder, MEMBER, wanted["account"])
        return [f"The snapshot with {counted['read']} keys is {folder / MEMBER}."]
    return restore_instance(context, backup, wanted)


def restore_instance(context: Context, backup: Backup, wanted: Mapping[str, Any]) -> list[str]:
    """Prepares a data folder beside, then exchanges the two while the instance is stopped.

    The running instance is stopped before the second one loads: two of them may not fit into the memory.
    """
    settings = settings_of(wanted["config_file"])
    folder = Path(settings["dir"])
    stamp = datetime.now(timezone.utc).strftime(STAMP)
    beside, before = (folder.with_name(f"{folder.name}.{word}-{stamp}") for word in ("restored", "before"))
    make_folder(beside, wanted["account"])
    stopped = False
    try:
        counted = place(backup, beside, settings["dbfilename"], wanted["account"])
        stopped = True
        output(Command(("systemctl", "stop", wanted["unit"])))
        if settings["appendonly"] == "yes":
            make_append_only(beside, settings["dbfilename"], wanted["account"])
        renames.replace(str(beside), str(folder), str(before))
        output(Command(("systemctl", "start", wanted["unit"])))
        loaded = check_loaded(counted, wait_for(wanted))
        if not loaded.ok:
            raise DrillError(f"The instance has other data than the backup: {loaded.text}.")
    except (BackupError, OSError) as error:
        if stopped:
            put_back(wanted["unit"], folder, before)
        shutil.rmtree(beside, ignore_errors=True)
        raise DrillError(f"{wanted['unit']} has the data that it had before: {error}") from error
    return [
        f"{wanted['unit']}: {loaded.text}.",
        f"What was there is {before}. Way back: systemctl stop {wanted['unit']} && mv {folder} {folder}.undone-{stamp} "
        f"&& mv {before} {folder} && systemctl start {wanted['unit']}",
    ]


def put_back(unit: str, folder: Path, before: Path) -> None:
    output(Command(("systemctl", "stop", unit)))
    if before.exists():
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(before, folder)
    output(Command(("systemctl", "start", unit)))


def make_append_only(folder: Path, name: str, account: str) -> None:
    """Has Redis itself write the append-only file of a snapshot: its format differs between versions."""
    with private_server(folder, name, account) as ask:
        said = output(ask("CONFIG", "SET", "appendonly", "yes")).strip()
        if said != "OK":
            raise DrillError(f"Redis did not begin an append-only file: {said}")
        while True:
            found = info(ask("INFO"))
            if found["aof_rewrite_in_progress"] == "0" and found["aof_rewrite_scheduled"] == "0":
                break
            time.sleep(POLL_SECONDS)
        if found["aof_last_bgrewrite_status"] != "ok":
            raise DrillError("Redis could not write its append-only file; is the disk full?")


def wait_for(wanted: Mapping[str, Any]) -> dict[str, str]:
    """The instance once it has loaded. systemd has been told that it is ready, so it answers."""
    while True:
        found = info(client(wanted, "INFO"))
        if found["loading"] == "0":
            return found
        time.sleep(POLL_SECONDS)


def tools() -> Mapping[str, Command]:
    return {"redis": Command(("redis-server", "--version"))}
