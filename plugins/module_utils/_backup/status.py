# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What people see of their backups: the jobs, what is wrong first, and what is in the store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from .catalogue import Record
from .settings import Job, Settings
from .table import bytes_text, seconds_text, table

State = Mapping[str, Any]
SKEW_SECONDS = 60


def problems(settings: Settings, job: Job, state: State, now: float) -> list[str]:
    """What is wrong with a job, a sentence each; the alerts for Prometheus look at the same things."""
    found = []
    if settings.host_of(job) == settings.host:
        found += run_problems(job, state, now)
    if state.get("prune_error"):
        found.append(f"The last prune failed: {state['prune_error']}")
    if job.max_drill_age_days:
        found += drill_problems(job, state, now)
    return found


def run_problems(job: Job, state: State, now: float) -> list[str]:
    found = []
    age = now - state.get("last_success", 0)
    if state.get("error"):
        found.append(f"The last run failed: {state['error']}")
    if "last_success" not in state:
        found.append(f"There is no backup yet: bulwark-backup run {job.name}")
    elif job.on_calendar and job.max_age_hours and age > job.max_age_hours * 3600:
        allowed = seconds_text(job.max_age_hours * 3600)
        found.append(
            f"The newest backup is {seconds_text(age)} old, {allowed} are allowed: bulwark-backup run {job.name}"
        )
    skew = state.get("clock_skew_seconds") or 0
    if abs(skew) > SKEW_SECONDS:
        found.append(f"This host's clock and the store's differ by {seconds_text(abs(skew))}: timedatectl")
    return found


def drill_problems(job: Job, state: State, now: float) -> list[str]:
    found = []
    age = now - state.get("last_good_drill", state.get("since", now))
    if state.get("drill_error"):
        found.append(f"The last drill failed: {state['drill_error']}")
    elif age > job.max_drill_age_days * 86400 and "last_good_drill" in state:
        found.append(f"The newest good drill is {seconds_text(age)} old, {job.max_drill_age_days} d are allowed")
    elif age > job.max_drill_age_days * 86400:
        found.append(f"It was never restored: bulwark-backup drill {job.name}, here or on the host that drills")
    return found


def timers() -> dict[str, float]:
    """When the timers of the jobs fire next, by job; empty where there is no systemd."""
    command = ("systemctl", "list-timers", "--all", "--output=json", "bulwark-backup@*.timer")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return {
            entry["unit"].partition("@")[2].removesuffix(".timer"): entry["next"] / 1_000_000
            for entry in json.loads(done.stdout)
            if entry["next"]
        }
    except (OSError, ValueError, TypeError, KeyError, subprocess.SubprocessError):
        return {}


def overview(
    settings: Settings, states: Mapping[str, State], now: float, next_runs: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What is known of each job and what is wrong with it, those with problems first; for machines and for C(status).

    @param next_runs: the answer of C(timers)
    """
    found = [
        {
            **states.get(job.name, {}),
            "job": job.name,
            "stored_name": job.stored_name,
            "host": settings.host_of(job),
            "kind": job.kind,
            "drills": bool(job.max_drill_age_days),
            "next_run": next_runs.get(job.name),
            "problems": problems(settings, job, states.get(job.name, {}), now),
        }
        for job in settings.jobs
    ]
    return sorted(found, key=lambda one: not one["problems"])


def status(jobs: list[dict[str, Any]], host: str, now: float, zone: tzinfo) -> list[str]:
    """The answer of C(overview) as a table, and below it what is wrong."""
    head = ["", "job", "kind", "last backup", "age", "size", "took", "drilled", "RTO", "next"]
    lines = table(head, [row(one, host, now, zone) for one in jobs], right={"age", "size", "took", "RTO", "next"})
    for one in jobs:
        if one["problems"]:
            lines += ["", f"! {one['job']}", *(f"  {text}" for text in one["problems"])]
    return lines


def row(one: Mapping[str, Any], host: str, now: float, zone: tzinfo) -> list[str]:
    def text(key: str, convert: Callable[[float], str]) -> str:
        return "" if one.get(key) is None else convert(one[key])

    # A drill host knows nothing of the runs on another.
    ours = one["host"] == host
    drilled = "failed" if one.get("drill_error") else text("last_good_drill", lambda then: seconds_text(now - then))
    return [
        "!" if one["problems"] else "",
        one["job"] if ours else f"{one['host']}/{one['stored_name']}",
        one["kind"],
        text("last_success", lambda then: moment_text(then, zone)) or ("never" if ours else ""),
        text("last_success", lambda then: seconds_text(now - then)),
        text("stored_bytes", bytes_text),
        text("seconds", seconds_text),
        drilled or ("never" if one["drills"] else "none"),
        text("drill_seconds", seconds_text),
        text("next_run", lambda then: seconds_text(max(then - now, 0))),
    ]


def listing(records: Iterable[Record], now: float, zone: tzinfo) -> list[str]:
    """The backups in the store as a table, the newest last, where a terminal ends."""
    head = ["host", "job", "backup", "taken", "age", "size", "drilled"]
    rows = [
        [
            record.host,
            record.job,
            record.backup,
            moment_text(record.taken_at.timestamp(), zone),
            seconds_text(now - record.taken_at.timestamp()),
            bytes_text(record.stored_bytes),
            "yes" if record.drills else "",
        ]
        for record in records
    ]
    return table(head, rows, right={"age", "size"})


def moment_text(seconds: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%d %b %H:%M}"
