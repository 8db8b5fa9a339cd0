# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Celery workers, Beat and Flower from data. See https://docs.celeryq.dev/en/stable/userguide/workers.html."""

from __future__ import annotations

import re
from typing import Any

POOLS = ("prefork", "gevent", "threads", "solo")
# What a pool cannot do it ignores without a word; see the table of the workers guide.
IGNORED = {
    "prefork": (),
    "gevent": ("soft_time_limit_seconds", "max_tasks_per_child", "max_memory_per_child_mb"),
    "threads": ("time_limit_seconds", "soft_time_limit_seconds", "max_tasks_per_child", "max_memory_per_child_mb"),
    "solo": ("time_limit_seconds", "soft_time_limit_seconds", "max_tasks_per_child", "max_memory_per_child_mb"),
}
TIME_LIMIT_SECONDS = 3600
# Between the hard limit of a task and the kill of its worker: time to write down that the task failed.
STOP_MARGIN_SECONDS = 60
# A small application, loaded and idle (measured, Python 3.11): the parent, what a child adds, the size a child shows.
PARENT_MB, CHILD_MB, CHILD_RSS_MB = 40, 30, 64
BEAT_AT_LEAST_MB, FLOWER_AT_LEAST_MB = 96, 128
FLOWER_PORT, FLOWER_LOOPBACK_PORT = 5555, 5556
DRAIN = "/usr/local/lib/bulwark/celery_drain.py"
NOBODY = ["127.0.0.1", "::1"]


def celery_workers(instances: list[dict[str, Any]], memory_mb: int) -> list[dict[str, Any]]:
    """One completed worker for each replica; those without C(memory_mb) share what is left of C(memory_mb)."""
    counts = [int(one.get("replicas") or 1) for one in instances]
    fixed = sum(int(one["memory_mb"]) * count for one, count in zip(instances, counts) if one.get("memory_mb"))
    sharing = sum(count for one, count in zip(instances, counts) if not one.get("memory_mb"))
    share = max((int(memory_mb) - fixed) // sharing, 0) if sharing else 0
    workers = []
    for one, count in zip(instances, counts):
        done = completed(one, share)
        for number in range(1, count + 1):
            name = f"{one['name']}-{number}" if count > 1 else one["name"]
            workers.append({**done, "name": name, "unit": f"celery-worker@{name}.service"})
    return workers


def completed(one: dict[str, Any], share_mb: int) -> dict[str, Any]:
    pool = one.get("pool") or "prefork"
    concurrency = 1 if pool == "solo" else int(one.get("concurrency") or 1)
    memory_mb = int(one.get("memory_mb") or share_mb)
    ignored = [key for key in IGNORED.get(pool, ()) if one.get(key)]
    limits = {
        # Also where the pool cannot enforce it: it says how long a stop has to wait.
        "time_limit_seconds": int(one.get("time_limit_seconds") or TIME_LIMIT_SECONDS),
        "soft_time_limit_seconds": int(one.get("soft_time_limit_seconds") or 0),
        "max_tasks_per_child": int(one.get("max_tasks_per_child") or 0),
        "max_memory_per_child_mb": int(one.get("max_memory_per_child_mb") or child_memory_mb(memory_mb, concurrency)),
    }
    return {
        "instance": one["name"],
        "queues": one.get("queues") or [one["name"]],
        "pool": pool,
        "concurrency": concurrency,
        "memory_mb": memory_mb,
        "options": [str(option) for option in one.get("options") or []],
        **limits,
        "ignored": ignored,
    }


def needed_mb(pool: str, concurrency: int) -> int:
    return PARENT_MB + CHILD_MB * (concurrency if pool == "prefork" else 1)


def child_memory_mb(memory_mb: int, concurrency: int) -> int:
    """A child is replaced after the task that grew it to this, before all together reach the limit of the unit."""
    spare = max(memory_mb - needed_mb("prefork", concurrency), 0)
    return CHILD_RSS_MB + spare * 9 // 10 // concurrency


def celery_workers_problems(
    workers: list[dict[str, Any]], host: str, beat_hosts: list[str], beat_enabled: bool, flower: dict[str, Any]
) -> list[str]:
    """One sentence for everything that would lose tasks, run them twice or open a door.

    @param workers: completed workers
    @param host: the name of this host
    @param beat_hosts: all hosts that have Beat on
    @param flower: C(enabled), C(users) and C(allow_from)
    """
    problems: list[str] = []
    for one in {worker["instance"]: worker for worker in workers}.values():
        problems += instance_problems(one)
    names = [worker["name"] for worker in workers]
    problems += [
        f"celery_workers_instances: two workers would be called '{name}'; rename one of the instances."
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    beats = sorted({*beat_hosts, *([host] if beat_enabled else [])})
    if len(beats) > 1:
        problems.append(
            f"Beat is on for {', '.join(beats)}, and two Beats start every periodic task twice; "
            "set celery_workers_beat_enabled: false on all of them but one."
        )
    return problems + (flower_problems(flower) if flower["enabled"] else [])


def instance_problems(one: dict[str, Any]) -> list[str]:
    where = f"celery_workers_instances: '{one['instance']}'"
    problems = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", one["instance"]):
        problems.append(f"{where} cannot be part of a unit name; use a-z, 0-9, _ and -.")
    if one["pool"] not in POOLS:
        problems.append(f"{where} wants the pool '{one['pool']}'; known are {', '.join(POOLS)}.")
    for queue in one["queues"]:
        if not re.fullmatch(r"[^\s,]+", str(queue)):
            problems.append(f"{where}: the queue '{queue}' may hold no spaces and no comma; queues is a list.")
    if one["soft_time_limit_seconds"] and one["soft_time_limit_seconds"] >= one["time_limit_seconds"]:
        problems.append(
            f"{where}: soft_time_limit_seconds {one['soft_time_limit_seconds']} must be below time_limit_seconds "
            f"{one['time_limit_seconds']}, or no task could clean up in between."
        )
    needed = needed_mb(one["pool"], one["concurrency"])
    if one["memory_mb"] < needed:
        problems.append(
            f"{where} gets {one['memory_mb']} MiB for each of its workers and needs {needed} MiB to be loaded; "
            "lower replicas or concurrency, raise host_plan_memory_overrides_mb for celery_workers, or take a larger "
            "host."
        )
    return problems


def flower_problems(flower: dict[str, Any]) -> list[str]:
    problems = []
    if not flower["users"]:
        problems.append(
            "celery_workers_flower_users is empty, and who reaches Flower may stop workers and read the arguments of "
            "every task; give it a list of {name, password} (openssl rand -hex 16 makes a password), or set "
            "celery_workers_flower_enabled: false."
        )
    for user in flower["users"]:
        if not re.fullmatch(r"[A-Za-z0-9._@-]+", user["name"]):
            problems.append(
                f"celery_workers_flower_users: the name '{user['name']}' may hold a-z, A-Z, 0-9 and . _ @ - only."
            )
        password = user.get("password") or ""
        if len(password) < 12:
            problems.append(
                f"celery_workers_flower_users: '{user['name']}' needs a password of 12 characters or more "
                "(openssl rand -hex 16 makes one)."
            )
        elif not re.fullmatch(r"[\x21-\x7e]+", password) or re.search(r"[,\"'\\]", password):
            problems.append(
                f"celery_workers_flower_users: the password of '{user['name']}' may hold visible ASCII without comma, "
                "quotes and backslash, because Flower splits its list at commas."
            )
    return problems


def celery_workers_notes(workers: list[dict[str, Any]]) -> list[str]:
    """One sentence for each instance with options that its pool would ignore; they are left out."""
    notes = []
    for one in {worker["instance"]: worker for worker in workers}.values():
        if one["ignored"]:
            notes.append(
                f"'{one['instance']}' has the pool {one['pool']}, which ignores {', '.join(one['ignored'])}; left out."
            )
    return notes


def exec_line(words: list[str]) -> str:
    """Words as an ExecStart= line, see systemd.service(5), "Command lines"."""
    done = []
    for word in words:
        text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        done.append(f'"{text}"' if re.search(r"[\s'\";]", text) else text)
    return " ".join(done)


def celery_command(app: dict[str, Any]) -> list[str]:
    return [f"{app['directory']}/.venv/bin/celery", "--app", app["module"]]


def worker_command(worker: dict[str, Any], app: dict[str, Any], events: bool) -> list[str]:
    words = [*celery_command(app), "worker", "--hostname", f"{worker['name']}@{app['node']}"]
    words += ["--queues", ",".join(str(queue) for queue in worker["queues"])]
    words += ["--pool", worker["pool"], "--concurrency", str(worker["concurrency"]), "--loglevel", "INFO"]
    # Workers that greet each other start slowly and gain nothing from it.
    words += ["--without-gossip", "--without-mingle"]
    limits = {
        "time_limit_seconds": ("--time-limit", 1),
        "soft_time_limit_seconds": ("--soft-time-limit", 1),
        "max_tasks_per_child": ("--max-tasks-per-child", 1),
        "max_memory_per_child_mb": ("--max-memory-per-child", 1024),
    }
    for key, (option, factor) in limits.items():
        if worker[key] and key not in IGNORED.get(worker["pool"], ()):
            words += [option, str(worker[key] * factor)]
    return words + (["--task-events"] if events else []) + worker["options"]


def drain_command(worker: dict[str, Any], app: dict[str, Any]) -> list[str]:
    return [f"{app['directory']}/.venv/bin/python", DRAIN, app["module"], f"{worker['name']}@{app['node']}"]


def unit(
    name: str, description: str, service: dict[str, Any], app: dict[str, Any], restart_on: list[str] | None = None
) -> dict[str, Any]:
    after = ["network-online.target", *app["after"]]
    common = {
        "Type": "exec",
        "User": app["name"],
        "Group": app["name"],
        "WorkingDirectory": app["directory"],
        "EnvironmentFile": app["environment_file"],
        # The broker may be away for longer than any limit of starts allows.
        "Restart": "always",
        "RestartSec": 5,
        "OOMScoreAdjust": 200,
        # Libraries ask for more than they need, such as a priority: tell them no instead of killing the worker.
        "SystemCallErrorNumber": "EPERM",
    }
    return {
        "name": name,
        "sections": {
            "Unit": {
                "Description": description,
                "After": " ".join(after),
                "Wants": "network-online.target",
                "StartLimitIntervalSec": 0,
            },
            "Service": {**common, **service},
            "Install": {"WantedBy": "multi-user.target"},
        },
        "enabled": True,
        "state": "started",
        # A worker may drain for hours. What starts badly the gate tells better than a look right after the start.
        "wait": False,
        "restart_on": [app["directory"], app["environment_file"], *(restart_on or [])],
    }


def memory_limits(memory_mb: int) -> dict[str, str]:
    return {"MemoryHigh": f"{memory_mb * 9 // 10}M", "MemoryMax": f"{memory_mb}M"}


def celery_workers_units(
    workers: list[dict[str, Any]], app: dict[str, Any], beat: dict[str, Any], flower: dict[str, Any]
) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit).

    @param app: C(name), C(module), C(directory), C(environment_file), C(node), C(after), C(writable_paths),
        C(cpu_weight) and C(settings)
    @param beat: C(enabled) and C(memory_mb)
    @param flower: C(enabled), C(users) and C(memory_mb)
    """
    units = []
    for worker in workers:
        service = {
            "ExecStart": exec_line(worker_command(worker, app, flower["enabled"])),
            # Ends the intake and waits for the tasks. Where it cannot, SIGTERM does nearly the same.
            "ExecStop": "-" + exec_line(drain_command(worker, app)),
            # To the parent alone, which still needs its children.
            "KillMode": "mixed",
            "KillSignal": "SIGTERM",
            "TimeoutStopSec": worker["time_limit_seconds"] + STOP_MARGIN_SECONDS,
            **memory_limits(worker["memory_mb"]),
            # A child that was killed for its size is the business of its parent, which puts the task back.
            "OOMPolicy": "continue",
            "CPUWeight": max(1, min(10000, int(app["cpu_weight"]) // len(workers))),
            "ReadWritePaths": [f"-{path}" for path in app["writable_paths"]],
            **app["settings"],
        }
        units.append(unit(worker["unit"], f"Celery worker {worker['name']}", service, app))
    units.append(beat_unit(app, beat))
    units.append(flower_unit(app, flower))
    return units


def beat_unit(app: dict[str, Any], beat: dict[str, Any]) -> dict[str, Any]:
    if not beat["enabled"]:
        return {"name": "celery-beat.service", "state": "absent"}
    words = [*celery_command(app), "beat", "--schedule", "/var/lib/celery-beat/schedule", "--loglevel", "INFO"]
    service = {
        "ExecStart": exec_line(words),
        # Outside the release, or every release would start the periodic tasks anew.
        "StateDirectory": "celery-beat",
        "TimeoutStopSec": 30,
        **memory_limits(max(int(beat["memory_mb"]), BEAT_AT_LEAST_MB)),
    }
    return unit("celery-beat.service", "Celery Beat", service, app)


def flower_file(app: dict[str, Any]) -> str:
    return f"/etc/{app['name']}/flower.environment"


def flower_unit(app: dict[str, Any], flower: dict[str, Any]) -> dict[str, Any]:
    if not flower["enabled"]:
        return {"name": "celery-flower.service", "state": "absent"}
    words = [*celery_command(app), "flower", "--address=127.0.0.1", f"--port={FLOWER_LOOPBACK_PORT}"]
    service = {
        "ExecStart": exec_line(words),
        "EnvironmentFile": [app["environment_file"], flower_file(app)],
        "TimeoutStopSec": 30,
        **memory_limits(max(int(flower["memory_mb"]), FLOWER_AT_LEAST_MB)),
    }
    return unit("celery-flower.service", "Flower", service, app, [flower_file(app)])


def celery_workers_files(app: dict[str, Any], flower: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the module C(files): what a stop runs, and the credentials of Flower, which asks for them itself."""
    path = flower_file(app)
    files: list[dict[str, Any]] = [
        {"path": "/usr/local/lib/bulwark", "state": "directory"},
        {"path": DRAIN, "src": "drain.py"},
    ]
    if not flower["enabled"]:
        return [*files, {"path": path, "state": "absent"}]
    users = ",".join(f"{user['name']}:{user['password']}" for user in flower["users"])
    content = f"FLOWER_BASIC_AUTH='{users}'\n"
    return [*files, {"path": path, "content": content, "secret": True, "group": app["name"], "mode": "0640"}]


def celery_workers_gate(
    workers: list[dict[str, Any]], app: dict[str, Any], beat: dict[str, Any], flower: dict[str, Any]
) -> list[dict[str, str]]:
    """What has to answer after a start: units, and the node names of those that take part in C(inspect ping)."""
    gate = [{"unit": worker["unit"], "node": f"{worker['name']}@{app['node']}"} for worker in workers]
    gate += [{"unit": "celery-beat.service"}] if beat["enabled"] else []
    return gate + ([{"unit": "celery-flower.service"}] if flower["enabled"] else [])


def celery_workers_firewall_rules(flower: dict[str, Any]) -> list[dict[str, Any]]:
    if not flower["enabled"]:
        return []
    return [
        {"port": FLOWER_PORT, "from": flower["allow_from"], "name": "flower"},
        {"port": FLOWER_LOOPBACK_PORT, "from": [], "name": "flower loopback"},
    ]


def celery_workers_sites(flower: dict[str, Any], domain: str) -> list[dict[str, Any]]:
    if not flower["enabled"]:
        return []
    proxy = f"http://127.0.0.1:{FLOWER_LOOPBACK_PORT}"
    return [
        {
            "name": "flower",
            "domains": [domain],
            "port": FLOWER_PORT,
            "locations": [{"path": "/", "proxy": proxy, "websocket": True}],
            # nginx takes an empty list for everybody.
            "allow_from": flower["allow_from"] or NOBODY,
            "users": flower["users"],
        }
    ]
