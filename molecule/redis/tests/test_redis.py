"""Redis behaves: users, profiles, limits, persistence."""

from __future__ import annotations

import pytest

CLI = "redis-cli --no-auth-warning -u redis://app:correct-horse-battery@127.0.0.1"


@pytest.mark.parametrize("name", ["broker", "cache"])
def test_instance_runs(running, name):
    running(f"redis@{name}.service")


def test_package_service_is_off(host):
    assert host.run("systemctl is-active redis-server").stdout.strip() == "inactive"


def test_user_may_work_and_not_administer(run):
    assert run(f"{CLI}:6379 set molecule 1").strip() == "OK"
    assert "NOPERM" in run(f"{CLI}:6379 flushall", ok=False)


def test_anonymous_is_refused(run):
    assert "NOAUTH" in run("redis-cli -p 6379 get molecule", ok=False)


@pytest.mark.parametrize(
    ("port", "maxmemory", "policy", "aof"), [(6379, 512, "noeviction", 1), (6380, 64, "allkeys-lru", 0)]
)
def test_profile_is_in_effect(run, port, maxmemory, policy, aof):
    info = dict(line.split(":", 1) for line in run(f"{CLI}:{port} info").splitlines() if ":" in line)
    assert int(info["maxmemory"]) == maxmemory * 1048576
    assert info["maxmemory_policy"] == policy
    assert int(info["aof_enabled"]) == aof


def test_broker_keeps_what_it_took(run):
    run(f"{CLI}:6379 set kept forever")
    run("sleep 1.2; systemctl kill -s KILL redis@broker; sleep 5")
    assert run(f"{CLI}:6379 get kept").strip() == "forever"


def test_memory_limit_of_the_unit(run):
    assert run("systemctl show -p MemoryMax --value redis@broker").strip() == str((512 * 2 + 64) * 1048576)


def test_sandbox(exposure):
    assert exposure("redis@broker.service") <= 2.0
