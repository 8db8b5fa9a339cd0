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


def test_listens_on_loopback_only(run):
    listening = {
        line.split()[3].rsplit(":", 1)[0] for line in run("ss -Hltn '( sport = :6379 or sport = :6380 )'").splitlines()
    }
    assert listening
    assert listening <= {"127.0.0.1", "[::1]"}


def started(run, name):
    return run(f"systemctl show -p ActiveEnterTimestampMonotonic --value redis@{name}").strip()


def test_second_run_restarts_nothing(run, converge):
    before = started(run, "broker"), started(run, "cache")
    assert "changed=0" in converge()
    assert (started(run, "broker"), started(run, "cache")) == before


def test_a_change_restarts_its_instance_only_and_no_secret_is_shown(run, converge):
    before = started(run, "broker"), started(run, "cache")
    secret = "another-horse-battery"
    users = [{"name": "app", "password": "correct-horse-battery"}]
    cache = {"name": "cache", "profile": "cache", "port": 6380, "maxmemory_mb": 64}
    instances = [
        {"name": "broker", "maxmemory_mb": 512, "users": users},
        {**cache, "users": [*users, {"name": "other", "password": secret, "rules": "~other:* +@read"}]},
    ]
    output = converge("-vvv", "--diff", redis_instances=instances)
    output = output[output.index("PLAY [") :]
    assert secret not in output
    assert "correct-horse-battery" not in output
    assert started(run, "broker") == before[0]
    assert started(run, "cache") != before[1]
    other = f"redis-cli --no-auth-warning -u redis://other:{secret}@127.0.0.1:6380"
    assert "NOPERM" in run(f"{other} set other:1 x", ok=False)
    assert "NOPERM" in run(f"{other} get elsewhere", ok=False)


def test_a_broker_that_evicts_is_refused(converge):
    users = [{"name": "app", "password": "correct-horse-battery"}]
    broker = {"name": "broker", "users": users, "settings": {"maxmemory-policy": "allkeys-lru"}}
    output = converge(redis_instances=[broker], ok=False)
    assert "throws queued tasks away" in " ".join(output.split())
    assert "changed=0" in output
