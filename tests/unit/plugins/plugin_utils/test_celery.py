"""Celery workers from data."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.plugin_utils import celery

REFERENCE: list[dict[str, Any]] = [
    {
        "name": "processing",
        "replicas": 2,
        "concurrency": 2,
        "pool": "prefork",
        "max_tasks_per_child": 5,
        "time_limit_seconds": 7200,
        "soft_time_limit_seconds": 6900,
    },
    {"name": "upload", "concurrency": 4, "pool": "gevent", "time_limit_seconds": 3600},
]
APP = {
    "name": "app",
    "module": "app.tasks",
    "directory": "/srv/app/current",
    "environment_file": "/etc/app/environment",
    "node": "web1",
    "after": ["redis@broker.service"],
    "writable_paths": ["/srv/app/shared"],
    "cpu_weight": 400,
    "settings": {},
}
OFF: dict[str, Any] = {"enabled": False, "users": [], "allow_from": [], "memory_mb": 256}
USERS = [{"name": "ops", "password": "correct-horse-battery"}]
ON: dict[str, Any] = {**OFF, "enabled": True, "users": USERS}
BEAT = {"enabled": True, "memory_mb": 256}


def problems(
    instances: Any = REFERENCE, memory: int = 6144, hosts: Any = ("web1",), beat: bool = True, flower: Any = OFF
):
    return celery.celery_workers_problems(celery.celery_workers(instances, memory), "web1", list(hosts), beat, flower)


def units(instances: Any = REFERENCE, app: Any = APP, beat: Any = BEAT, flower: Any = OFF) -> dict[str, dict[str, Any]]:
    entries = celery.celery_workers_units(celery.celery_workers(instances, 6144), app, beat, flower)
    return {entry["name"]: entry for entry in entries}


def service(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return units(*args, **kwargs)[name]["sections"]["Service"]


def test_reference_deployment():
    workers = celery.celery_workers(REFERENCE, 6144)
    assert [worker["unit"] for worker in workers] == [
        "celery-worker@processing-1.service",
        "celery-worker@processing-2.service",
        "celery-worker@upload.service",
    ]
    assert {worker["memory_mb"] for worker in workers} == {2048}
    assert problems() == []
    assert celery.celery_workers_notes(workers) == []
    line = service("celery-worker@processing-1.service")["ExecStart"]
    assert line.startswith("/srv/app/current/.venv/bin/celery --app app.tasks worker --hostname processing-1@web1 ")
    for words in (
        "--queues processing",
        "--pool prefork --concurrency 2",
        "--max-tasks-per-child 5",
        "--time-limit 7200",
        "--soft-time-limit 6900",
        "--max-memory-per-child",
    ):
        assert words in line
    upload = service("celery-worker@upload.service")["ExecStart"]
    assert "--pool gevent --concurrency 4" in upload
    assert "--time-limit 3600" in upload
    assert "per-child" not in upload


def test_memory_is_shared_after_what_is_fixed():
    workers = celery.celery_workers(
        [{"name": "a", "memory_mb": 1000, "replicas": 2}, {"name": "b", "replicas": 4}], 4000
    )
    assert [worker["memory_mb"] for worker in workers] == [1000, 1000, 500, 500, 500, 500]


@pytest.mark.parametrize("memory", [100, 128, 512, 2048, 65536])
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_children_fit_into_their_unit(memory, concurrency):
    child = celery.child_memory_mb(memory, concurrency)
    assert child >= celery.CHILD_RSS_MB
    grown = (child - celery.CHILD_RSS_MB) * concurrency + celery.needed_mb("prefork", concurrency)
    assert grown <= max(memory, celery.needed_mb("prefork", concurrency))


def test_a_stop_waits_longer_than_a_task_may_run():
    for worker in celery.celery_workers(REFERENCE, 6144):
        entry = units()[worker["unit"]]
        lines = entry["sections"]["Service"]
        assert lines["TimeoutStopSec"] > worker["time_limit_seconds"]
        assert lines["KillMode"] == "mixed"
        assert lines["ExecStop"].startswith("-/srv/app/current/.venv/bin/python /usr/local/lib/bulwark/celery_drain.py")
        assert entry["wait"] is False
        assert entry["restart_on"] == ["/srv/app/current", "/etc/app/environment"]


@pytest.mark.parametrize(
    ("pool", "left_out"),
    [
        ("prefork", []),
        ("gevent", ["--soft-time-limit", "--max-tasks-per-child", "--max-memory-per-child"]),
        ("threads", ["--time-limit", "--soft-time-limit", "--max-tasks-per-child", "--max-memory-per-child"]),
        ("solo", ["--time-limit", "--soft-time-limit", "--max-tasks-per-child", "--max-memory-per-child"]),
    ],
)
def test_what_a_pool_ignores_is_left_out_and_said(pool, left_out):
    one = {**REFERENCE[0], "pool": pool, "replicas": 1, "max_memory_per_child_mb": 500}
    words = service("celery-worker@processing.service", [one])["ExecStart"].split()
    for option in ("--time-limit", "--soft-time-limit", "--max-tasks-per-child", "--max-memory-per-child"):
        assert (option in words) is (option not in left_out)
    notes = celery.celery_workers_notes(celery.celery_workers([one], 6144))
    assert len(notes) == (1 if left_out else 0)
    for option in left_out:
        assert option.lstrip("-").replace("-", "_") in notes[0]


def test_options_and_settings_of_the_user_come_last():
    one = {"name": "gpu", "queues": ["a", "b"], "options": ["--prefetch-multiplier=1", "--name with space", "50%"]}
    app = {**APP, "settings": {"PrivateDevices": False, "MemoryMax": "infinity"}}
    lines = service("celery-worker@gpu.service", [one], app)
    assert lines["ExecStart"].endswith('--prefetch-multiplier=1 "--name with space" 50%%')
    assert "--queues a,b" in lines["ExecStart"]
    assert lines["PrivateDevices"] is False
    assert lines["MemoryMax"] == "infinity"


def test_two_beats_are_named():
    found = problems(hosts=["web2", "web1"])
    assert len(found) == 1
    assert "web1, web2" in found[0]
    assert "celery_workers_beat_enabled: false" in found[0]
    assert len(problems(hosts=["web2"], beat=True)) == 1
    assert problems(hosts=["web2"], beat=False) == []
    assert problems(hosts=[], beat=False) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Processing"}, "unit name"),
        ({"pool": "eventlet"}, "known are prefork"),
        ({"queues": ["a,b"]}, "queues is a list"),
        ({"soft_time_limit_seconds": 7200}, "must be below"),
        ({"memory_mb": 60}, "needs 100 MiB"),
    ],
)
def test_bad_instances(change, words):
    found = problems([{**REFERENCE[0], **change}])
    assert len(found) == 1, found
    assert words in found[0]


def test_two_workers_of_one_name():
    found = problems([{"name": "a", "replicas": 2}, {"name": "a-1"}])
    assert len(found) == 1
    assert "'a-1'" in found[0]


def test_a_small_host():
    assert problems(memory=384) == []
    found = problems(memory=80)
    assert len(found) == 2
    assert all("take a larger host" in sentence for sentence in found)


@pytest.mark.parametrize(
    ("users", "words"),
    [
        ([], "openssl rand"),
        ([{"name": "ops", "password": ""}], "12 characters"),
        ([{"name": "ops", "password": "with,comma,within"}], "comma"),
        ([{"name": "o:s", "password": "correct-horse-battery"}], "'o:s'"),
    ],
)
def test_flower_wants_credentials(users, words):
    found = problems(flower={**ON, "users": users})
    assert len(found) == 1
    assert words in found[0]
    assert all(user["password"] not in found[0] for user in users if user["password"])


def test_flower_is_closed_unless_addresses_are_named():
    assert celery.celery_workers_sites(OFF, "app.example.org") == []
    assert celery.celery_workers_firewall_rules(OFF) == []
    (site,) = celery.celery_workers_sites(ON, "app.example.org")
    assert site["allow_from"] == ["127.0.0.1", "::1"]
    assert site["users"] == USERS
    assert celery.celery_workers_firewall_rules(ON)[0] == {"port": 5555, "from": [], "name": "flower"}
    (site,) = celery.celery_workers_sites({**ON, "allow_from": ["203.0.113.7"]}, "app.example.org")
    assert site["allow_from"] == ["203.0.113.7"]


def test_flower_off_takes_everything_away():
    assert units(flower=OFF)["celery-flower.service"]["state"] == "absent"
    assert celery.celery_workers_files(APP, OFF)[-1] == {"path": "/etc/app/flower.environment", "state": "absent"}


def test_flower_keeps_its_credentials_in_a_secret_file():
    entry = celery.celery_workers_files(APP, ON)[-1]
    assert entry["secret"] is True
    assert entry["mode"] == "0640"
    lines = service("celery-flower.service", flower=ON)
    assert "correct-horse" not in lines["ExecStart"]
    assert "--address=127.0.0.1" in lines["ExecStart"]
    assert "--task-events" in service("celery-worker@upload.service", flower=ON)["ExecStart"]


def test_beat_keeps_its_schedule_outside_the_release():
    lines = service("celery-beat.service")
    assert "--schedule /var/lib/celery-beat/schedule" in lines["ExecStart"]
    assert lines["StateDirectory"] == "celery-beat"
    assert units(beat={**BEAT, "enabled": False})["celery-beat.service"] == {
        "name": "celery-beat.service",
        "state": "absent",
    }


def test_gate_asks_all():
    workers = celery.celery_workers(REFERENCE, 6144)
    gate = celery.celery_workers_gate(workers, APP, BEAT, ON)
    assert [one.get("node") for one in gate] == ["processing-1@web1", "processing-2@web1", "upload@web1", None, None]
    assert len(celery.celery_workers_gate(workers, APP, {**BEAT, "enabled": False}, OFF)) == 3
