"""Redis, ClickHouse, restic, files, the system and commands on real hosts: the round trip, drills that notice, restores
and their way back. Debian 12 has Redis 7.0, restic 0.14 and ClickHouse 18.16, Debian 13 has Redis 8.0 and restic 0.18.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hosts import hosts

from tests.backups.agent_host import ROOT, STORE, AgentHost

FULL = bool(os.environ.get("BULWARK_FULL"))
SYSTEMS = ("debian12", "debian13")
NAME = hosts.named("bulwark-kinds")
CLIENT = "REDISCLI_AUTH=correct-horse-battery redis-cli -p 6390 --user app"
REDIS = """
set -e
systemctl disable -q --now redis-server
install -d -o redis -g redis -m 750 /var/lib/redis/broker
cat > /etc/redis/broker.conf << END
port 6390
bind 127.0.0.1
supervised systemd
dir /var/lib/redis/broker
aclfile /etc/redis/broker.acl
logfile ""
appendonly yes
save 900 1 300 10 60 10000
repl-diskless-sync-delay 0
END
cat > /etc/redis/broker.acl << END
user default off resetpass -@all
user app on >correct-horse-battery ~* &* +@all
user bulwark-backup on >battery-horse-correct resetkeys -@all +sync +psync +replconf +ping +info
END
cat > /etc/systemd/system/redis@broker.service << END
[Service]
Type=notify
ExecStart=/usr/bin/redis-server /etc/redis/broker.conf
User=redis
Group=redis
ProtectSystem=strict
ReadWritePaths=/var/lib/redis/broker
END
systemctl daemon-reload
systemctl start redis@broker
"""
BROKER = {
    "user": "bulwark-backup",
    "password": "battery-horse-correct",
    "port": 6390,
    "unit": "redis@broker.service",
    "config_file": "/etc/redis/broker.conf",
}
TABLES = """
DROP DATABASE IF EXISTS shop;
CREATE DATABASE shop;
CREATE TABLE shop.events (d Date, id UInt64, name String, tags Array(String), v Nullable(Float64)) ENGINE = MergeTree
 PARTITION BY toYYYYMM(d) ORDER BY id;
CREATE TABLE shop.`odd na/me` (t DateTime, m String) ENGINE = Log;
"""
FILL = [
    "CREATE MATERIALIZED VIEW shop.daily ENGINE = SummingMergeTree ORDER BY d AS "
    "SELECT d, count() AS c FROM shop.events GROUP BY d",
    "CREATE VIEW shop.total AS SELECT count() AS c FROM shop.events",
    "INSERT INTO shop.events SELECT toDate('2026-01-01') + number % 90, number, concat('n', toString(number)), "
    "['a', 'b'], number / 3 FROM system.numbers LIMIT 100000",
    "INSERT INTO shop.`odd na/me` VALUES (now(), 'it''s')",
]


def start(image: str) -> AgentHost:
    packages = ["redis-server", "restic", *(["clickhouse-server", "clickhouse-client"] if image == "debian12" else [])]
    host = AgentHost(f"{NAME}-{image}", image)
    return host.up(*packages)


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, AgentHost]]:
    with ThreadPoolExecutor() as pool:
        found = dict(zip(SYSTEMS, pool.map(start, SYSTEMS)))
    yield found
    if not os.environ.get("BULWARK_KEEP"):
        for host in found.values():
            host.down()


# The way through on both systems, what goes wrong on the one with the older programs.
both = pytest.mark.parametrize("host", SYSTEMS, indirect=True)
one = pytest.mark.parametrize("host", SYSTEMS if FULL else SYSTEMS[:1], indirect=True)


@pytest.fixture
def host(request: pytest.FixtureRequest, hosts: dict[str, AgentHost]) -> AgentHost:
    return hosts[request.param]


@pytest.fixture
def debian12(hosts: dict[str, AgentHost]) -> AgentHost:
    return hosts["debian12"]


def damage(host: AgentHost, job: str, kind: str = "*.age") -> None:
    """Turns one bit of a member of the newest backup."""
    host.sh(
        f"file=$(ls -d {STORE}/{host.name}/{job}/*/{kind} | tail -1); python3 - \"$file\" << 'END'\n"
        "import sys\ndata = bytearray(open(sys.argv[1], 'rb').read())\ndata[len(data) // 2] ^= 1\n"
        "open(sys.argv[1], 'wb').write(data)\nEND"
    )


def newest(lines: str, pattern: str) -> str:
    found = re.search(pattern, lines)
    assert found, lines
    return found[1]


# Redis


@pytest.fixture
def broker(host: AgentHost) -> AgentHost:
    """A broker with an append-only file, a thousand keys in two databases, and a queue."""
    if "redis@broker" not in host.sh("ls /etc/systemd/system"):
        host.sh(REDIS)
    host.sh(
        f"{CLIENT} flushall; "
        f"(for n in $(seq 998); do echo set k$n $n; done; echo lpush queue a b c) | {CLIENT} > /dev/null"
    )
    host.sh(f"{CLIENT} -n 2 setex short 3600 x")
    host.job("redis-broker", "redis", **BROKER)
    return host


@both
def test_a_restored_broker_keeps_its_data_after_a_restart(broker: AgentHost) -> None:
    broker.backup("run", "redis-broker")
    assert "the drill of" in broker.backup("drill", "redis-broker")
    broker.sh(f"{CLIENT} del k1 && {CLIENT} set later 1 && {CLIENT} lpop queue")
    said = broker.backup("restore", "redis-broker", "--yes")
    for _ in range(2):
        assert broker.sh(f"{CLIENT} get k1; {CLIENT} llen queue; {CLIENT} exists later").split() == ["1", "3", "0"]
        assert "aof_enabled:1" in broker.sh(f"{CLIENT} info persistence")
        broker.sh(f"{CLIENT} set after 1; systemctl kill -s KILL redis@broker; systemctl restart redis@broker")
    assert broker.sh(f"{CLIENT} get after").strip() == "1"
    broker.sh(newest(said, r"Way back: (systemctl.*)"))
    assert broker.sh(f"{CLIENT} exists k1; {CLIENT} llen queue; {CLIENT} get later").split() == ["0", "2", "1"]


@one
def test_keys_come_and_go_while_a_broker_is_backed_up(broker: AgentHost) -> None:
    loop = f"while true; do (for n in $(seq 2000); do echo set x$n $n px 50; done; echo flushall) | {CLIENT}; done"
    broker.sh(f"systemd-run -q --unit churn bash -c '{loop} > /dev/null'")
    try:
        broker.backup("run", "redis-broker")
    finally:
        broker.sh("systemctl stop churn")
    broker.backup("drill", "redis-broker")


@one
def test_a_refused_user_makes_no_backup(broker: AgentHost) -> None:
    broker.job("redis-broker", "redis", **{**BROKER, "password": "guessed-password"})
    said = broker.backup("run", "redis-broker", ok=False)
    assert "NOAUTH" in said
    assert "guessed-password" not in said


@one
def test_a_broker_that_does_not_start_gets_its_data_back(broker: AgentHost) -> None:
    broker.backup("run", "redis-broker")
    broker.sh(f"{CLIENT} set later 1")
    # Whatever the reason is: with the new folder it does not start, with the old one it does.
    drop_in = "/run/systemd/system/redis@broker.service.d"
    lines = r"[Service]\nExecStartPre=/usr/bin/test -e /var/lib/redis/broker/mark\n"
    broker.sh(f"touch /var/lib/redis/broker/mark; mkdir -p {drop_in}; printf '{lines}' > {drop_in}/mark.conf")
    broker.sh("systemctl daemon-reload")
    try:
        said = broker.backup("restore", "redis-broker", "--yes", ok=False)
    finally:
        broker.sh(f"rm -r {drop_in}; systemctl daemon-reload")
    assert "has the data that it had before" in said
    assert broker.sh(f"{CLIENT} get later").strip() == "1"


@pytest.mark.skipif(not FULL, reason="the quick form runs this runbook for PostgreSQL")
@one
def test_the_runbook_stops_the_workers_and_keeps_what_it_replaces(broker: AgentHost, tmp_path: Path) -> None:
    broker.install_command()
    broker.write("/etc/systemd/system/celery-worker@.service", "[Service]\nExecStart=/bin/sleep 1d\n")
    broker.sh("systemctl daemon-reload; systemctl start celery-worker@upload")
    broker.backup("run", "redis-broker")
    broker.sh(f"{CLIENT} del k1")
    started = "systemctl show -P ActiveEnterTimestampMonotonic celery-worker@upload"
    before = broker.sh(started)
    runbook = ROOT / "playbooks/restore_redis.yml"
    asked = broker.playbook(runbook, tmp_path, ok=False, restore_safety_backup=False)
    assert "backups_restore_confirmed=yes" in asked
    assert (broker.sh(started), broker.sh(f"{CLIENT} exists k1").strip()) == (before, "0")
    done = broker.playbook(runbook, tmp_path, restore_safety_backup=False, backups_restore_confirmed="yes")
    assert "Way back: systemctl stop redis@broker.service" in done
    assert broker.sh(f"{CLIENT} get k1").strip() == "1"
    assert int(broker.sh(started)) > int(before)


# ClickHouse


def query(host: AgentHost, *statements: str) -> list[str]:
    return [host.sh("timeout 60 clickhouse-client -n", text_in=one).strip() for one in statements]


@pytest.fixture
def shop(debian12: AgentHost) -> AgentHost:
    debian12.sh(
        "systemctl start clickhouse-server; "
        "for n in $(seq 100); do timeout 5 clickhouse-client -q 'SELECT 1' && break; sleep 0.1; done"
    )
    query(debian12, TABLES, *FILL)
    debian12.job("analytics", "clickhouse", databases=["shop"])
    return debian12


def test_clickhouse_round_trip(shop: AgentHost) -> None:
    counts = (
        "SELECT count() FROM shop.events; SELECT m FROM shop.`odd na/me`; "
        "SELECT sum(c) FROM shop.daily; SELECT c FROM shop.total"
    )
    before = query(shop, counts)
    shop.backup("run", "analytics")
    rows = {member["name"]: member["evidence"].get("rows") for member in shop.manifest("analytics")["members"]}
    assert rows["shop.events.native"] == [100000, 100000]
    assert "passed" in shop.backup("drill", "analytics")
    query(shop, "DROP TABLE shop.`odd na/me`", "INSERT INTO shop.events (id) VALUES (1)")
    said = shop.backup("restore", "analytics", "--yes")
    assert query(shop, counts) == before
    query(shop, *newest(said, r"Way back: (.*);").split("; "))
    assert query(shop, "SELECT count() FROM shop.events; SELECT sum(c) FROM shop.daily") == ["100001\n100001"]
    shop.backup("restore", "analytics", "--to", "as=copy", "--yes")
    assert query(shop, "SELECT count() FROM copy.events") == ["100000"]
    query(shop, "DROP DATABASE copy", "DROP DATABASE shop")
    assert "was made" in shop.backup("restore", "analytics", "--yes")
    assert query(shop, counts) == before


def test_the_runbook_of_clickhouse_keeps_what_it_replaces(shop: AgentHost, tmp_path: Path) -> None:
    shop.install_command()
    shop.backup("run", "analytics")
    rows = ["SELECT count() FROM shop.events"]
    query(shop, "INSERT INTO shop.events (id) VALUES (1)")
    runbook = ROOT / "playbooks/restore_clickhouse.yml"
    asked = shop.playbook(runbook, tmp_path, ok=False)
    assert "backups_restore_confirmed=yes" in asked
    assert query(shop, *rows) == ["100001"]
    said = shop.playbook(runbook, tmp_path, restore_safety_backup=False, backups_restore_confirmed="yes")
    assert query(shop, *rows) == ["100000"]
    query(shop, *newest(said, r"Way back: (.*);").split("; "))
    assert query(shop, *rows) == ["100001"]


def test_clickhouse_drill_notices_lost_rows(shop: AgentHost) -> None:
    shop.backup("run", "analytics")
    damage(shop, "analytics", "shop.events.native*")
    assert "not what was stored" in shop.backup("drill", "analytics", ok=False)


def test_clickhouse_password_is_in_no_command_line(shop: AgentHost) -> None:
    shop.job("analytics", "clickhouse", databases=["shop"], password="wrong-secret")
    said = shop.backup("run", "analytics", ok=False)
    assert "Wrong password" in said
    assert "wrong-secret" not in said


# restic


@pytest.fixture
def media(host: AgentHost) -> AgentHost:
    host.sh(
        f"rm -rf {STORE}/restic /srv/media*; mkdir -p '/srv/media/a [b]'; cd /srv/media\n"
        'for n in $(seq 100); do head -c 20000 /dev/urandom > "a [b]/file $n*"; done\n'
        "head -c 9000000 /dev/urandom > big; ln -s big link; chown -R 33:33 ."
    )
    host.job("media", "restic", paths=["/srv/media"], password="key-of-the-repository")
    return host


@both
def test_the_second_run_of_restic_stores_little(media: AgentHost) -> None:
    media.backup("run", "media")
    media.sh("echo more >> '/srv/media/a [b]/file 1*'")
    media.backup("run", "media")
    engine = media.manifest("media")["engine"]
    assert engine["plain_bytes"] > 10_000_000
    assert engine["stored_bytes"] < 200_000
    assert len(engine["samples"]) > 50
    assert "passed" in media.backup("drill", "media")
    before = media.sh(
        "cd /srv/media && find . -type f -exec sha256sum {} + | sort; find . -printf '%p %u %m %l\\n' | sort"
    )
    media.sh("rm -r '/srv/media/a [b]'; echo x > /srv/media/big")
    said = media.backup("restore", "media", "--yes")
    assert (
        media.sh("cd /srv/media && find . -type f -exec sha256sum {} + | sort; find . -printf '%p %u %m %l\\n' | sort")
        == before
    )
    assert media.sh(f"cat {newest(said, r'what was there is (.*)[.]')}/big") == "x\n"
    media.backup("restore", "media", "--to", "only=/srv/media/a [b]/file 7*", "--to", "path=/srv/media.one", "--yes")
    assert media.sh("find /srv/media.one -type f").strip() == "/srv/media.one/srv/media/a [b]/file 7*"


@one
def test_restic_drill_notices_a_damaged_pack(media: AgentHost) -> None:
    media.backup("run", "media")
    media.sh(
        f"for file in $(find {STORE}/restic -path '*/data/*' -size +1M); do "
        "chmod u+w $file; printf x | dd of=$file bs=1 seek=500000 conv=notrunc status=none; done"
    )
    assert "failed" in media.backup("drill", "media", ok=False)


@one
def test_a_repository_of_another_password_is_left_alone(media: AgentHost) -> None:
    media.backup("run", "media")
    config = media.sh(f"sha256sum $(find {STORE}/restic -name config)")
    media.job("media", "restic", paths=["/srv/media"], password="another")
    assert "not that of the repository" in media.backup("run", "media", ok=False)
    assert media.sh(f"sha256sum $(find {STORE}/restic -name config)") == config


@one
def test_what_is_dropped_leaves_the_repository(media: AgentHost) -> None:
    media.job(
        "media",
        "restic",
        paths=["/srv/media"],
        password="key-of-the-repository",
        keep={"daily": 1, "weekly": 0, "monthly": 0},
    )
    media.backup("run", "media")
    media.sh("rm /srv/media/big")
    media.backup("run", "media")
    media.backup("prune", "media")
    assert int(media.sh(f"du -sk {STORE}/restic").split()[0]) < 5_000
    assert "passed" in media.backup("drill", "media")


# Files, the system, commands


def test_files_that_change_while_they_are_read(debian12: AgentHost) -> None:
    debian12.sh(
        "rm -rf /srv/live*; mkdir /srv/live; for n in $(seq 300); do head -c 200000 /dev/urandom > /srv/live/$n; done"
    )
    debian12.sh(
        "systemd-run -q --unit churn bash -c "
        "'while true; do echo x >> /srv/live/150; rm -f /srv/live/x*; touch /srv/live/x$RANDOM; done'"
    )
    debian12.job("live", "files", paths=["/srv/live"])
    try:
        debian12.backup("run", "live")
    finally:
        debian12.sh("systemctl stop churn")
    assert "passed" in debian12.backup("drill", "live")
    damage(debian12, "live")
    assert "not what was stored" in debian12.backup("drill", "live", ok=False)
    said = debian12.backup("restore", "live", "--yes", ok=False)
    assert "not what was stored" in said
    assert debian12.sh("ls -d /srv/live*").split() == ["/srv/live"]


@both
def test_owners_modes_attributes_and_holes_survive(host: AgentHost) -> None:
    look = (
        "cd /srv/tree; find . -printf '%p %y %U:%G %m %s %l %n\\n' | sort; du -k hole; "
        "python3 -c \"import os; print(os.getxattr('f', 'user.note'))\""
    )
    host.sh(
        "rm -rf /srv/tree*; mkdir -p /srv/tree/sub; cd /srv/tree; echo x > f; chown 1234:4321 f; chmod 4750 f\n"
        "truncate -s 100M hole; mkfifo pipe; ln f sub/hard; ln -s /nowhere dead; mknod null c 1 3\n"
        "touch \"$(printf 'new\\nline')\"; python3 -c \"import os; os.setxattr('f', 'user.note', b'kept')\""
    )
    before = host.sh(look)
    host.job("tree", "files", paths=["/srv/tree"])
    host.backup("run", "tree")
    assert "passed" in host.backup("drill", "tree")
    host.sh("rm -r /srv/tree/*")
    host.backup("restore", "tree", "--yes")
    assert host.sh(look) == before


def test_files_go_to_the_user_of_the_same_name(debian12: AgentHost) -> None:
    owners = "stat -c '%U %u %g' /srv/uploads/a"
    debian12.sh("useradd -r -u 901 uploader; rm -rf /srv/uploads*; mkdir /srv/uploads; echo x > /srv/uploads/a")
    debian12.sh("chown -R uploader: /srv/uploads")
    debian12.job("uploads", "files", paths=["/srv/uploads"])
    debian12.backup("run", "uploads")
    # As on a host that was rebuilt: the same name, another number, and the old number is somebody else's.
    debian12.sh("usermod -u 902 uploader; groupmod -g 903 uploader; useradd -r -u 901 other")
    debian12.sh("rm -r /srv/uploads")
    assert "passed" in debian12.backup("drill", "uploads")
    debian12.backup("restore", "uploads", "--yes")
    assert debian12.sh(owners).split() == ["uploader", "902", "903"]
    debian12.sh("userdel uploader")
    said = debian12.backup("restore", "uploads", "--yes", ok=False)
    assert "The user uploader of the backup does not exist here, and its number 901 belongs to other" in said
    debian12.backup("restore", "uploads", "--to", "path=/srv/uploads.old", "--yes")
    debian12.sh("userdel other")


def test_certificates_come_back_in_their_place(debian12: AgentHost) -> None:
    debian12.sh("rm -f /etc/later; mkdir -p /etc/letsencrypt/live")
    debian12.sh("cd /etc/letsencrypt/live; echo first > key.pem; chmod 600 key.pem")
    debian12.job("system", "system")
    debian12.backup("run", "system")
    assert "passed" in debian12.backup("drill", "system")
    debian12.sh("rm -rf /etc/letsencrypt /srv/old; touch /etc/later")
    debian12.backup("restore", "system", "--to", "only=letsencrypt", "--yes")
    assert debian12.sh("cat /etc/letsencrypt/live/key.pem; stat -c %a /etc/letsencrypt/live/key.pem") == "first\n600\n"
    debian12.backup("restore", "system", "--to", "path=/srv/old", "--yes")
    assert "hosts" in (names := debian12.sh("ls /srv/old/etc").split())
    assert "later" not in names
    assert "redis-server\tinstall" in re.sub("\t+", "\t", debian12.sh("cat /srv/old/packages.txt"))


def test_a_command_that_fails_late_leaves_no_backup(debian12: AgentHost) -> None:
    debian12.job("data", "command", command=["sh", "-c", "head -c 5000000 /dev/urandom; exit 3"])
    assert "exit status 3" in debian12.backup("run", "data", ok=False)
    assert not debian12.sh(f"find {STORE}/{debian12.name}/data -type f")
