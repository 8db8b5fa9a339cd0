"""The whole site on one host, in the order in which a host lives: wrong input, check mode, kills, the end, secrets."""

from __future__ import annotations

import json
import random
import re
import subprocess
from typing import Any

import pytest
from hosts import hosts
from hosts.stack import Stack, mitogen_environment

KILLS_QUICK, KILLS_FULL = 4, 10


def extra(**values: Any) -> list[str]:
    return ["-e", json.dumps(values)]


def shell(stack: Stack, command: str) -> str:
    return hosts.docker("exec", stack.name, "bash", "-c", command)


def sentence(output: str) -> str:
    """What a person reads: the output on one line, without Ansible's own line breaks and quoting."""
    return re.sub(r"\s+", " ", output.replace('\\"', '"').replace("\\n", " "))


def changed_tasks(output: str) -> int:
    found = re.search(r"demo\s+: ok=\d+\s+changed=(\d+)", output)
    return int(found.group(1)) if found else -1


def refused(stack: Stack, output: subprocess.CompletedProcess[str], *words: str) -> None:
    text = sentence(output.stdout)
    assert output.returncode != 0, output.stdout[-3000:]
    for word in words:
        assert word in text, output.stdout[-3000:]


# -- before the first run: nothing may be changed --


EVICTING = {
    "name": "broker",
    "users": [{"name": "app", "password": "x" * 20}],
    "settings": {"maxmemory-policy": "allkeys-lru"},
}
BEFORE: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("wrong type", {"redis_memory_mb": "five"}, ("redis_memory_mb", "int")),
    ("unknown variable", {"redis_instanzes": []}, ("'redis_instanzes'", "Did you mean 'redis_instances'")),
    ("port used twice", {"node_exporter_port": 6379}, ("port 6379/tcp is wanted by both",)),
    ("too much memory", {"host_plan_memory_overrides_mb": {"redis": 9_000_000}}, ("host_plan", "service", "reserve")),
    ("full disk", {"host_plan_disk_free_mb": 90_000_000}, ("host_plan_disk_free_mb", "demo")),
    ("missing secret", {"bulwark_postgres_password": ""}, ("bulwark_postgres_password", "openssl rand")),
    ("evicting broker", {"redis_instances": [EVICTING]}, ("throws queued tasks away",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "words"), BEFORE, ids=[case[0].replace(" ", "_") for case in BEFORE])
def test_bad_input_is_refused(stack: Stack, name: str, values: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(stack, stack.run(*extra(**values), "--check"), *words)


def test_check_mode_on_a_new_host(stack: Stack) -> None:
    done = stack.run("--check", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    # root is let in and the user of the inventory is not yet, which is how it should be and no error.
    assert "UNREACHABLE" not in done.stdout
    assert "postgresql" not in shell(stack, "dpkg -l | grep ^ii || true")
    for name, secret in stack.all_secrets().items():
        assert secret not in done.stdout, f"--check --diff shows {name}"


# -- the first run, cut off again and again --


def test_killed_at_random_tasks_it_reaches_the_same_end(stack: Stack, dice: random.Random, full: bool) -> None:
    """Each run dies at a later task than the one before; what it left is the next one's problem."""
    # A run that has nothing left to do is about 105 tasks long.
    tasks = 95
    kills = sorted(dice.sample(range(5, tasks), KILLS_FULL if full else KILLS_QUICK))
    print(f"killed at tasks {kills}")
    for task in kills:
        died = stack.run(RUN_STATS_KILL_AT=str(task))
        assert died.returncode != 0, f"the run has fewer than {task} tasks"
        assert "PLAY RECAP" not in died.stdout, died.stdout[-3000:]
    stack.converge("after_kills")
    figures = stack.converge("second_run")
    assert figures["changed"] == 0, figures
    assert figures["failed"] == 0


def test_a_killed_run_left_nothing_behind(stack: Stack) -> None:
    assert shell(stack, "systemctl --failed --no-legend --plain") == ""
    assert shell(stack, "find /etc /srv -name '.bulwark-*' -o -name '*.bulwark-new' -o -name '*.partial'") == ""
    assert shell(stack, "dpkg --audit") == ""


def test_it_works(stack: Stack) -> None:
    from prove import prove

    stack.fetch_root(stack.state / "ca.pem")
    verdicts = prove(stack)
    assert all(verdicts.values()), verdicts


def test_a_cloud_inventory_lists_the_same_host(stack: Stack, dice: random.Random) -> None:
    """Its address and its groups come from the API of a provider, and nothing is left to change."""
    with stack.listed_by(dice.choice(["hetzner", "digitalocean"])):
        assert stack.converge("cloud_run")["changed"] == 0


def test_budget_of_tasks_that_reach_the_host(stack: Stack) -> None:
    figures = json.loads((stack.state / "second_run.json").read_text(encoding="utf-8"))
    reached = "\n".join(
        f"{task['reached']}  {task['seconds']:6.2f}  {task['name']}" for task in figures["per_task"] if task["reached"]
    )
    assert figures["host_tasks"] <= 45, reached


# -- a host that runs --


def test_connections_that_redis_closed_are_no_outage(stack: Stack) -> None:
    """It closes those that were idle for five minutes; a restart closes all at once."""
    from prove import Site

    shell(stack, "systemctl restart redis@broker")
    assert [Site(stack).ask("/health")[0] for _ in range(4)] == [200] * 4


def test_with_mitogen_nothing_changes_either(stack: Stack) -> None:
    assert stack.converge("mitogen", **mitogen_environment())["changed"] == 0


def test_no_secret_in_any_output(stack: Stack) -> None:
    """All secrets are changed, so that everything that holds one is written again, under -vvv --diff."""
    old = stack.secrets()
    new = {name: f"rotated-{value}" for name, value in old.items()}
    file = stack.state / "secrets.json"
    file.write_text(json.dumps(new), encoding="utf-8")
    stack.write_inventory()
    done = stack.run("-vvv", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    for name, secret in {**{f"old {n}": v for n, v in old.items()}, **stack.all_secrets()}.items():
        at = done.stdout.find(secret)
        assert at < 0, f"{name} is shown: …{done.stdout[max(0, at - 400) : at]}…"
    assert stack.converge("rotated_again")["changed"] == 0


def test_unreachable_mirror(stack: Stack) -> None:
    shell(stack, "apt-get purge -y -qq fail2ban >/dev/null 2>&1; apt-get clean; rm -rf /var/lib/apt/lists/*")
    shell(stack, "printf 'Acquire::http::Proxy \"http://127.0.0.1:9\";' > /etc/apt/apt.conf.d/99test-broken")
    try:
        refused(stack, stack.run("--tags", "base_hardening"), "demo: a package source cannot be used")
    finally:
        shell(stack, "rm /etc/apt/apt.conf.d/99test-broken")
    assert stack.run("--tags", "base_hardening").returncode == 0


def test_package_lock_that_is_held(stack: Stack) -> None:
    shell(stack, "apt-get purge -y -qq fail2ban >/dev/null 2>&1")
    hold = (
        "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(120)"
    )
    holder = subprocess.Popen(["docker", "exec", stack.name, "timeout", "60", "python3", "-c", hold])
    try:
        done = stack.run(
            "--tags", "base_hardening", *extra(host_plan_lock_timeout_seconds=3, base_hardening_wait_seconds=3)
        )
        refused(stack, done, "demo", "lock", "run again")
    finally:
        shell(stack, "pkill -f '[l]ock-frontend' || true")
        holder.wait()
    assert stack.run("--tags", "base_hardening").returncode == 0


def test_domain_without_dns(stack: Stack) -> None:
    done = stack.run(*extra(bulwark_domain="nowhere.bulwark.test"))
    refused(stack, done, "nowhere.bulwark.test cannot be resolved", "Nothing was changed")
    assert changed_tasks(done.stdout) == 0
    from prove import Site

    assert Site(stack).ask("/health")[0] == 200


def test_no_sudo_password(stack: Stack) -> None:
    """A user who may log in and may not become root."""
    key = (stack.state / "key.pub").read_text(encoding="utf-8").strip()
    login = f"install -d -m 700 ~guest/.ssh; echo '{key}' > ~guest/.ssh/authorized_keys; chown -R guest ~guest/.ssh"
    # Where SSH admits some groups only, the guest is in the first of them.
    groups = "for g in $(sshd -T | awk '$1==\"allowgroups\"{print $2}' | head -1); do usermod -aG $g guest; done"
    shell(stack, f"useradd -m -s /bin/bash guest; {login}; {groups}")
    done = stack.run(*extra(ansible_user="guest"))
    refused(stack, done, "demo", "sudo", "guest")
    shell(stack, "pkill -u guest; userdel -rf guest || true")
    assert changed_tasks(done.stdout) in (0, -1)


def test_two_beats(stack: Stack) -> None:
    refused(
        stack,
        stack.run("--tags", "celery_workers", *extra(celery_workers_beat_hosts=["demo", "other"])),
        "Beat",
        "demo",
        "other",
    )


# -- a host that is lost --

REBUILD_KILLS_QUICK, REBUILD_KILLS_FULL = 1, 5
REBUILD = ("-e", json.dumps({"backups_rebuild_confirmed": "yes"}))


def test_a_host_that_holds_something_is_not_rebuilt(stack: Stack) -> None:
    done = stack.run(*REBUILD, playbook="playbooks/rebuild_host.yml")
    assert done.returncode != 0
    assert "This host holds something already" in sentence(done.stdout)


def test_a_lost_host_comes_back_from_its_bucket(stack: Stack, image: str, dice: random.Random, full: bool) -> None:
    """Rows, broker and files as they were, the same certificate, also when the rebuild is cut off at random tasks."""
    from prove import Site, prove

    site = Site(stack)
    job = site.finished(site.job())
    shell(stack, "echo kept > /srv/app/shared/media/letter.txt && chown app: /srv/app/shared/media/letter.txt")
    certificate = shell(stack, "cat /etc/letsencrypt/live/*/cert.pem")
    for playbook in ("backup_now", "restore_drill"):
        stack.converge(playbook, playbook=f"playbooks/{playbook}.yml")
    stack.destroy_host()
    stack.up(image)
    for task in sorted(dice.sample(range(20, 150), REBUILD_KILLS_FULL if full else REBUILD_KILLS_QUICK)):
        print(f"rebuild killed at task {task}")
        assert stack.run(*REBUILD, playbook="playbooks/rebuild_host.yml", RUN_STATS_KILL_AT=str(task)).returncode != 0
    figures = stack.converge("rebuild", *REBUILD, playbook="playbooks/rebuild_host.yml")["custom"]["demo"]["rebuild"]
    print(f"rebuilt: {figures}")
    assert figures["rto_seconds"] > 0
    assert site.look_up(job["id"]) == job
    assert (
        shell(stack, "cat /srv/app/shared/media/letter.txt; stat -c %U /srv/app/shared/media/letter.txt") == "kept\napp"
    )
    assert shell(stack, "cat /etc/letsencrypt/live/*/cert.pem") == certificate
    verdicts = prove(stack)
    assert all(verdicts.values()), verdicts
    assert stack.converge("after_rebuild")["changed"] == 0
