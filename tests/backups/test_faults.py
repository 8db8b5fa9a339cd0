"""What may go wrong between a host and its store: nothing is lost, one sentence says why, and the next run is good.

A real host with the agent, a real S3 store behind a proxy that misbehaves on order. The table in docs/backups.md says
the same for people. BULWARK_FULL=1 runs every case on both systems; BULWARK_SEED repeats a sample.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from backups.agent_host import AGENT, SETTINGS, AgentHost
from hosts import hosts
from stores.stores import CA, RgwStore

FULL = bool(os.environ.get("BULWARK_FULL"))
SEED = int(os.environ.get("BULWARK_SEED") or time.time() % 100_000)
NAME = hosts.named("bulwark-faults")
BUCKET = "faults"
MIB = 2**20
# Two parts and a bit.
BIG = 40 * MIB
NOISE = f"head -c {BIG} /dev/urandom"
KILLS = 10 if FULL else 2
dice = random.Random(SEED)


class FlowHost(AgentHost):
    """A host whose backups go to S3, each test's below a prefix of its own."""

    def __init__(self, name: str, image: str, s3: RgwStore) -> None:
        super().__init__(name, image)
        self.s3, self.client = s3, s3.client()

    def up(self, *packages: str) -> FlowHost:
        super().up("python3-boto3", *packages)
        hosts.docker("cp", "-q", str(CA), f"{self.name}:/etc/bulwark-backup/ca.pem")
        return self

    def fresh(self, *jobs: dict[str, Any], **settings: Any) -> None:
        """New settings and a place in the store where nothing is yet."""
        self.s3.faults.set()
        self.prefix = uuid.uuid4().hex[:12]
        self.sh("rm -rf /var/lib/bulwark-backup /srv/restored*; mkdir -p /srv")
        store = {
            "kind": "s3",
            "endpoint": self.s3.faulty_endpoint,
            "region": self.s3.region,
            "bucket": BUCKET,
            "prefix": self.prefix,
            **self.s3.keys._asdict(),
            "ca_file": "/etc/bulwark-backup/ca.pem",
            "patience_seconds": 60,
        }
        self.settings = {
            "host": "h1",
            "store": store,
            "recipients": [self.public_key],
            "identity_file": "/etc/bulwark-backup/age.key",
            "jobs": list(jobs) or [printing("shop", f"{NOISE}")],
            **settings,
        }
        self.save()

    def save(self) -> None:
        self.write(SETTINGS, json.dumps(self.settings))

    def call(self, *words: str) -> tuple[int, str]:
        """Exit status and all that was said."""
        command = f"cd {Path(AGENT).parent} && python3 -m bulwark_backup.cli {shlex.join(words)}"
        done = subprocess.run(["docker", "exec", self.name, "bash", "-c", command], capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def good(self, *words: str) -> str:
        status, said = self.call(*words)
        assert status == 0, said
        return said

    def bad(self, *words: str, status: int = 1) -> str:
        """The last sentence of a command that must fail."""
        code, said = self.call(*words)
        assert code == status, said
        return said.strip().splitlines()[-1]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on, in the host as the process that is noted in /run/agent.pid."""
        command = (
            f"cd {Path(AGENT).parent}; echo $$ > /run/agent.pid; exec python3 -m bulwark_backup.cli {shlex.join(words)}"
        )
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["docker", "exec", self.name, "bash", "-c", command], stdout=pipe, stderr=pipe, text=True
        )

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Ends the agent as a power cut would: it is not asked."""
        self.sh("kill -9 $(cat /run/agent.pid)", ok=False)
        process.communicate(timeout=30)

    def time(self, *words: str) -> float:
        begun = time.monotonic()
        self.good(*words)
        return time.monotonic() - begun

    def backups(self) -> list[dict[str, Any]]:
        return json.loads(self.good("list", "--json"))

    def objects(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return [item["Key"] for item in listed.get("Contents", ())]

    def key(self, end: str) -> str:
        return next(key for key in self.objects() if key.endswith(end))

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def unfinished(self) -> int:
        listed = self.client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return len(listed.get("Uploads", ()))

    def state(self, job: str = "shop") -> dict[str, Any]:
        return json.loads(self.sh(f"cat /var/lib/bulwark-backup/{job}.json"))

    def assert_sound(self) -> None:
        """All that the catalogue shows is whole, and the next run is good and leaves nothing behind."""
        for backup in self.backups():
            self.good("verify", backup["job"], "--backup", backup["backup"])
        self.good("run", "shop")
        assert self.unfinished() == 0
        assert self.sh("ls /var/lib/bulwark-backup/scratch") == ""
        newest = self.backups()[-1]["backup"]
        assert newest == self.state()["backup"]
        self.good("verify", "shop")

    def assert_nothing_visible(self) -> None:
        assert self.backups() == []
        assert self.unfinished() == 0


def printing(name: str, script: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "kind": "command", "command": ["sh", "-c", script], **options}


@pytest.fixture(scope="module")
def s3() -> Iterator[RgwStore]:
    print(f"BULWARK_SEED={SEED}")
    store = RgwStore(f"{NAME}-s3").start()
    if BUCKET not in [bucket["Name"] for bucket in store.client().list_buckets()["Buckets"]]:
        store.client().create_bucket(Bucket=BUCKET)
    yield store
    if not os.environ.get("BULWARK_KEEP"):
        store.stop()


@pytest.fixture(scope="module", params=["debian13", "debian12"] if FULL else ["debian13"])
def host(request: pytest.FixtureRequest, s3: RgwStore) -> Iterator[FlowHost]:
    one = FlowHost(f"{NAME}-{request.param}", request.param, s3).up()
    yield one
    s3.faults.set()
    if not os.environ.get("BULWARK_KEEP"):
        one.down()


# -- killed at any moment ---------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_is_invisible(host: FlowHost) -> None:
    host.fresh()
    seconds = host.time("run", "shop")
    for _kill in range(KILLS):
        before = host.backups()
        process = host.start("run", "shop")
        time.sleep(dice.uniform(0.1, seconds))
        host.kill(process)
        # It may have been done just before.
        assert host.backups()[: len(before)] == before
        assert len(host.backups()) <= len(before) + 1
    host.assert_sound()


def test_a_drill_that_is_killed_leaves_nothing(host: FlowHost) -> None:
    host.fresh(printing("shop", NOISE, drill_command=["sh", "-c", "cat > whole"]))
    host.good("run", "shop")
    seconds = host.time("drill", "shop")
    for _kill in range(KILLS):
        process = host.start("drill", "shop")
        time.sleep(dice.uniform(0.1, seconds))
        host.kill(process)
    host.good("drill", "shop")
    host.assert_sound()


def test_a_restore_that_is_killed_leaves_what_was_there(host: FlowHost) -> None:
    """The command that gets the data never takes a part of it for the whole."""
    script = "cat > /srv/restored.new && mv /srv/restored.new /srv/restored"
    host.fresh(printing("shop", NOISE, restore_command=["sh", "-c", script]))
    host.good("run", "shop")
    seconds = host.time("restore", "shop", "--yes")
    for _kill in range(2 * KILLS):
        host.sh("echo as it was > /srv/restored")
        process = host.start("restore", "shop", "--yes")
        time.sleep(dice.uniform(0.1, seconds))
        host.kill(process)
        size = int(host.sh("stat -c %s /srv/restored"))
        assert size in (len("as it was\n"), BIG)
    host.good("restore", "shop", "--yes")
    assert int(host.sh("stat -c %s /srv/restored")) == BIG
    host.assert_sound()


def clone(host: FlowHost, days: int) -> None:
    """Makes the newest backup also one of each of so many days before."""
    newest = host.backups()[-1]
    folder = f"{host.prefix}/h1/shop/{newest['backup']}"
    manifest = json.loads(host.get(f"{folder}/manifest.json"))
    for day in range(1, days + 1):
        moment = datetime.now(timezone.utc) - timedelta(days=day)
        name = f"{moment:%Y%m%dT%H%M%SZ}-{day:08x}"
        copy = f"{host.prefix}/h1/shop/{name}"
        for file in [member["file"] for member in manifest["members"]]:
            host.put(f"{copy}/{file}", host.get(f"{folder}/{file}"))
        host.put(f"{copy}/manifest.json", json.dumps({**manifest, "backup": name}).encode())


def test_a_prune_that_is_killed_is_finished_by_the_next(host: FlowHost) -> None:
    keep = {"daily": 2, "weekly": 0, "monthly": 0}
    host.fresh(printing("shop", "head -c 20000 /dev/urandom"), keep=keep)
    host.good("run", "shop")
    clone(host, 16)
    newest = host.backups()[-1]
    # So that there is time to be killed in the middle.
    host.s3.faults.set({"do": "delay", "method": "DELETE|POST", "seconds": 0.05})
    for _kill in range(KILLS):
        process = host.start("prune")
        time.sleep(dice.uniform(0.7, 2.5))
        host.kill(process)
        left = host.backups()
        assert left[-1] == newest
        for backup in dice.sample(left, min(3, len(left))):
            host.good("verify", "shop", "--backup", backup["backup"])
    host.s3.faults.set()
    host.good("prune")
    assert len(host.backups()) == 2
    assert host.backups()[-1] == newest
    host.assert_sound()


def test_a_host_that_loses_power_goes_on_after_it(host: FlowHost) -> None:
    # The mark is on a disk that the power takes with it.
    host.fresh(printing("shop", f"{NOISE}; test ! -e /run/slow || sleep 60"))
    host.sh("touch /run/slow")
    process = host.start("run", "shop")
    time.sleep(2)
    hosts.docker("kill", "-s", "KILL", host.name)
    process.communicate(timeout=30)
    hosts.docker("start", host.name)
    hosts.wait(host.name)
    assert host.backups() == []
    host.assert_sound()


def test_a_run_that_is_stopped_aborts_its_upload(host: FlowHost) -> None:
    host.fresh(printing("shop", f"{NOISE}; sleep 60"))
    process = host.start("run", "shop")
    time.sleep(2.5)
    host.sh("kill -TERM $(cat /run/agent.pid)")
    _out, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Stopped by SIGTERM" in said
    host.assert_nothing_visible()


# -- the host ---------------------------------------------------------------------------------------------------------


def test_two_runs_at_once(host: FlowHost) -> None:
    host.fresh(printing("shop", f"{NOISE}; sleep 3"))
    first = host.start("run", "shop")
    time.sleep(1.5)
    said = host.bad("run", "shop", status=75)
    assert "The backup of shop (process" in said
    _out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert len(host.backups()) == 1


def test_a_dump_that_fails_at_its_end(host: FlowHost) -> None:
    host.fresh(printing("shop", f"{NOISE}; echo connection to server was lost >&2; exit 1"))
    said = host.bad("run", "shop")
    assert "connection to server was lost" in said
    assert "Nothing of this backup is kept" in said
    host.assert_nothing_visible()
    host.settings["jobs"] = [printing("shop", NOISE)]
    host.save()
    host.assert_sound()


def test_no_room_for_a_drill(host: FlowHost) -> None:
    host.fresh(scratch_dir="/srv/small")
    host.sh("mkdir -p /srv/small && mount -t tmpfs -o size=8m tmpfs /srv/small")
    try:
        host.good("run", "shop")
        said = host.bad("drill", "shop", status=75)
    finally:
        host.sh("umount /srv/small")
    assert "was skipped: it needs 40 MiB below /srv/small" in said
    assert "was skipped" in host.state()["drill_error"]


def test_a_full_disk_does_not_keep_a_backup_from_being_made(host: FlowHost) -> None:
    host.fresh(state_dir="/srv/small")
    host.sh(
        "mkdir -p /srv/small && mount -t tmpfs -o size=1m tmpfs /srv/small && cat /dev/zero > /srv/small/full", ok=False
    )
    try:
        said = host.good("run", "shop")
    finally:
        host.sh("umount /srv/small")
    assert "The state of shop was not written: No space left on device" in said
    assert len(host.backups()) == 1


# -- keys -------------------------------------------------------------------------------------------------------------


def test_the_wrong_key(host: FlowHost) -> None:
    host.fresh(identity_file="/etc/bulwark-backup/other.key")
    host.sh("age-keygen -o /etc/bulwark-backup/other.key 2> /dev/null || true")
    host.good("run", "shop")
    said = host.bad("drill", "shop")
    assert "is the private key of age1" in said
    assert f"was encrypted for {host.public_key}" in said


def test_the_key_is_lost(host: FlowHost) -> None:
    host.fresh(identity_file="/etc/bulwark-backup/lost.key")
    host.good("run", "shop")
    said = host.bad("restore", "shop", "--yes")
    assert f"Without the private key of {host.public_key} nobody can read the backup" in said
    # The host can tell that the stored bytes are whole, all the same.
    host.settings["identity_file"] = ""
    host.save()
    assert "the stored bytes are compared" in host.good("verify", "shop")


def test_the_keys_of_the_store_are_wrong(host: FlowHost) -> None:
    host.fresh()
    host.settings["store"]["secret_key"] = "x" * 40
    host.save()
    begun = time.monotonic()
    said = host.bad("run", "shop")
    assert "key" in said
    assert "x" * 40 not in said
    assert time.monotonic() - begun < 20
    assert host.state()["error"]


def test_a_key_that_may_only_write(host: FlowHost) -> None:
    host.fresh(printing("shop", "head -c 1000 /dev/urandom"), keep={"daily": 1, "weekly": 0, "monthly": 0})
    bucket = f"only-{host.prefix}"
    host.client.create_bucket(Bucket=bucket)
    host.client.put_bucket_policy(Bucket=bucket, Policy=host.s3.append_only_policy(bucket))
    owner = {**host.settings["store"], "bucket": bucket}
    host.settings["store"] = {**owner, **host.s3.writer._asdict()}
    host.save()
    for _run in range(2):
        host.good("run", "shop")
    assert "Another host has to prune" in host.good("probe")
    host.bad("prune")
    assert len(host.backups()) == 2
    host.settings["prune_store"] = owner
    host.save()
    host.good("probe")
    host.good("prune")
    assert len(host.backups()) == 1


# -- what is in the store ---------------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = dice.randrange(len(data))
    return data[:middle] + bytes([data[middle] ^ 1 << dice.randrange(8)]) + data[middle + 1 :]


@pytest.mark.parametrize(("damage", "said"), [(cut, "cut off"), (flip, "not what was stored")], ids=["cut", "flipped"])
def test_a_damaged_object(host: FlowHost, damage: Any, said: str) -> None:
    script = "cat > /srv/restored.new && mv /srv/restored.new /srv/restored"
    host.fresh(printing("shop", NOISE, restore_command=["sh", "-c", script]))
    host.good("run", "shop")
    key = host.key(".age")
    host.put(key, damage(host.get(key)))
    for words in (["verify", "shop"], ["drill", "shop"], ["restore", "shop", "--yes"]):
        sentence = host.bad(*words)
        assert said in sentence
        assert key in sentence
    assert host.sh("ls /srv/restored", ok=False).startswith("ls: cannot access")
    assert said in host.state()["drill_error"]
    host.good("run", "shop")
    host.good("drill", "shop")


def test_objects_that_were_swapped(host: FlowHost) -> None:
    host.fresh(printing("shop", "head -c 100000 /dev/urandom"), printing("blog", "head -c 100000 /dev/urandom"))
    host.good("run", "shop")
    host.good("run", "blog")
    shop, blog = (
        next(key for key in host.objects() if f"/{job}/" in key and ".age" in key) for job in ("shop", "blog")
    )
    data = host.get(shop)
    host.put(shop, host.get(blog))
    host.put(blog, data)
    for job in ("shop", "blog"):
        assert "not what was stored: it was changed, damaged or swapped" in host.bad("drill", job)
    host.good("run", "shop")
    host.good("drill", "shop")


def test_a_lost_manifest(host: FlowHost) -> None:
    host.fresh(printing("shop", "head -c 100000 /dev/urandom"))
    host.good("run", "shop")
    first = host.backups()[0]["backup"]
    host.good("run", "shop")
    key = next(key for key in host.objects() if key.endswith("manifest.json") and first not in key)
    manifest = host.get(key)
    host.client.delete_object(Bucket=BUCKET, Key=key)
    assert [backup["backup"] for backup in host.backups()] == [first]
    host.good("drill", "shop")
    assert "is lost" in host.good("prune")
    # Put back, the backup exists again.
    host.put(key, manifest)
    assert len(host.backups()) == 2
    host.good("drill", "shop")


def test_a_manifest_that_was_cut(host: FlowHost) -> None:
    host.fresh(printing("shop", "head -c 100000 /dev/urandom"))
    host.good("run", "shop")
    key = host.key("manifest.json")
    host.put(key, host.get(key)[:100])
    assert "is not a manifest: it was cut off or overwritten" in host.bad("drill", "shop")
    host.good("run", "shop")
    host.good("drill", "shop")


# -- the store misbehaves ---------------------------------------------------------------------------------------------

PART = "partNumber="
PASSES = {
    "busy": [{"do": "answer", "status": 503, "method": "PUT", "path": PART, "count": 3}],
    "too many requests": [{"do": "answer", "status": 429, "method": "PUT", "count": 2}],
    "internal error": [{"do": "answer", "status": 500, "count": 3}],
    "cut in the middle of a part": [{"do": "cut_request", "method": "PUT", "path": PART, "bytes": 9 * MIB, "count": 2}],
    "answer lost after the last part": [{"do": "lose_answer", "method": "POST", "path": "uploadId=", "count": 1}],
    "answer lost after the manifest": [{"do": "lose_answer", "method": "PUT", "path": "manifest.json", "count": 1}],
    "slow": [{"do": "slow", "method": "PUT", "path": "partNumber=2", "rate": 8 * MIB}],
}


@pytest.mark.parametrize("fault", PASSES if FULL else dice.sample(list(PASSES), 3))
def test_what_passes_costs_nothing_but_time(host: FlowHost, fault: str) -> None:
    host.fresh()
    host.s3.faults.set(*PASSES[fault])
    host.good("run", "shop")
    assert any(request["fault"] for request in host.s3.faults.log())
    host.s3.faults.set()
    assert len(host.backups()) == 1
    assert host.unfinished() == 0
    host.good("verify", "shop")


REFUSES = {
    "not allowed": ({"status": 403, "path": PART}, ""),
    "not there": ({"status": 404, "code": "NoSuchBucket"}, BUCKET),
    "full": ({"status": 507, "path": PART}, "is full"),
    "wrong key in the middle": ({"status": 403, "path": PART, "code": "InvalidAccessKeyId", "skip": 1}, "key"),
    "full at the manifest": ({"status": 507, "path": "manifest.json"}, "is full"),
}


@pytest.mark.parametrize("fault", REFUSES if FULL else dice.sample(list(REFUSES), 2))
def test_what_is_refused_is_said_at_once(host: FlowHost, fault: str) -> None:
    host.fresh()
    rule, said = REFUSES[fault]
    host.s3.faults.set({"do": "answer", "method": "PUT|POST|GET", **rule})
    begun = time.monotonic()
    sentence = host.bad("run", "shop")
    assert said in sentence
    assert time.monotonic() - begun < 30
    host.s3.faults.set()
    host.assert_nothing_visible()
    assert host.state()["error"] == sentence
    host.assert_sound()


def test_a_clock_that_is_twenty_minutes_off(host: FlowHost) -> None:
    host.fresh()
    host.s3.faults.set({"do": "skew", "seconds": 1200})
    assert "clock is 20 minutes behind" in host.bad("run", "shop")
    host.s3.faults.set()
    host.assert_nothing_visible()
    host.assert_sound()


def test_a_store_that_is_down_for_a_while(host: FlowHost) -> None:
    host.fresh()
    process = host.start("run", "shop")
    time.sleep(1.5)
    host.s3.faults.set({"do": "down"})
    time.sleep(8)
    host.s3.faults.set()
    _out, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    host.good("verify", "shop")


def test_a_store_that_is_down_for_longer(host: FlowHost) -> None:
    host.fresh()
    host.settings["store"]["patience_seconds"] = 5
    host.save()
    host.s3.faults.set({"do": "down"})
    sentence = host.bad("run", "shop")
    assert "Given up after" in sentence
    host.s3.faults.set()
    host.assert_nothing_visible()
    host.assert_sound()


def test_reading_goes_on_where_it_was_cut(host: FlowHost) -> None:
    host.fresh()
    host.good("run", "shop")
    host.s3.faults.set({"do": "cut_answer", "method": "GET", "path": r"\.age", "bytes": 9 * MIB, "count": 3})
    host.good("drill", "shop")
    assert sum(request["fault"] is not None for request in host.s3.faults.log()) == 3


def test_a_listing_that_breaks_drops_nothing(host: FlowHost) -> None:
    host.fresh(printing("shop", "head -c 1000 /dev/urandom"), keep={"daily": 1, "weekly": 0, "monthly": 0})
    host.good("run", "shop")
    clone(host, 3)
    host.s3.faults.set({"do": "answer", "status": 403, "method": "GET", "path": "list-type"})
    host.bad("prune")
    host.s3.faults.set()
    assert len(host.backups()) == 4
