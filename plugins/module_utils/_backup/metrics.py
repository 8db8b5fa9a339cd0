# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Metrics for node_exporter's textfile collector, from the state files of the jobs.

What C(jobs) remembers of a job and this is made of; times are seconds since 1970, what has not happened is not there:

- C(last_attempt), C(error): when the last run was begun, why it failed or ""
- C(last_success), C(seconds), C(plain_bytes), C(stored_bytes), C(clock_skew_seconds): of the newest backup
- C(last_drill_attempt), C(drill_error), C(last_good_drill), C(drill_seconds): wherever it was drilled
- C(last_prune_attempt), C(prune_error), C(last_prune): the last is that of the newest good one
- C(backups), C(backup_bytes), C(tier_bytes), C(unfinished): what the store holds, see C(holdings)
- C(since): when the job was first heard of
- C(errors): how many runs, prunes and drills have failed, by C(reason)
"""

from __future__ import annotations

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
from .state import lock, read_states, remember, replace

State = Mapping[str, Any]
# Further labels and the number; none while there is nothing to say.
Samples = Iterable[tuple[Mapping[str, str], float]]
Of = Callable[[Settings, Job, State], Samples]

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
OTHER = "other"


class Metric(NamedTuple):
    kind: str
    help: str
    samples: Of


def value(key: str, missing: float | None = None) -> Of:
    """A number of the state; where there is none, nothing or the given one."""

    def samples(settings: Settings, job: Job, state: State) -> Samples:
        number = missing if state.get(key) is None else state[key]
        return [] if number is None else [({}, number)]

    return samples


def no(error: str) -> Of:
    """Whether something went well, once it was tried."""
    return lambda settings, job, state: [({}, not state[error])] if error in state else []


def by(label: str, key: str) -> Of:
    return lambda settings, job, state: [({label: name}, number) for name, number in sorted(state.get(key, {}).items())]


def errors(settings: Settings, job: Job, state: State) -> Samples:
    """All reasons from the beginning: the step from nothing to one is no increase to Prometheus."""
    known = state.get("errors") or {}
    return [({"reason": name}, known.get(name, 0)) for name in (*(name for _kind, name in REASONS), OTHER)]


def ours(samples: Of) -> Of:
    """Only on the host that the backup is of: a drill host knows nothing of the runs there."""
    return lambda settings, job, state: samples(settings, job, state) if settings.host_of(job) == settings.host else []


def throughput(settings: Settings, job: Job, state: State) -> Samples:
    known = state.get("plain_bytes") and state.get("seconds")
    return [({}, state["plain_bytes"] / state["seconds"])] if known else []


def limit(of: Callable[[Job], float]) -> Of:
    """A limit that the job sets; 0 = none, so no alert either."""
    return lambda settings, job, state: [({}, of(job))] if of(job) else []


METRICS: dict[str, Metric] = {
    "info": Metric("gauge", "The jobs there are.", lambda settings, job, state: [({"store": settings.store.kind}, 1)]),
    "since_timestamp_seconds": Metric("gauge", "When the job was first heard of.", value("since")),
    "max_age_seconds": Metric(
        "gauge",
        "The newest backup must not be older.",
        ours(limit(lambda job: job.max_age_hours * 3600 if job.on_calendar else 0)),
    ),
    "max_drill_age_seconds": Metric(
        "gauge", "The newest good drill must not be older.", limit(lambda job: job.max_drill_age_days * 86400)
    ),
    "last_attempt_timestamp_seconds": Metric("gauge", "When the last run was begun.", ours(value("last_attempt"))),
    "last_attempt_success": Metric("gauge", "Whether the last run made a backup.", ours(no("error"))),
    "last_success_timestamp_seconds": Metric(
        "gauge", "When the newest backup was made, 0 if there is none.", ours(value("last_success", 0))
    ),
    "duration_seconds": Metric("gauge", "How long the newest backup took.", ours(value("seconds"))),
    "plain_bytes": Metric("gauge", "What the source gave for the newest backup.", ours(value("plain_bytes"))),
    "stored_bytes": Metric("gauge", "What the newest backup takes in the store.", ours(value("stored_bytes"))),
    "throughput_bytes_per_second": Metric("gauge", "Plain bytes of the newest backup per second.", ours(throughput)),
    "last_drill_timestamp_seconds": Metric("gauge", "When the last drill was begun.", value("last_drill_attempt")),
    "last_drill_success": Metric("gauge", "Whether the last drill found all as it must be.", no("drill_error")),
    "last_good_drill_timestamp_seconds": Metric(
        "gauge", "When the newest good drill was made, 0 if there is none.", value("last_good_drill", 0)
    ),
    "drill_duration_seconds": Metric(
        "gauge", "How long the newest drill took: the measured time to restore.", value("drill_seconds")
    ),
    "last_prune_timestamp_seconds": Metric("gauge", "When the last prune was begun.", value("last_prune_attempt")),
    "last_prune_success": Metric("gauge", "Whether the last prune did all it had to.", no("prune_error")),
    "unfinished_uploads": Metric("gauge", "Uploads that were begun and not ended.", value("unfinished")),
    "catalogue_backups": Metric("gauge", "Backups in the store.", value("backups")),
    "catalogue_bytes": Metric("gauge", "What they take.", value("backup_bytes")),
    "tier_bytes": Metric("gauge", "The same by why they are kept.", by("tier", "tier_bytes")),
    "errors_total": Metric("counter", "Runs, prunes and drills that failed, by reason.", errors),
    "clock_skew_seconds": Metric(
        "gauge", "How far this host's clock is ahead of the store's.", ours(value("clock_skew_seconds"))
    ),
}


def reason(error: BaseException) -> str:
    """The label of an error in C(errors_total)."""
    return next((name for kind, name in REASONS if isinstance(error, kind)), OTHER)


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


def lines(settings: Settings, states: Mapping[str, State], now: float) -> str:
    """The whole textfile. The label is not C(job): Prometheus has one of that name and would rename ours."""
    return "".join(texts(settings, states, now))


def texts(settings: Settings, states: Mapping[str, State], now: float) -> Iterator[str]:
    for name, metric in METRICS.items():
        samples = [
            f"bulwark_backup_{name}{{{labels(settings, job, extra)}}} {number:.15g}\n"
            for job in settings.jobs
            for extra, number in metric.samples(settings, job, states.get(job.name, {}))
        ]
        if samples:
            yield f"# HELP bulwark_backup_{name} {metric.help}\n# TYPE bulwark_backup_{name} {metric.kind}\n"
            yield from samples
    name = "bulwark_backup_written_timestamp_seconds"
    yield f"# HELP {name} When this file was written.\n# TYPE {name} gauge\n{name} {now:.15g}\n"


def labels(settings: Settings, job: Job, extra: Mapping[str, str]) -> str:
    all_of_them = {"backup_job": job.stored_name, "host": settings.host_of(job), "kind": job.kind, **extra}
    return ",".join(f'{name}="{escaped(value)}"' for name, value in all_of_them.items())


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def known_states(settings: Settings, now: float) -> Mapping[str, State]:
    """The states of the jobs. New ones are known from now on, so that one that never runs is missed in time."""
    known = read_states(settings.state_dir)
    new = [job for job in settings.jobs if "since" not in known.get(job.name, {})]
    for job in new:
        remember(settings.state_dir, job.name, since=now)
    return read_states(settings.state_dir) if new else known


def publish(settings: Settings, say: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
    """Writes the textfile from the states as they are now. What goes wrong here is said and fails nothing."""
    if not settings.metrics_file:
        return
    try:
        # Two jobs that end together: without the lock, the older states could be written last.
        with lock(settings.state_dir, "metrics", wait_seconds=60):
            text = lines(settings, known_states(settings, clock()), clock())
            # Not for the agent alone; the exporter is somebody else, and reads no name of a half one.
            replace(Path(settings.metrics_file), text, 0o644)
    except (OSError, BusyError) as error:
        say(f"The metrics were not written: {error}.")
