"""The figures of backups: each against the same work done by hand, in one run, with the same data and the same store.

    python tests/bench/backups.py [dump] [memory] [catalogue] [tree]

BENCH_SCALE (30) is the scale of pgbench, BENCH_STREAM_GB (20) the length of the stream, BENCH_TREE_MB (5120) the tree.
On a machine that does other things at the same time, CPU seconds are the number to trust.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hosts import hosts
from stores.stores import CA, RgwStore

from tests.backups.agent_host import AGENT, SETTINGS, AgentHost

NAME = hosts.named("bulwark-bench-backups")
BUCKET = "bench"
REPEAT = int(os.environ.get("BENCH_REPEAT", "3"))
SCALE = int(os.environ.get("BENCH_SCALE", "30"))
STREAM_GB = float(os.environ.get("BENCH_STREAM_GB", "20"))
TREE_MB = int(os.environ.get("BENCH_TREE_MB", "5120"))
OBJECTS = 100_000
EVENTS = """
CREATE TABLE events AS SELECT n AS id, now() - n * interval '1 second' AS at, jsonb_build_object('user', n % 5000,
 'action', (ARRAY['view','buy','search','leave'])[1 + n % 4], 'path', '/items/' || md5(n::text), 'ms', n % 977) AS data
FROM generate_series(1, {rows}) n
"""
# 32,000 files: a tenth small text, a third logs, the rest cannot be compressed.
TREE = """
import os, random, sys
r, total = random.Random(1), int(sys.argv[1]) << 20
words = [bytes(r.choices(b"abcdefghijklmnopqrstuvwxyz", k=r.randint(3, 9))) for _ in range(2000)]
for n in range(32000):
    folder = f"/srv/tree/{n % 160:03}"
    os.makedirs(folder, exist_ok=True)
    size = int(total / 32000 * r.uniform(0.2, 1.8))
    kind = n % 20
    data = r.randbytes(size) if kind > 8 else b" ".join(r.choices(words, k=size // 7))
    with open(f"{folder}/{n}", "wb") as file:
        file.write(data)
"""
CHANGE = """
import glob, random
for name in random.Random({seed}).sample(sorted(glob.glob("/srv/tree/*/*")), 320):
    with open(name, "ab") as file:
        file.write(b"x" * 20000)
"""


class Bench:
    def __init__(self) -> None:
        self.figures: dict[str, dict[str, float]] = {}
        self.s3 = RgwStore(f"{NAME}-s3", disk=True).start()
        if BUCKET not in [bucket["Name"] for bucket in self.s3.client().list_buckets()["Buckets"]]:
            self.s3.client().create_bucket(Bucket=BUCKET)
        self.host = AgentHost(NAME, "debian13").up("python3-boto3", "zstd", "postgresql", "restic")
        for file, where in ((CA, "/etc/bulwark-backup/ca.pem"), (Path(__file__).with_name("measure.py"), "/root/")):
            hosts.docker("cp", "-q", str(file), f"{NAME}:{where}")
        hosts.docker("cp", "-q", str(Path(__file__).with_name("void.py")), f"{NAME}:/root/")

    def settings(self, *jobs: dict[str, Any], **store: Any) -> None:
        real = {"endpoint": self.s3.endpoint, **self.s3.keys._asdict(), "ca_file": "/etc/bulwark-backup/ca.pem"}
        plain = {
            "host": "h1",
            "store": {"kind": "s3", "bucket": BUCKET, "region": self.s3.region, **(store or real)},
            "recipients": [self.host.public_key],
            "identity_file": "/etc/bulwark-backup/age.key",
            "jobs": list(jobs),
        }
        self.host.write(SETTINGS, json.dumps(plain))

    def agent(self, *words: str) -> str:
        return f"cd {Path(AGENT).parent} && python3 -m bulwark_backup.cli {shlex.join(words)}"

    def measure(self, name: str, command: str, before: str = "") -> None:
        """Once; the median of all times counts. What prepares it is not measured."""
        if before:
            self.host.sh(before)
        said = self.host.sh(
            f"python3 /root/measure.py {shlex.quote(command)} 2> /tmp/said || {{ cat /tmp/said; exit 1; }}"
        )
        self.runs.setdefault(name, []).append(json.loads(said))

    def cases(self, times: int, *cases: Callable[[], None]) -> None:
        """One after the other, again and again, so that all of them see the same machine."""
        self.runs: dict[str, list[dict[str, float]]] = {}
        for _time in range(times):
            for case in cases:
                case()
        for name, runs in self.runs.items():
            self.figures[name] = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
            row = "  ".join(f"{key} {value:>8}" for key, value in self.figures[name].items())
            print(f"  {name:<22}{row}", flush=True)

    def dump(self) -> None:
        sh = self.host.sh
        sh("systemctl start postgresql; cd /tmp; chmod 711 /root")
        if "bench" not in sh("su postgres -c 'psql -Atc \"SELECT datname FROM pg_database\"'"):
            sh(f"su postgres -c 'createdb bench && pgbench -q -i -s {SCALE} bench' 2>&1")
            sh(
                "su postgres -c 'psql -q bench'",
                text_in=EVENTS.format(rows=SCALE * 73_000) + "; VACUUM ANALYZE; CHECKPOINT;",
            )
        dump = ["pg_dump", "-Fc", "-Z0", "bench"]
        restore = ["pg_restore", "-d", "target"]
        stream = {"name": "stream", "kind": "command", "user": "postgres", "command": dump, "restore_command": restore}
        self.settings(stream, {"name": "shop", "kind": "postgres", "databases": ["bench"]})
        floor = f"su postgres -c '{shlex.join(dump)}' | zstd -q -3"
        self.cases(
            REPEAT,
            lambda: self.measure("dump floor", f"{floor} > /dev/null"),
            lambda: self.measure("dump command", self.agent("run", "stream")),
            lambda: self.measure("dump postgres", self.agent("run", "shop")),
        )
        sh(f"{floor} > /tmp/dump.zst")
        empty = "su postgres -c 'dropdb --if-exists target; createdb target -T template0; psql -qc CHECKPOINT'"
        self.cases(
            max(REPEAT - 1, 1),
            lambda: self.measure(
                "restore floor", f"zstd -q -d -c /tmp/dump.zst | su postgres -c '{shlex.join(restore)}'", empty
            ),
            lambda: self.measure("restore command", self.agent("restore", "stream", "--yes"), empty),
        )

    def void(self) -> None:
        answers = "(: < /dev/tcp/127.0.0.1/9000) 2> /dev/null"
        start = f"(setsid python3 /root/void.py 9000 {OBJECTS // 2} > /dev/null 2>&1 &)"
        self.host.sh(f"{answers} || {start}; for n in $(seq 100); do {answers} && exit; sleep 0.1; done; exit 1")

    def settings_void(self, *jobs: dict[str, Any]) -> None:
        self.void()
        self.settings(*jobs, endpoint="http://127.0.0.1:9000", access_key="a", secret_key="b")

    def memory(self) -> None:
        def noise(megabytes: float) -> list[str]:
            key = "-aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 0"
            return ["bash", "-c", f"head -c {int(megabytes * 1e6)} /dev/zero | openssl enc {key}"]

        self.settings_void(
            {"name": "small", "kind": "command", "command": noise(100)},
            {"name": "large", "kind": "command", "command": noise(STREAM_GB * 1000)},
        )
        self.cases(REPEAT, lambda: self.measure("stream of 100 MB", self.agent("run", "small")))
        self.cases(1, lambda: self.measure(f"stream of {STREAM_GB:g} GB", self.agent("run", "large")))

    def catalogue(self) -> None:
        self.settings_void({"name": "shop", "kind": "command", "command": ["true"]})
        self.cases(1, lambda: self.measure("catalogue", self.agent("list", "--json")))

    def tree(self) -> None:
        sh = self.host.sh
        sh(f"test -d /srv/tree || python3 - {TREE_MB}", text_in=TREE)
        facts = self.s3.keys
        repository = f"s3:{self.s3.endpoint}/{BUCKET}/by-hand"
        env = {
            "AWS_ACCESS_KEY_ID": facts.access_key,
            "AWS_SECRET_ACCESS_KEY": facts.secret_key,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": repository,
            "RESTIC_CACERT": "/etc/bulwark-backup/ca.pem",
        }
        by_hand = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items()) + " restic -q"
        sh(f"{by_hand} cat config > /dev/null 2>&1 || {by_hand} init")
        job = {"name": "tree", "kind": "restic", "paths": ["/srv/tree"], "password": "bench"}
        self.settings(job)
        sh(f"{by_hand} backup /srv/tree; {self.agent('run', 'tree')}")
        seeds = iter(range(1000))

        def change() -> str:
            return f"python3 -c {shlex.quote(CHANGE.format(seed=next(seeds)))}"

        self.cases(
            REPEAT,
            lambda: self.measure("restic by hand", f"{by_hand} backup /srv/tree", change()),
            lambda: self.measure("restic by the agent", self.agent("run", "tree"), change()),
        )

    def report(self) -> int:
        def ratio(name: str, base: str, key: str) -> float:
            return self.figures[name][key] / self.figures[base][key]

        large = f"stream of {STREAM_GB:g} GB"
        goals: list[tuple[str, str, str, str, float]] = [
            ("dump, wall", "dump command", "dump floor", "wall", 1.15),
            ("dump, CPU", "dump command", "dump floor", "cpu", 1.2),
            ("dump with counts, wall", "dump postgres", "dump floor", "wall", 1.15),
            ("dump with counts, CPU", "dump postgres", "dump floor", "cpu", 1.2),
            ("dump, MiB", "dump command", "", "rss_mib", 128),
            ("dump, KiB written", "dump command", "", "written_kib", 512),
            ("restore, wall", "restore command", "restore floor", "wall", 1.1),
            ("restore, CPU", "restore command", "restore floor", "cpu", 1.1),
            (f"memory, {STREAM_GB:g} GB / 100 MB", large, "stream of 100 MB", "rss_mib", 1.1),
            (f"catalogue of {OBJECTS} objects, s", "catalogue", "", "wall", 10),
            ("catalogue, MiB", "catalogue", "", "rss_mib", 200),
            ("tree, 1 % changed, wall", "restic by the agent", "restic by hand", "wall", 1.1),
            ("tree, 1 % changed, CPU", "restic by the agent", "restic by hand", "cpu", 1.1),
        ]
        missed = 0
        for text, name, base, key, goal in goals:
            if name not in self.figures or (base and base not in self.figures):
                continue
            value = ratio(name, base, key) if base else self.figures[name][key]
            missed += value > goal
            print(f"  {text:<36}{value:>9.2f}   goal {goal:g}{'   MISSED' if value > goal else ''}")
        return 1 if missed else 0


def main() -> int:
    parts = sys.argv[1:] or ["dump", "memory", "catalogue", "tree"]
    bench = Bench()
    try:
        for part in parts:
            print(part, flush=True)
            getattr(bench, part)()
        return bench.report()
    finally:
        if not os.environ.get("BULWARK_KEEP"):
            bench.host.down()
            bench.s3.stop()


if __name__ == "__main__":
    sys.exit(main())
