"""Workers behave: they answer, stay within limits, drain, lose nothing; Beat is one; Flower is closed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

WORKERS = ["celery-worker@processing-1", "celery-worker@processing-2", "celery-worker@upload"]
REDIS = "redis-cli --no-auth-warning -u redis://app:correct-horse-battery@127.0.0.1"
CELERY = (
    "systemd-run -q --wait --pipe --collect -p User=app -p WorkingDirectory=/srv/app/current "
    "-p EnvironmentFile=/etc/app/environment /srv/app/current/.venv/bin/"
)
JOBS = 200


@pytest.fixture
def submit(run: Any) -> Any:
    """Sends messages from one process, as the application would."""

    def _submit(code: str) -> None:
        run(f'{CELERY}python -c "from app import tasks; {code}"')

    return _submit


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen within {seconds} seconds"
        time.sleep(0.3)


def ping(host: Any) -> set[str]:
    out = host.run(f"{CELERY}celery -A app.tasks inspect ping --json -t 3").stdout
    return {node.split("@")[0] for line in out.splitlines() if line.startswith("{") for node in json.loads(line)}


@pytest.mark.parametrize("unit", [*WORKERS, "celery-beat", "celery-flower"])
def test_unit_runs(running, exposure, unit):
    running(f"{unit}.service")
    assert exposure(f"{unit}.service") <= 2.0


def test_workers_answer(host):
    assert ping(host) == {"processing-1", "processing-2", "upload"}


def test_limits_are_in_effect(run):
    show = "systemctl show --value -p MemoryMax -p TimeoutStopUSec -p KillMode -p CPUWeight"
    processing = run(f"{show} {WORKERS[0]}").split("\n")
    assert str(300 * 1048576) in processing
    assert "2h 1min" in processing
    assert "mixed" in processing
    assert "1h 1min" in run(f"{show} {WORKERS[2]}")


def test_each_job_runs_once_while_all_workers_restart_twice(host, run, submit):
    run(f"{REDIS} del runs")
    submit(f"[tasks.work.delay(n) for n in range({JOBS})]")
    run(f"systemctl restart {' '.join(WORKERS)}; systemctl restart {' '.join(WORKERS)}")
    until(lambda: int(run(f"{REDIS} llen runs")) >= JOBS)
    until(lambda: run(f"{REDIS} llen processing; {REDIS} hlen unacked").split() == ["0", "0"])
    assert sorted(int(n) for n in run(f"{REDIS} lrange runs 0 -1").split()) == list(range(JOBS))
    assert ping(host) == {"processing-1", "processing-2", "upload"}


def test_a_stop_waits_for_the_task_that_runs(run, submit):
    run(f"{REDIS} del runs")
    submit("tasks.work.apply_async((1, 4), queue='upload')")
    until(lambda: "1" in run(f"{REDIS} hlen unacked"), 10)
    run(f"systemctl restart {WORKERS[2]}")
    assert run(f"{REDIS} lrange runs 0 -1").split() == ["1"]


def test_a_child_that_grows_too_large_takes_nobody_with_it(run, submit):
    """The kernel kills the child, the task comes back, the worker goes on."""
    before = run(f"systemctl show --value -p NRestarts -p MainPID {' '.join(WORKERS[:2])}")
    run(f"{REDIS} del grown grow-done")
    submit("tasks.grow.delay(600)")
    until(lambda: run(f"{REDIS} exists grow-done").strip() == "1")
    assert int(run(f"{REDIS} get grown")) == 2
    assert run(f"systemctl show --value -p NRestarts -p MainPID {' '.join(WORKERS[:2])}") == before


def test_tasks_write_only_where_they_may(run, submit):
    run(f"{REDIS} del probe")
    submit("tasks.probe.delay()")
    until(lambda: run(f"{REDIS} exists probe").strip() == "1")
    assert run(f"{REDIS} get probe").strip() == "closed"
    assert run("cat /srv/app/shared/probe") == "here"


def test_one_beat_keeps_time(run):
    assert run("pgrep -fc 'celery --app app.tasks [b]eat'").strip() == "1"
    run("test -e /var/lib/celery-beat/schedule || ls /var/lib/celery-beat/schedule*")
    run(f"{REDIS} del ticks")
    until(lambda: int(run(f"{REDIS} llen ticks")) >= 3)
    ticks = run(f"{REDIS} lrange ticks 0 -1").split()
    assert len(ticks) - len(set(ticks)) <= 1, ticks


def test_flower_asks_who_is_there(run):
    flower = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:5556/workers"
    until(lambda: run(flower, ok=False) == "401")
    assert run(f"{flower} -u ops:wrong-horse-battery") == "401"
    assert run(f"{flower} -u ops:correct-horse-battery") == "200"
    assert run("ss -Hltn 'sport = :5556'").split()[3] == "127.0.0.1:5556"
    assert "correct-horse" not in run("ps axo args")


def test_a_crashed_worker_comes_back(host, run, running):
    run(f"systemctl kill -s KILL {WORKERS[2]}")
    until(lambda: host.run(f"systemctl show --value -p SubState {WORKERS[2]}").stdout.strip() == "running", 20)
    until(lambda: "upload" in ping(host))


def test_a_worker_that_is_no_longer_asked_for_drains_and_goes(host, run, submit, converge):
    run(f"{REDIS} del runs")
    submit("tasks.work.apply_async((7, 6), queue='upload')")
    until(lambda: run(f"{REDIS} hlen unacked").strip() != "0", 10)
    one = {"name": "processing", "concurrency": 2}
    converge(celery_workers_instances=[one], celery_workers_flower_enabled=False, celery_workers_beat_hosts=[])
    assert "7" in run(f"{REDIS} lrange runs 0 -1").split()
    assert ping(host) == {"processing"}
    assert run("systemctl list-unit-files --no-legend 'celery-*' | cut -d' ' -f1").split() == [
        "celery-worker@processing.service"
    ]
    assert not host.file("/etc/app/flower.environment").exists


def test_a_broken_release_is_named(converge):
    broken = converge(celery_workers_module="app.nothing", ok=False)
    assert "Celery cannot load the application" in broken
    assert "app.nothing" in broken
