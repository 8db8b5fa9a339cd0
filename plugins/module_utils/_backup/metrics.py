# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Metrics for node_exporter's textfile collector, from the state files of the jobs.

A state is what C(jobs) keeps of a job between runs, a JSON object. Times are seconds since 1970; what is missing or 0
has not happened yet.

- C(last_attempt), C(last_success): when the last run, and the newest backup, were begun
- C(error): why the last run failed, or ""
- C(seconds), C(plain_bytes), C(stored_bytes): of the newest backup
- C(errors): failed runs, prunes and drills so far by reason, see C(reason)
- C(last_drill), C(drill_ok), C(drill_seconds), C(last_good_drill): wherever the drill ran
- C(last_prune), C(prune_ok)
- C(backups), C(backup_bytes), C(tier_bytes), C(unfinished): what the store holds, see C(holdings)
- C(skew_seconds): how far the clock of this host is ahead of the store's
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import (
    BusyError,
    DeniedError,
    DrillError,
    IdentityError,
    IntegrityError,
    SettingsError,
    SourceError,
    StoreError,
)
from .settings import Job, Settings

State = Mapping[str, Any]
Samples = Iterable[tuple[Mapping[str, str], float]]

REASONS: tuple[tuple[type[Exception], str], ...] = (
    (DeniedError, "denied"),
    (StoreError, "store"),
    (SourceError, "source"),
    (IntegrityError, "integrity"),
    (IdentityError, "identity"),
    (DrillError, "drill"),
    (SettingsError, "settings"),
    (BusyError, "busy"),
)


class Metric(NamedTuple):
    """One metric of a job.

    @param samples: further labels and the value; none while there is nothing to say
    """

    kind: str
    help: str
    samples: Callable[[Settings, Job, State], Samples]


def number(key: str) -> Callable[[Settings, Job, State], Samples]:
    """A value of the state, once there is one."""
    return lambda settings, job, state: [({}, float(state[key]))] if key in state else []


def ours(samples: Callable[[Settings, Job, State], Samples]) -> Callable[[Settings, Job, State], Samples]:
    """Only on the host that the backup is of: a drill host knows nothing of the runs there."""
    return lambda settings, job, state: samples(settings, job, state) if is_ours(settings, job) else []


def is_ours(settings: Settings, job: Job) -> bool:
    return settings.host_of(job) == settings.host


def by(label: str, key: str) -> Callable[[Settings, Job, State], Samples]:
    return lambda settings, job, state: [
        ({label: name}, float(value)) for name, value in sorted(state.get(key, {}).items())
    ]


def throughput(settings: Settings, job: Job, state: State) -> Samples:
    return [({}, state.get("plain_bytes", 0) / state["seconds"])] if state.get("seconds") else []


def limit(value: Callable[[Job], float]) -> Callable[[Settings, Job, State], Samples]:
    """A limit that the job sets; 0 = none, so no alert either."""
    return lambda settings, job, state: [({}, value(job))] if value(job) else []


METRICS: dict[str, Metric] = {
    "info": Metric("gauge", "The jobs there are.", lambda settings, job, state: [({"store": settings.store.kind}, 1)]),
    "max_age_seconds": Metric(
        "gauge",
        "The newest backup must not be older.",
        ours(limit(lambda job: job.max_age_hours * 3600 if job.on_calendar else 0)),
    ),
    "max_drill_age_seconds": Metric(
        "gauge", "The newest good drill must not be older.", limit(lambda job: job.max_drill_age_days * 86400)
    ),
    "last_attempt_timestamp_seconds": Metric("gauge", "When the last run was begun.", ours(number("last_attempt"))),
    "last_attempt_success": Metric(
        "gauge",
        "Whether the last run made a backup.",
        ours(lambda settings, job, state: [({}, not state.get("error"))] if state.get("last_attempt") else []),
    ),
    "last_success_timestamp_seconds": Metric(
        "gauge",
        "When the newest backup was begun, 0 if there is none.",
        ours(lambda settings, job, state: [({}, float(state.get("last_success", 0)))]),
    ),
    "duration_seconds": Metric("gauge", "How long the newest backup took.", ours(number("seconds"))),
    "plain_bytes": Metric("gauge", "What the source gave for the newest backup.", ours(number("plain_bytes"))),
    "stored_bytes": Metric("gauge", "What the newest backup takes in the store.", ours(number("stored_bytes"))),
    "throughput_bytes_per_second": Metric("gauge", "Plain bytes of the newest backup per second.", ours(throughput)),
    "last_drill_timestamp_seconds": Metric("gauge", "When the last drill was begun.", number("last_drill")),
    "last_drill_success": Metric("gauge", "Whether the last drill found all as it must be.", number("drill_ok")),
    "last_good_drill_timestamp_seconds": Metric(
        "gauge",
        "When the newest good drill was begun, 0 if there is none.",
        lambda settings, job, state: [({}, float(state.get("last_good_drill", 0)))],
    ),
    "drill_duration_seconds": Metric(
        "gauge", "How long the last drill took: the measured time to restore.", number("drill_seconds")
    ),
    "last_prune_timestamp_seconds": Metric("gauge", "When the last prune was begun.", ours(number("last_prune"))),
    "last_prune_success": Metric("gauge", "Whether the last prune did all it had to.", ours(number("prune_ok"))),
    "unfinished_uploads": Metric("gauge", "Uploads that were begun and not ended.", ours(number("unfinished"))),
    "catalogue_backups": Metric("gauge", "Backups in the store.", ours(number("backups"))),
    "catalogue_bytes": Metric("gauge", "What they take.", ours(number("backup_bytes"))),
    "tier_bytes": Metric("gauge", "The same by why they are kept.", ours(by("tier", "tier_bytes"))),
    "errors_total": Metric("counter", "Runs, prunes and drills that failed, by reason.", by("reason", "errors")),
    "clock_skew_seconds": Metric(
        "gauge", "How far this host's clock is ahead of the store's.", ours(number("skew_seconds"))
    ),
}


def reason(error: BaseException) -> str:
    """The label of an error in C(errors_total)."""
    return next((name for kind, name in REASONS if isinstance(error, kind)), "other")


def holdings(stored_bytes: Mapping[str, int], kept: Mapping[str, str], unfinished: int) -> dict[str, Any]:
    """What the state says of the store.

    @param stored_bytes: by backup
    @param kept: the answer of C(retention.tiers)
    @param unfinished: how many uploads are
    """
    tier_bytes: dict[str, int] = {}
    for backup, size in stored_bytes.items():
        tier = kept.get(backup, "dropped")
        tier_bytes[tier] = tier_bytes.get(tier, 0) + size
    return {
        "backups": len(stored_bytes),
        "backup_bytes": sum(stored_bytes.values()),
        "tier_bytes": tier_bytes,
        "unfinished": unfinished,
    }


def states(settings: Settings) -> dict[str, State]:
    """The states of all jobs; what cannot be read counts as a job that has never run."""
    found: dict[str, State] = {}
    for job in settings.jobs:
        try:
            plain = json.loads((Path(settings.state_dir) / f"{job.name}.json").read_bytes())
        except (OSError, ValueError):
            plain = {}
        found[job.name] = plain if isinstance(plain, dict) else {}
    return found


def lines(settings: Settings, states: Mapping[str, State], now: float) -> str:
    """The whole textfile. The label is not C(job): Prometheus has one of that name and would rename ours."""
    return "".join(text for text in texts(settings, states, now))


def texts(settings: Settings, states: Mapping[str, State], now: float) -> Iterator[str]:
    for name, metric in METRICS.items():
        samples = [
            f"bulwark_backup_{name}{{{labels(settings, job, extra)}}} {value_text(value)}\n"
            for job in settings.jobs
            for extra, value in metric.samples(settings, job, states.get(job.name, {}))
        ]
        if samples:
            yield f"# HELP bulwark_backup_{name} {metric.help}\n# TYPE bulwark_backup_{name} {metric.kind}\n"
            yield from samples
    name = "bulwark_backup_written_timestamp_seconds"
    yield f"# HELP {name} When this file was written.\n# TYPE {name} gauge\n{name} {value_text(now)}\n"


def labels(settings: Settings, job: Job, extra: Mapping[str, str]) -> str:
    all_of_them = {"backup_job": job.name, "host": settings.host_of(job), "kind": job.kind, **extra}
    return ",".join(f'{name}="{escaped(value)}"' for name, value in all_of_them.items())


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def value_text(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def publish(settings: Settings, say: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
    """Writes the textfile from the states as they are now. What goes wrong here is said and fails nothing."""
    if not settings.metrics_file:
        return
    try:
        # Two jobs that end together: without the lock, the older states could be written last.
        with (Path(settings.state_dir) / ".metrics.lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            write(Path(settings.metrics_file), lines(settings, states(settings), clock()))
    except OSError as error:
        say(f"The metrics were not written: {error}.")


def write(path: Path, text: str) -> None:
    """Replaces a file that everybody may read, at once; the exporter reads only names that end with C(.prom)."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        new.chmod(0o644)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
