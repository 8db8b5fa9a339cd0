# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Large trees, by restic 0.14 and later: what did not change is not sent again. In a repository of its own in the store
of the other backups, encrypted by a password that this host keeps: unlike theirs, its backups can be read here.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, NamedTuple

from . import kind_files
from .commands import Process, last_lines, output
from .errors import BusyError, DrillError, IntegrityError, SettingsError, SourceError, StoreError
from .kinds import Backup, Check, Command, Context, options
from .manifest import Manifest
from .names import STAMP, folder
from .settings import StoreSettings
from .tar_listing import SAMPLES, digest_of, rank, walk

OPTIONS: Mapping[str, Any] = {
    # Absolute paths of files and folders.
    "paths": [],
    # restic's patterns, see restic-backup(1).
    "exclude": [],
    # Leaves out what is mounted below a path.
    "one_file_system": False,
    # Of the repository. Without it nobody can read the backups, also on another host: keep it where the private key is.
    "password": "",
    # How much of the repository a drill reads and compares: as restic-check(1) has it, "5%", "500M", "1/12".
    "check_subset": "256M",
}
REQUIRED = ("paths", "password")
RESTORE = kind_files.RESTORE
NO_REPOSITORY, WRONG_PASSWORD, LOCKED, INCOMPLETE = 10, 12, 11, 3
# 0.14 ends with 1 for all of these, so its words count too.
WORDS = {
    NO_REPOSITORY: "Is there a repository at the following location?",
    WRONG_PASSWORD: "wrong password or no key found",
    LOCKED: "repository is already locked",
}
RETRY_LOCK_SINCE = (0, 16)
# A file that takes longer to read than this is no sample.
SAMPLE_BYTES = 4 * 2**20


class Answer(NamedTuple):
    """How a call ended: its messages in JSON, and the rest of what it said."""

    status: int
    messages: list[dict[str, Any]]
    said: str

    def means(self, status: int) -> bool:
        return self.status == status or (self.status != 0 and WORDS[status] in self.said)


class Entry(NamedTuple):
    """A file of a snapshot."""

    path: str
    size: int


def repository(store: StoreSettings, host: str, job: str) -> tuple[str, list[str], dict[str, str]]:
    """The repository of a job in a store: its address, options of restic, and its environment, which has the keys."""
    place = folder(store.prefix, "restic", host, job).rstrip("/")
    ca = ["--cacert", store.ca_file] if store.ca_file else []
    if store.kind == "s3":
        env = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        region = {"AWS_DEFAULT_REGION": store.region} if store.region else {}
        return f"s3:{store.address}/{store.bucket}/{place}", ca, {**env, **region}
    if store.kind == "b2":
        return f"b2:{store.bucket}:{place}", ca, {"B2_ACCOUNT_ID": store.access_key, "B2_ACCOUNT_KEY": store.secret_key}
    if store.kind == "sftp":
        from .store_sftp import ssh_command

        whole = f"{store.path.rstrip('/')}/{place}" if store.path else place
        words = ["-o", f"sftp.command={shlex.join(ssh_command(store))}"]
        return f"sftp:{store.user}@{store.host}:{whole}", words, {}
    return f"{store.path.rstrip('/')}/{place}", [], {}


def restic(context: Context, *words: str, store: StoreSettings | None = None, host: str = "") -> Command:
    """restic for a job; password and keys are in its environment, where only its own account can see them."""
    job, settings = context.job, context.settings
    address, extra, env = repository(store or settings.store, host or settings.host_of(job), job.stored_name)
    # Otherwise it prints sixty lines a second for nobody.
    quiet = {"RESTIC_PROGRESS_FPS": "0.01", "RESTIC_PASSWORD": options(job)["password"]}
    return Command(("restic", "--repo", address, *extra, *words), env={**env, **quiet})


def call(command: Command) -> Answer:
    """Runs restic, both of its outputs as one, line by line: a listing may be long."""
    messages: list[dict[str, Any]] = []
    said: list[str] = []
    merged = Command(("sh", "-c", 'exec "$@" 2>&1', "restic", *command.argv), command.user, command.env)
    process = Process(merged, stdout=subprocess.PIPE)
    try:
        with os.fdopen(os.dup(process.stdout.fileno()), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                message, words = None, line
                with suppress(ValueError):
                    message = json.loads(line)
                if isinstance(message, dict):
                    if message.get("message_type") != "status":
                        messages.append(message)
                    # Since 0.17 the reason of a failure is in JSON as well.
                    words = str(message.get("message", ""))
                said = [*said, words.strip()][-50:]
        return Answer(process.wait(), messages, "\n".join(said))
    finally:
        process.end()


def must(answer: Answer, job: str) -> Answer:
    """@raises BackupError: of the family that fits, if it failed"""
    if answer.status == 0:
        return answer
    if answer.means(WRONG_PASSWORD):
        raise SettingsError(f"Job {job}: the password is not that of the repository. Nothing was changed in it.")
    if answer.means(NO_REPOSITORY):
        raise IntegrityError(f"Job {job}: there is no repository where this backup was made; the store has lost it.")
    if answer.means(LOCKED):
        raise BusyError(
            f"Job {job}: the repository is locked by another run: {last_lines(answer.said, 4)}. A lock that nobody "
            "holds any more is removed by the next run once it is 30 minutes old."
        )
    errors = [str(one.get("error", {}).get("message", one)) for one in answer.messages if "error" in one]
    raise StoreError(
        f"Job {job}: restic failed (exit status {answer.status}): {last_lines(answer.said) or errors[-1:]}"
    )


def snapshot(context: Context) -> Mapping[str, Any]:
    job, wanted = context.job, options(context.job)
    for path in wanted["paths"]:
        kind_files.check_path(job.name, path)
    excludes = [word for pattern in wanted["exclude"] for word in ("--exclude", pattern)]
    one = ["--one-file-system"] if wanted["one_file_system"] else []
    names = ["--host", context.settings.host, "--tag", f"bulwark-{job.name}"]
    words = ["backup", "--json", *retry_lock(), *names, *one, *excludes, "--", *wanted["paths"]]
    # Beside restic, not after it: the second run on a large tree is over in seconds.
    with ThreadPoolExecutor(1) as beside:
        begun = time.time_ns()
        found = beside.submit(samples_of, wanted["paths"])
        answer = patient(context, *words)
        if answer.means(NO_REPOSITORY):
            # Only then: one with another password, or that does not answer, is left as it is.
            must(call(restic(context, "init")), job.name)
            context.say("Made the repository.")
            answer = patient(context, *words)
    summary = next((message for message in answer.messages if message.get("message_type") == "summary"), None)
    if answer.status not in (0, INCOMPLETE) or not summary:
        must(answer, job.name)
        raise SourceError(f"Job {job.name}: restic did not say what it did.")
    if answer.status == INCOMPLETE:
        refuse_unread(context, answer, summary["snapshot_id"])
    samples = {path: digest for path, digest in found.result().items() if unchanged_since(path, begun)}
    return {
        "snapshot": summary["snapshot_id"],
        "paths": list(wanted["paths"]),
        "files": summary["total_files_processed"],
        "plain_bytes": summary["total_bytes_processed"],
        # Before 0.17 only what was added is known, not what is left of it once compressed.
        "stored_bytes": summary.get("data_added_packed", summary["data_added"]),
        "samples": {rank(path): seal(wanted["password"], path, digest) for path, digest in samples.items()},
    }


def patient(context: Context, *words: str, store: StoreSettings | None = None) -> Answer:
    """Once more if there was a lock that nobody holds any more, which is what C(unlock) removes and nothing else."""
    answer = call(restic(context, *words, store=store))
    if answer.means(LOCKED):
        call(restic(context, "unlock", store=store))
        answer = call(restic(context, *words, store=store))
    return answer


def retry_lock() -> list[str]:
    found = re.search(r"restic (\d+)\.(\d+)", output(Command(("restic", "version"))))
    return ["--retry-lock", "10m"] if found and (int(found[1]), int(found[2])) >= RETRY_LOCK_SINCE else []


def refuse_unread(context: Context, answer: Answer, identity: str) -> None:
    """A file that was removed while restic read is no loss; one that is there and was not read makes it no backup."""
    items = [str(message.get("item", "")) for message in answer.messages if message.get("message_type") == "error"]
    unread = [item for item in items if os.path.lexists(item)]
    if unread or not items:
        call(restic(context, "forget", identity))
        what = f"{len(unread)} files such as {unread[0]}" if unread else "some files"
        raise SourceError(f"Job {context.job.name}: restic could not read {what}; this is not kept as a backup.")
    context.say(f"{len(items)} files were removed while they were read.")


def entries(context: Context, identity: str) -> Iterator[Entry]:
    """The files of a snapshot, as they come: there may be millions."""
    command = restic(context, "ls", "--json", "--no-lock", identity)
    process = Process(command, stdout=subprocess.PIPE)
    try:
        with os.fdopen(os.dup(process.stdout.fileno()), encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                node = json.loads(line)
                if node.get("type") == "file":
                    yield Entry(node["path"], node.get("size", 0))
        if process.wait():
            raise StoreError(f"{process.failure()}.")
    finally:
        process.end()


def samples_of(paths: Iterable[str]) -> dict[str, str]:
    """Some small files, the same ones in every backup, and the sums of what is in them."""
    small = ((rank(path), path) for top in paths for path in walk(top) if is_small(path))
    found = {}
    for _place, path in heapq.nsmallest(SAMPLES, small):
        with suppress(OSError):
            found[path] = digest_of(path)
    return found


def is_small(path: str) -> bool:
    with suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size <= SAMPLE_BYTES
    return False


def unchanged_since(path: str, begun: int) -> bool:
    """By the time that nobody can set back; the clocks of file systems are a little behind."""
    with suppress(OSError):
        return os.lstat(path).st_ctime_ns < begun - 10**9
    return False


def seal(password: str, path: str, digest: str) -> str:
    """What the manifest holds of a sample: nothing to those who do not have the password."""
    text = f"{path}\0{digest}".encode("utf-8", "surrogateescape")
    return hmac.new(password.encode(), text, hashlib.sha256).hexdigest()[:32]


def forget(context: Context, dropped: list[Manifest]) -> None:
    store = context.settings.prune_store or context.settings.store
    identities = [manifest.engine["snapshot"] for manifest in dropped]
    # What is forgotten already is passed over by restic.
    words = ["forget", *retry_lock(), "--prune", "--max-unused", "10%", *identities]
    must(patient(context, *words, store=store), context.job.name)


def needed_bytes(manifest: Manifest) -> int:
    return (len(manifest.engine["samples"]) + 16) * SAMPLE_BYTES


def drill(context: Context, backup: Backup) -> list[Check]:
    """Restores the samples and compares them, and reads a part of the repository. Without locks: it changes nothing."""
    engine, job = backup.manifest.engine, context.job
    target = context.scratch / "tree"
    target.mkdir(mode=0o700)
    samples, wanted = engine["samples"], options(job)
    files = total = 0
    chosen: list[str] = []
    for file in entries(context, engine["snapshot"]):
        files += 1
        total += file.size
        if rank(file.path) in samples:
            chosen.append(file.path)
    if chosen:
        words = [word for path in chosen for word in ("--include", pattern_of(path))]
        must(
            call(restic(context, "restore", "--no-lock", engine["snapshot"], "--target", str(target), *words)), job.name
        )
    wrong = sum(seal(wanted["password"], path, digest_of(f"{target}{path}")) != samples[rank(path)] for path in chosen)
    # Samples are chosen without restic's patterns.
    missing = 0 if wanted["exclude"] or wanted["one_file_system"] else len(samples) - len(chosen)
    looked = call(restic(context, "check", "--no-lock", f"--read-data-subset={wanted['check_subset']}"))
    return [
        Check("files", files == engine["files"], f"{files} files, {total} bytes; {engine['files']} files expected"),
        Check("contents", not wrong + missing, f"{len(chosen)} files compared, {wrong} differ, {missing} are missing"),
        Check("repository", looked.status == 0, f"{wanted['check_subset']} read: {last_lines(looked.said, 1)}"),
    ]


def pattern_of(path: str) -> str:
    """A pattern that means this path and nothing else."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    engine, only, place = backup.manifest.engine, target.get("only", ""), target.get("path", "")
    if only and not any(only == path or only.startswith(f"{path}/") for path in engine["paths"]):
        raise SettingsError(f"Backup {backup.manifest.backup} holds {', '.join(engine['paths'])}, but not {only!r}.")
    paths = [only] if only else list(engine["paths"])
    if place:
        os.makedirs(place, mode=0o700, exist_ok=True)
        if os.listdir(place):
            raise SettingsError(f"{place} is not empty; name one that is, or that does not exist.")
        fetch(context, engine["snapshot"], paths, place)
        return [f"{path} of {backup.manifest.backup} is in {place}{path}." for path in paths]
    stamp = datetime.now(timezone.utc).strftime(STAMP)
    beside = {path: f"{path}.restored-{stamp}" for path in paths}
    try:
        for path, folder_beside in beside.items():
            kind_files.refuse_mount_point(path)
            os.makedirs(folder_beside, mode=0o700)
            fetch(context, engine["snapshot"], [path], folder_beside)
        return kind_files.exchange({path: one + path for path, one in beside.items()}, f".before-{stamp}")
    finally:
        for one in beside.values():
            shutil.rmtree(one, ignore_errors=True)


def fetch(context: Context, identity: str, paths: list[str], target: str) -> None:
    words = [word for path in paths for word in ("--include", pattern_of(path))]
    answer = call(restic(context, "restore", "--no-lock", "--verify", identity, "--target", target, *words))
    must(answer, context.job.name)
    missing = [path for path in paths if not os.path.lexists(target + path)]
    if missing:
        raise DrillError(f"{missing[0]} is not in the snapshot.")


def tools() -> Mapping[str, Command]:
    return {"restic": Command(("restic", "version"))}
