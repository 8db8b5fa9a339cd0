"""The path of a stream: whole or not at all, in both directions. Without age, so that it runs everywhere."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.module_utils._backup import pipeline
from plugins.module_utils._backup.errors import DrillError, IntegrityError, SourceError, StoreError
from plugins.module_utils._backup.kinds import Command, Stream
from plugins.module_utils._backup.manifest import Member
from plugins.module_utils._backup.pipeline import Reading, Sealing, store_stream
from plugins.module_utils._backup.stores import PART_BYTES

from .memory import Clock, MemoryStore, refuse

KEY = "pre/fix/h1/j/20260301T020000Z-00000000/m.zst"
PLAIN = Sealing(())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(Clock())


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    yield
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def shell(script: str, **options: object) -> Stream:
    return Stream("m", Command(("sh", "-c", script)), **options)  # type: ignore[arg-type]


def noise(count: int) -> Stream:
    script = f"""
import random, sys
r = random.Random(1)
for _ in range({count}):
    sys.stdout.buffer.write(r.randbytes(2**20))
"""
    return Stream("m", Command((sys.executable, "-c", script)))


def keep(store: MemoryStore, stream: Stream) -> Reading:
    plain, stored = store_stream(store, KEY, stream, PLAIN, lambda count: None)
    member = Member("m", "m.zst", plain.bytes, plain.sha256, stored.bytes, stored.sha256)
    return Reading(store, KEY, member, "", lambda count: None)


@pytest.mark.parametrize(("script", "size"), [("true", 0), ("printf x", 1), ("head -c 3000001 /dev/urandom", 3000001)])
def test_what_goes_in_comes_out(store: MemoryStore, tmp_path: Path, script: str, size: int) -> None:
    tapped = hashlib.sha256()
    reading = keep(store, shell(f"{script} | tee {tmp_path}/in", tap=tapped.update))
    reading.feed(Command(("sh", "-c", f"cat > {tmp_path}/out")))
    data = (tmp_path / "in").read_bytes()
    assert (tmp_path / "out").read_bytes() == data
    assert (reading.member.plain_bytes, len(data)) == (size, size)
    assert reading.member.plain_sha256 == hashlib.sha256(data).hexdigest() == tapped.hexdigest()
    assert reading.member.stored_sha256 == hashlib.sha256(store.objects[KEY][0]).hexdigest()


def test_parts_are_equal_but_for_the_last(store: MemoryStore) -> None:
    reading = keep(store, noise(35))
    assert [call for call, key in store.calls] == ["begin", "part", "part", "part", "complete"]
    assert 2 * PART_BYTES < reading.member.stored_bytes < 3 * PART_BYTES


def test_what_the_source_said_and_how_it_ended_is_told_to_the_kind(store: MemoryStore) -> None:
    stream = shell("echo careful >&2; exit 1", ok_status=(0, 1))
    keep(store, stream)
    assert (stream.status, stream.said) == (1, "careful\n")


@pytest.mark.parametrize("script", ["exit 3", "echo some; exit 3", "head -c 40000000 /dev/urandom; exit 3"])
def test_a_source_that_fails_leaves_nothing(store: MemoryStore, script: str) -> None:
    with pytest.raises(
        SourceError, match=r"m: sh failed \(exit status 3\): the disk broke. Nothing of this backup is kept"
    ):
        keep(store, shell(f"echo the disk broke >&2; {script}"))
    assert not store.objects
    assert not store.uploads


def test_a_source_that_is_killed_leaves_nothing(store: MemoryStore) -> None:
    with pytest.raises(SourceError, match="was ended by SIGKILL"):
        keep(store, shell("echo some; kill -9 $$"))
    assert not store.objects


def test_a_source_that_does_not_exist_is_said(store: MemoryStore) -> None:
    with pytest.raises(SourceError, match="no-such-program is not installed"):
        keep(store, Stream("m", Command(("no-such-program",))))
    assert not store.calls


@pytest.mark.parametrize("call", ["begin", "part", "complete"])
def test_a_store_that_refuses_ends_the_source(store: MemoryStore, call: str) -> None:
    store.fail = refuse(call, error=StoreError("The store is full."))
    begun = time.monotonic()
    # Endless, but for the completion.
    with pytest.raises(StoreError, match="The store is full"):
        keep(store, noise(40) if call == "complete" else shell("cat /dev/urandom"))
    assert not store.objects
    assert not store.uploads
    assert time.monotonic() - begun < 20


def test_a_source_that_is_silent_is_ended_when_the_store_refuses(store: MemoryStore) -> None:
    store.fail = refuse("part", error=StoreError("The store is full."))
    with pytest.raises(StoreError, match="The store is full"):
        keep(store, shell("head -c 60000000 /dev/urandom; exec sleep 60"))


def test_what_interrupts_it_leaves_nothing(store: MemoryStore) -> None:
    def advance(count: int) -> None:
        if store.calls:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_stream(store, KEY, shell("cat /dev/urandom"), PLAIN, advance)
    assert not store.objects
    assert not store.uploads


def damage(store: MemoryStore, how: str) -> None:
    data = store.objects[KEY][0]
    middle = len(data) // 2
    store.replace(
        KEY,
        {
            "cut": data[:middle],
            "longer": data + b"x",
            "empty": b"",
            "flipped": data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :],
            "flipped at the begin": bytes([data[0] ^ 4]) + data[1:],
            "other bytes": random.Random(5).randbytes(len(data)),
        }[how],
    )


@pytest.mark.parametrize("how", ["cut", "longer", "empty", "flipped", "flipped at the begin", "other bytes"])
def test_damage_is_found_before_the_target_sees_an_end(store: MemoryStore, tmp_path: Path, how: str) -> None:
    reading = keep(store, noise(3))
    damage(store, how)
    with pytest.raises(IntegrityError, match="cut off" if how in ("cut", "longer", "empty") else "not what was stored"):
        reading.feed(Command(("sh", "-c", f"cat > /dev/null; touch {tmp_path}/committed")))
    assert not (tmp_path / "committed").exists()
    for look in (reading.check, reading.check_stored):
        with pytest.raises(IntegrityError):
            look()


def test_a_swapped_member_is_found(store: MemoryStore, tmp_path: Path) -> None:
    reading = keep(store, shell("echo this"))
    store_stream(store, KEY + "2", shell("echo that"), PLAIN, lambda count: None)
    store.replace(KEY, store.objects[KEY + "2"][0])
    with pytest.raises(IntegrityError, match="not what was stored"):
        reading.feed(Command(("sh", "-c", f"cat > /dev/null; touch {tmp_path}/committed")))
    assert not (tmp_path / "committed").exists()


def test_a_target_that_fails_is_told_with_its_words(store: MemoryStore) -> None:
    reading = keep(store, noise(3))
    with pytest.raises(DrillError, match=r"sh failed \(exit status 2\): no such table"):
        reading.feed(Command(("sh", "-c", "echo no such table >&2; exit 2")))


def test_a_target_that_stops_early_may_have_seen_enough(store: MemoryStore) -> None:
    keep(store, noise(3)).feed(Command(("head", "-c", "10")))


def test_damage_counts_more_than_what_the_target_says_of_it(store: MemoryStore) -> None:
    reading = keep(store, noise(3))
    damage(store, "flipped")
    with pytest.raises(IntegrityError):
        reading.feed(Command(("sh", "-c", "exit 2")))


def test_a_store_that_breaks_while_it_is_read(store: MemoryStore, tmp_path: Path) -> None:
    reading = keep(store, noise(3))
    store.fail = refuse("read", error=StoreError("It went away."))
    with pytest.raises(StoreError, match="It went away"):
        reading.feed(Command(("sh", "-c", f"cat > /dev/null; touch {tmp_path}/committed")))
    assert not (tmp_path / "committed").exists()


def test_much_from_little_stays_small(store: MemoryStore) -> None:
    """A GiB of zeros is 30 KiB in the store; no piece of it is larger than the buffer."""
    reading = keep(store, shell("head -c 300000000 /dev/zero"))
    assert reading.member.stored_bytes < 100_000
    assert max(len(piece) for piece in reading.pieces()) <= pipeline.PIPE_BYTES


def test_a_target_does_not_see_an_end_when_the_agent_is_killed(tmp_path: Path) -> None:
    """Ten times: whether the target or its end comes first must not be a matter of luck."""
    script = f"""
import os, signal, subprocess, sys
sys.path.insert(0, {os.getcwd()!r})
from plugins.module_utils._backup.commands import Process
from plugins.module_utils._backup.kinds import Command
from plugins.module_utils._backup.pipeline import Guard
target = Process(Command(("sh", "-c", "cat > /dev/null; echo > {tmp_path}/committed")), subprocess.PIPE)
with Guard(target):
    target.stdin.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for _time in range(10):
        assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    time.sleep(0.5)
    assert not (tmp_path / "committed").exists()
