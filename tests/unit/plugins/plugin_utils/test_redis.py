"""Redis: completed instances, shares of the memory, users, units, and a sentence for each bad input."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.plugin_utils import redis

PASSWORD = "correct-horse-battery"
APP = {"name": "app", "password": PASSWORD}


def one(**more: Any) -> dict[str, Any]:
    return redis.redis_instances([{"name": "broker", "users": [APP], **more}], 512)[0]


def problems(*instances: dict[str, Any]) -> list[str]:
    return redis.redis_problems(redis.redis_instances(list(instances), 512))


def test_a_broker_keeps_what_it_took():
    broker = one()
    assert broker["settings"]["maxmemory-policy"] == "noeviction"
    assert (broker["settings"]["appendonly"], broker["settings"]["appendfsync"]) == ("yes", "everysec")
    assert (broker["port"], broker["addresses"], broker["maxmemory_mb"]) == (6379, ["127.0.0.1", "-::1"], 512)


def test_a_cache_evicts_and_snapshots():
    settings = one(profile="cache")["settings"]
    assert (settings["maxmemory-policy"], settings["appendonly"]) == ("allkeys-lru", "no")
    assert settings["save"] == "900 1 300 10 60 10000"
    assert (settings["tcp-backlog"], settings["timeout"]) == (511, 300)


def test_own_settings_win():
    assert (
        one(settings={"timeout": 0, "hz": 20})["settings"] | {"timeout": 0, "hz": 20}
        == one(settings={"timeout": 0, "hz": 20})["settings"]
    )


def test_the_rest_of_the_memory_is_shared():
    asked = [{"name": "a", "maxmemory_mb": 200}, {"name": "b"}, {"name": "c"}]
    assert [done["maxmemory_mb"] for done in redis.redis_instances(asked, 500)] == [200, 150, 150]


@given(st.integers(24, 1 << 20), st.integers(1, 4))
def test_shares_stay_within_the_memory(memory_mb, count):
    done = redis.redis_instances([{"name": f"n{index}"} for index in range(count)], memory_mb)
    shares = [instance["maxmemory_mb"] for instance in done]
    assert sum(shares) <= max(memory_mb, 16 * count)
    assert min(shares) >= 16


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "My Broker"}, "cannot be part of a unit name"),
        ({"settings": {"maxmemory-policy": "allkeys-lru"}}, "throws queued tasks away"),
        ({"users": []}, "has no users"),
        ({"users": [{"name": "app", "password": "short"}]}, "needs a password of 16 characters"),
        ({"users": [{"name": "app", "password": ""}]}, "openssl rand -hex 24 makes one"),
        ({"users": [{"name": "app"}]}, "needs a password of 16 characters"),
        ({"users": [{**APP, "name": "app on nopass"}]}, "an ACL file cannot hold"),
        ({"users": [{**APP, "rules": "~* +@all\nuser other on nopass"}]}, "an ACL file cannot hold"),
    ],
)
def test_bad_input_ends_in_one_sentence(more, words):
    found = problems({"name": "broker", "users": [APP], **more})
    assert len(found) == 1, found
    assert words in found[0]


def test_names_and_ports_are_there_once():
    found = problems({"name": "a", "users": [APP]}, {"name": "a", "users": [APP]})
    assert len(found) == 2
    assert "both want port 6379" in found[0]
    assert "the name 'a' is there twice" in found[1]


def test_one_port_on_two_addresses_is_fine():
    first = {"name": "a", "users": [APP], "addresses": ["127.0.0.1"]}
    assert problems(first, {"name": "b", "users": [APP], "addresses": ["10.0.0.5"]}) == []


def test_good_input_is_fine():
    assert problems({"name": "broker", "users": [APP]}, {"name": "cache", "port": 6380, "users": [APP]}) == []


def test_firewall_rules():
    rules = redis.redis_firewall_rules([{"name": "a"}, {"name": "b", "port": 6380, "allow_from": ["10.0.0.0/24"]}])
    assert rules == [
        {"port": 6379, "from": [], "name": "redis a"},
        {"port": 6380, "from": ["10.0.0.0/24"], "name": "redis b"},
    ]


def test_acl_has_no_default_user_and_no_plain_password():
    acl = redis.redis_acl([APP, {"name": "reader", "password": "x", "rules": "~* +@read"}])
    lines = acl.splitlines()
    assert lines[0] == "user default off resetpass -@all"
    assert f"#{hashlib.sha256(PASSWORD.encode()).hexdigest()} " in lines[1]
    assert lines[2].endswith("~* +@read")
    assert PASSWORD not in acl


def test_files_keep_the_users_secret():
    files = redis.redis_files([one()])
    assert PASSWORD not in json.dumps([entry.get("content") for entry in files])
    assert [entry["path"] for entry in files if entry.get("secret")] == ["/etc/redis/broker.acl"]
    assert files[0] == {
        "path": "/var/lib/redis/broker",
        "state": "directory",
        "owner": "redis",
        "group": "redis",
        "mode": "0750",
    }


def test_units():
    package, broker = redis.redis_units([one(maxmemory_mb=100)])
    assert (package["enabled"], package["state"]) == (False, "stopped")
    assert broker["name"] == "redis@broker.service"
    assert broker["restart_on"] == ["/etc/redis/broker.conf", "/etc/redis/broker.acl"]
    service = broker["sections"]["Service"]
    assert (service["MemoryMax"], service["TimeoutStopSec"]) == ("264M", 300)


def test_a_broker_is_backed_up_by_a_user_who_may_do_nothing_else():
    broker = {"name": "broker", "users": [APP], "addresses": ["0.0.0.0", "-::1"], "port": 6390}
    cache = {"name": "cache", "profile": "cache", "users": [APP]}
    (job,) = redis.redis_backup_jobs([broker, cache])
    assert (job["name"], job["address"], job["port"]) == ("redis-broker", "127.0.0.1", 6390)
    line = redis.redis_acl([APP]).splitlines()[-1]
    assert line.startswith(f"user {job['user']} on #{hashlib.sha256(job['password'].encode()).hexdigest()} ")
    assert "-@all +sync +psync" in line
    assert "~" not in line
    assert PASSWORD not in job["password"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"unixsocket": "/run/redis/b.sock"}, {"socket": "/run/redis/b.sock"}),
        ({"tls-port": 6390, "tls-ca-cert-file": "/ca"}, {"tls": True, "port": 6390, "ca_file": "/ca"}),
        ({"tls-port": 0}, {"port": 6379}),
    ],
)
def test_the_backup_takes_the_way_that_the_settings_leave(settings: dict[str, Any], expected: dict[str, Any]):
    (job,) = redis.redis_backup_jobs([{"name": "broker", "users": [APP], "settings": settings}])
    assert {name: job[name] for name in expected} == expected
    assert ("tls" in job, "address" in job) == ("tls" in expected, "socket" not in expected)


def test_an_instance_without_a_password_publishes_no_backup():
    assert redis.redis_backup_jobs([{"name": "broker", "users": [{"name": "app"}]}, {"name": "empty"}]) == []
