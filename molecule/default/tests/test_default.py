"""The whole site on one host: every service runs, answers where it should, and nowhere else."""

from __future__ import annotations

import json
import time

import pytest

CURL = "curl -s --max-time 20 --cacert /root/root.pem"
SITE = "https://demo.bulwark.test"


@pytest.fixture
def root(run):
    run("curl -s --cacert /etc/pebble/ca.pem https://localhost:15000/roots/0 > /root/root.pem")


@pytest.mark.parametrize(
    "unit",
    [
        "app-web",
        "celery-beat",
        "celery-flower",
        "celery-worker@processing-1",
        "celery-worker@processing-2",
        "celery-worker@upload",
        "docker",
        "fail2ban",
        "nginx",
        "prometheus-node-exporter",
        "redis@broker",
    ],
)
def test_unit_runs(running, unit):
    running(unit)


def test_nothing_failed(run):
    assert run("systemctl --failed --no-legend --plain") == ""


def test_a_job_goes_through_the_whole_stack(run, root):
    post = f"{CURL} -X POST -H 'Content-Type: application/json' -d '{{\"text\": \"one two two\"}}' {SITE}/jobs"
    job = json.loads(run(post))["id"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = json.loads(run(f"{CURL} {SITE}/jobs/{job}"))
        if state["status"] == "done":
            break
        time.sleep(0.3)
    assert state["status"] == "done", state
    count = run(f"runuser -u postgres -- psql -tA -d app -c \"SELECT completions FROM jobs WHERE id::text = '{job}'\"")
    assert count.strip() == "1"


def test_flower_asks_for_credentials(run, root):
    flower = f"{CURL} -o /dev/null -w '%{{http_code}}' {SITE}:5555/"
    assert run(flower).strip() in ("401", "403")


def test_only_declared_ports_are_let_in(run):
    rules = run("ufw status")
    ports = {line.split()[0].split("/")[0] for line in rules.splitlines() if "ALLOW" in line or "LIMIT" in line}
    assert ports == {"22", "80", "443", "5555"}, rules


def test_the_admin_works_without_a_password_and_root_has_none(run):
    assert run("runuser -u deploy -- sudo -n id -u").strip() == "0"
    assert "passwordauthentication no" in run("sshd -T")


def test_memory_of_all_units_fits_the_host(run):
    total = int(run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    limits = run("systemctl show -p MemoryMax --value app-web 'celery-*' redis@broker").split()
    assert sum(int(limit) for limit in limits if limit.isdigit()) < total


@pytest.mark.parametrize("job", ["system", "postgres", "redis-broker", "app-media"])
def test_what_the_roles_publish_is_backed_up_and_proved(run, job):
    """In the units' own sandboxes; a unit that fails fails the call."""
    run(f"systemctl start bulwark-backup@{job} && systemctl start bulwark-drill@{job}")
    backup = json.loads(run(f"bulwark-backup list {job} --json"))[-1]
    assert len(backup["drills"]) == 1, run(f"journalctl -n 30 -o cat --no-pager -u bulwark-drill@{job}")


def test_the_backups_are_timed(run):
    timers = run("systemctl list-timers --all --no-legend --no-pager 'bulwark-*'")
    jobs = ["system", "postgres", "redis-broker", "app-media"]
    for unit in [f"bulwark-{verb}@{job}.timer" for verb in ("backup", "drill") for job in jobs]:
        assert unit in timers
