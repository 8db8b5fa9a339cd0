# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backup agent from data: its files, its settings, its timers. The library itself says what a setting may be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._backup import crypto
from ..module_utils._backup.errors import SettingsError
from ..module_utils._backup.kinds import kind_of
from ..module_utils._backup.names import WORD, taken_at
from ..module_utils._backup.settings import Job, Settings, StoreSettings, check_store, did_you_mean, from_dict
from ..module_utils._backup.table import seconds_text, table

LIBRARY = Path(__file__).resolve().parents[1] / "module_utils/_backup"
AGENT = "/usr/local/lib/bulwark-backup/bulwark_backup"
PROGRAM = "/usr/local/bin/bulwark-backup"
ETC = "/etc/bulwark-backup"
STATE = "/var/lib/bulwark-backup"
CACHE = "bulwark-backup"
IDENTITY = f"{ETC}/identity"
RESTORE = "/run/bulwark-restore"
# To read everything and to become the account of a database.
CAPABILITIES = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID"
# What a store's settings may hold as text, which the agent wants as files.
TEXTS = {"key": "key_file", "known_hosts": "known_hosts_file", "ca": "ca_file"}
STORE_PACKAGES = {"s3": ["python3-botocore"], "b2": ["python3-b2sdk"], "sftp": ["openssh-client"], "local": []}
KIND_PACKAGES = {"restic": ["restic"], "pgbackrest": ["pgbackrest"]}

# See systemd.time(7). What this lets through and systemd refuses ends in systemd's own words.
NUMBERS = r"(\*|\d+(\.\.\d+)?)(/\d+)?(,(\*|\d+(\.\.\d+)?)(/\d+)?)*"
DAY = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
CALENDAR = re.compile(
    r"(minute|hour|dai|week|month|quarter|year|annual|semiannual)ly"
    rf"|({DAY}((\.\.|-|,){DAY})*,? ?)?(({NUMBERS}-)?{NUMBERS}[-~]{NUMBERS} ?)?({NUMBERS}:{NUMBERS}(:{NUMBERS})?)?"
    r"( [A-Z][A-Za-z0-9_/+-]*)?"
)


def plain(value: Any) -> Any:
    """The same data in Python's own types: the library compares types, and Ansible's are their children."""
    if isinstance(value, Mapping):
        return {plain(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def merged_jobs(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The published jobs, changed and completed by the user's own."""
    published, own = plain(options["published_jobs"]), plain(options["jobs"])
    changes = {one.get("name"): one for one in own}
    names = {one["name"] for one in published}
    return [
        *({**one, **changes.get(one["name"], {})} for one in published),
        *(one for one in own if one.get("name") not in names),
    ]


def placed_store(name: str, store: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A store's settings as the agent reads them, and the files that they name; those it does not need are removed.

    @param name: C(store) or C(prune_store)
    """
    settings = {key: value for key, value in store.items() if key not in TEXTS}
    files: list[dict[str, Any]] = []
    for text, setting in TEXTS.items():
        path = f"{ETC}/{name}.{text}"
        if store.get(text):
            settings[setting] = path
            files.append({"path": path, "content": store[text].rstrip() + "\n", "secret": True, "mode": "0600"})
        else:
            files.append({"path": path, "state": "absent"})
    return settings, files


def agent_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings file of the agent as data."""
    prune = plain(options["prune_store"])
    return {
        "host": plain(options["host"]),
        "store": placed_store("store", plain(options["store"]))[0],
        "prune_store": placed_store("prune_store", prune)[0] if prune else None,
        "recipients": plain(options["recipients"]),
        "identity_file": IDENTITY if options["identity"] else "",
        "jobs": merged_jobs(options),
        "keep": plain(options["keep"]),
        "notify": plain(options["notify"]),
        "metrics_file": plain(options["metrics_file"]),
    }


def is_engine(job: Job) -> bool:
    """Whether a program with a repository and keys of its own makes these backups."""
    return hasattr(kind_of(job), "snapshot")


def backups_problems(options: dict[str, Any]) -> list[str]:
    """One sentence for everything that would leave the host without backups, or with some that nobody can read."""
    store = plain(options["store"])
    if not store:
        return ["backups_store is empty: say where the backups go, such as {kind: s3, provider: hetzner, …}."]
    problems = [*store_problems("backups_store", store), *key_problems(options), *job_problems(options)]
    if options["prune_store"]:
        problems += store_problems("backups_prune_store", plain(options["prune_store"]))
    if options["prune_on_calendar"] and not CALENDAR.fullmatch(options["prune_on_calendar"]):
        problems.append(calendar_problem("backups_prune_on_calendar", options["prune_on_calendar"]))
    if not re.fullmatch(WORD, options["host"]):
        problems.append(f"backups_host: {options['host']!r} cannot be part of a name; use letters, digits and ._-.")
    if not problems:
        try:
            from_dict(Settings, agent_settings(options), "backups")
        except SettingsError as error:
            problems.append(str(error))
    return problems


def store_problems(name: str, store: dict[str, Any]) -> list[str]:
    problems = []
    try:
        check_store(from_dict(StoreSettings, placed_store(name, store)[0], name), name)
    except SettingsError as error:
        problems.append(str(error))
    if store.get("kind") == "local" and not str(store.get("path") or "/").startswith("/"):
        problems.append(f"{name}.path: {store['path']!r} is not an absolute path.")
    for text, setting in TEXTS.items():
        if store.get(text) and store.get(setting):
            problems.append(f"{name} has both {text} and {setting}; give one of them.")
    return problems


def key_problems(options: dict[str, Any]) -> list[str]:
    problems = []
    for number, key in enumerate(plain(options["recipients"]), 1):
        if "SECRET-KEY" in str(key).upper():
            problems.append(
                f"backups_recipients: entry {number} is a PRIVATE key, which opens every backup. Take it out, write "
                "the public one (age1…, age-keygen -y prints it), and make a new pair if this was ever committed."
            )
        elif not crypto.RECIPIENT.fullmatch(str(key).partition(" ")[0]):
            problems.append(
                f"backups_recipients: entry {number} is not a public key; it looks like age1… and has 62 characters."
            )
    lines = str(options["identity"]).split("\n")
    identity = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if any(not crypto.IDENTITY.fullmatch(line) for line in identity):
        problems.append("backups_identity is not a private key; it looks like AGE-SECRET-KEY-1… and has 74 characters.")
    elif (
        identity
        and not problems
        and not {public_key(line) for line in identity} & {str(key).split()[0] for key in options["recipients"]}
    ):
        problems.append(
            f"backups_identity is the private key of {public_key(identity[0])}, for which nothing is encrypted: "
            "it is not in backups_recipients."
        )
    return problems


def public_key(identity: str) -> str:
    """The public key of an age private key, as C(age-keygen -y) prints it."""
    # Ansible itself needs this library; only those who give a private key load it.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    # Between "age-secret-key-1" and the checksum, 52 characters of 5 bits hold 256 bits and padding.
    bits = "".join(f"{crypto.BECH32.index(char):05b}" for char in identity.lower()[16:-6])
    secret = int(bits[:256], 2).to_bytes(32, "big")
    return crypto.bech32("age", X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw())


def job_problems(options: dict[str, Any]) -> list[str]:
    problems, jobs = [], []
    for one in merged_jobs(options):
        try:
            job = from_dict(Job, one, "backups_jobs")
            jobs.append(job)
            kind_of(job)
        except SettingsError as error:
            problems.append(f"backups_jobs: {error}")
            continue
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", job.name):
            problems.append(f"backups_jobs: {job.name!r} cannot be part of a unit name; use letters, digits and ._-.")
        for key in ("on_calendar", "drill_on_calendar"):
            if getattr(job, key) and not CALENDAR.fullmatch(getattr(job, key)):
                problems.append(calendar_problem(f"backups_jobs: {key} of {job.name}", getattr(job, key)))
        if job.host and not options["identity"] and not job.keep:
            problems.append(
                f"backups_jobs: {job.name} is a job of {job.host}, which this host drills; that needs "
                "backups_identity, or keep, if this host only prunes it."
            )
        if not options["recipients"] and not is_engine(job):
            problems.append(
                f"backups_recipients is empty, so {job.name} would be readable by whoever reads the store; give at "
                "least one public key (age-keygen -o key.txt makes a pair: keep key.txt away from the hosts)."
            )
    names = [job.name for job in jobs]
    problems += [
        f"backups_jobs: the name {one!r} is there twice." for one in sorted(set(names)) if names.count(one) > 1
    ]
    return problems


def calendar_problem(where: str, text: str) -> str:
    return f"{where} is {text!r}, which systemd does not read; write it like 'Sun *-*-* 02:00:00'."


def backups_packages(options: dict[str, Any]) -> list[str]:
    kinds = sorted({one.get("kind", "") for one in merged_jobs(options)})
    store = STORE_PACKAGES.get(plain(options["store"]).get("kind"), [])
    return [
        "age",
        "python3-zstandard",
        "zstd",
        *store,
        *(name for kind in kinds for name in KIND_PACKAGES.get(kind, [])),
    ]


def backups_files(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the module C(files): the library as the agent's code, its settings and keys, its directories."""
    settings = agent_settings(options)
    files: list[dict[str, Any]] = [
        {"path": path, "state": "directory", "mode": mode}
        for path, mode in (
            (str(Path(AGENT).parent), "0755"),
            (AGENT, "0755"),
            (ETC, "0700"),
            # Others only pass through, to what a drill gives them below scratch.
            (STATE, "0711"),
            (f"{STATE}/scratch", "0711"),
        )
    ]
    if settings["metrics_file"]:
        files.append({"path": str(Path(settings["metrics_file"]).parent), "state": "directory"})
    if settings["store"]["kind"] == "local" and not settings["store"].get("mount_required"):
        files.append({"path": settings["store"]["path"], "state": "directory", "mode": "0700"})
    files += [
        {"path": f"{AGENT}/{path.name}", "content": path.read_text(encoding="utf-8")}
        for path in sorted(LIBRARY.glob("*.py"))
    ]
    files.append({"path": PROGRAM, "src": "bulwark-backup", "mode": "0755"})
    for name in ("store", "prune_store"):
        files += placed_store(name, plain(options[name]))[1]
    if options["identity"]:
        files.append({"path": IDENTITY, "content": options["identity"].strip() + "\n", "secret": True, "mode": "0600"})
    else:
        files.append({"path": IDENTITY, "state": "absent"})
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    files.append({"path": f"{ETC}/settings.json", "content": text, "secret": True, "mode": "0600"})
    return files


def service(options: dict[str, Any], description: str, words: str, **lines: Any) -> dict[str, Any]:
    """The sections of a service that calls the agent. It is root, because it reads everything and becomes anybody."""
    store = plain(options["store"])
    writable = [STATE, str(Path(options["metrics_file"]).parent) if options["metrics_file"] else None]
    writable.append(f"-{store['path']}" if store.get("kind") == "local" else None)
    return {
        "Unit": {
            "Description": description,
            # A timer that was missed fires while the host still boots.
            "After": "network-online.target multi-user.target",
            "Wants": "network-online.target",
            "OnFailure": "bulwark-backup-notify@%n.service",
        },
        "Service": {
            "Type": "oneshot",
            "ExecStart": f"{PROGRAM} {words}",
            "CapabilityBoundingSet": CAPABILITIES,
            "ProtectHome": "read-only",
            "ProcSubset": None,
            "SystemCallFilter": "@system-service",
            "SystemCallErrorNumber": "EPERM",
            "ReadWritePaths": [path for path in writable if path],
            "InaccessiblePaths": f"-{IDENTITY}",
            "CacheDirectory": CACHE,
            "Environment": f"XDG_CACHE_HOME=/var/cache/{CACHE}",
            "UMask": "0077",
            "Nice": 10,
            "IOSchedulingClass": "idle",
            "CPUWeight": 20,
            "IOWeight": 20,
            "OOMScoreAdjust": 500,
            **lines,
        },
    }


# What the programs of a kind need beyond the sandbox.
RELAXED: dict[str, dict[str, Any]] = {
    "pgbackrest": {
        "PrivateTmp": None,
        # Its locks, which its archiving shares, are in /tmp.
        "ReadWritePaths": ["/tmp", *(f"-/var/{path}/pgbackrest" for path in ("lib", "log", "spool"))],
    },
}


def timer(name: str, description: str, calendar: str, delay_seconds: int) -> dict[str, Any]:
    return {
        "name": name,
        "sections": {
            "Unit": {"Description": description},
            "Timer": {
                "OnCalendar": calendar,
                "RandomizedDelaySec": delay_seconds,
                # The same delay each day, so that an age of 24 hours stays one.
                "FixedRandomDelay": True,
                # One that was missed while the host was off fires at boot.
                "Persistent": True,
            },
            "Install": {"WantedBy": "timers.target"},
        },
        "enabled": True,
        "state": "started",
    }


def backups_units(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit): a service and a timer for each job, its drill, the pruning."""
    delay = int(options["random_delay_seconds"])
    units: list[dict[str, Any]] = [
        {
            "name": "bulwark-drill.slice",
            "live": True,
            "sections": {
                "Unit": {"Description": "Restore drills"},
                "Slice": {
                    "MemoryMax": f"{int(options['drill_memory_mb'])}M",
                    "MemorySwapMax": 0,
                    "CPUWeight": 20,
                    "IOWeight": 20,
                    "TasksMax": 512,
                },
            },
        },
        notify_unit(),
    ]
    for job in (from_dict(Job, one, "backups_jobs") for one in merged_jobs(options)):
        if not job.host:
            units += pair(options, f"bulwark-backup@{job.name}", f"Backup of {job.name}", job, delay)
        if options["identity"] or is_engine(job):
            units += pair(options, f"bulwark-drill@{job.name}", f"Restore drill of {job.name}", job, delay)
    if options["prune_on_calendar"]:
        name, text = "bulwark-backup-prune", "Removal of old backups"
        units.append({"name": f"{name}.service", "sections": service(options, text, "prune")})
        units.append(timer(f"{name}.timer", text, options["prune_on_calendar"], delay))
    return units


def pair(options: dict[str, Any], name: str, description: str, job: Job, delay: int) -> list[dict[str, Any]]:
    """The service of a job or of its drill, and its timer unless it runs only by hand."""
    drill = name.startswith("bulwark-drill@")
    lines: dict[str, Any] = {}
    if drill:
        lines = {
            "Slice": "bulwark-drill.slice",
            "InaccessiblePaths": None,
            # A restored tree is compared with all its modes, also set-group-id folders and programs with capabilities.
            "CapabilityBoundingSet": f"{CAPABILITIES} CAP_FSETID CAP_SETFCAP",
            "RestrictSUIDSGID": None,
        }
    sections = service(options, description, f"{'drill' if drill else 'run'} {job.name}", **lines)
    relaxed = dict(RELAXED.get(job.kind, {}))
    sections["Service"]["ReadWritePaths"] += relaxed.pop("ReadWritePaths", [])
    sections["Service"].update(relaxed)
    entry: dict[str, Any] = {"name": f"{name}.service", "sections": sections}
    if job.kind == "command":
        # Nobody knows what it does.
        entry["sandbox"] = False
        sections["Service"] = {
            key: value
            for key, value in sections["Service"].items()
            if key
            in ("Type", "ExecStart", "Slice", "CacheDirectory", "Environment", "UMask", "Nice", "CPUWeight", "IOWeight")
        }
    calendar = job.drill_on_calendar if drill else job.on_calendar
    return [entry, timer(f"{name}.timer", description, calendar, delay)] if calendar else [entry]


def backups_calls(files: list[dict[str, Any]], unit: str, names: list[str]) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit) that start the services of some jobs, or of all, one after the other.

    @param files: unit files of the host, as ansible.builtin.find returns them
    @param unit: C(bulwark-backup) or C(bulwark-drill)
    """
    known = sorted(Path(one["path"]).stem.removeprefix(f"{unit}@") for one in files)
    for name in names:
        if name not in known:
            raise AnsibleFilterError(
                f"backups_selected_jobs: this host has no {unit}@{name}.service{did_you_mean(name, known)}."
            )
    if not known:
        raise AnsibleFilterError(
            f"This host has no {unit}@ services: the role backups makes them"
            + (" where backups_identity is given." if unit == "bulwark-drill" else ", one for each job.")
        )
    return [{"name": f"{unit}@{name}.service", "state": "started"} for name in names or known]


def backups_restore_files(settings: str, identity: str) -> list[dict[str, Any]]:
    """Entries for the module C(files): the agent's own settings, with a private key that lies in memory beside them."""
    text = json.dumps({**json.loads(settings), "identity_file": f"{RESTORE}/identity"})
    secret = {"secret": True, "mode": "0600"}
    return [
        {"path": RESTORE, "state": "directory", "mode": "0700"},
        {"path": f"{RESTORE}/identity", "content": identity.strip() + "\n", **secret},
        {"path": f"{RESTORE}/settings.json", "content": text, **secret},
    ]


def notify_unit() -> dict[str, Any]:
    return {
        "name": "bulwark-backup-notify@.service",
        "sections": {
            "Unit": {"Description": "Tell people that %i failed", "After": "network-online.target"},
            "Service": {
                "Type": "oneshot",
                "ExecStart": f"{PROGRAM} notify %i",
                # Mail programs hand over to their queue, with the rights of their own account or group.
                "NoNewPrivileges": None,
                "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETGID CAP_SETUID",
                "ProtectSystem": "full",
                "InaccessiblePaths": f"-{IDENTITY}",
                "SystemCallFilter": "@system-service",
                "SystemCallErrorNumber": "EPERM",
                "TimeoutStartSec": 300,
            },
        },
    }


def backups_rebuild_note(found: str, now: float) -> str:
    """What a rebuild begins with: the time, and the newest backup of each job, as JSON.

    @param found: what C(bulwark-backup list --json) printed
    @raises AnsibleFilterError: if the store has no backup of this host
    """
    newest = {one["job"]: one["backup"] for one in json.loads(found)}
    if not newest:
        raise AnsibleFilterError("The store has no backup of this host; is backups_host its old name?")
    return json.dumps({"started": now, "backups": newest}, indent=1) + "\n"


def backups_rebuild_steps(note: dict[str, Any], jobs: list[dict[str, Any]], kinds: list[str]) -> list[dict[str, Any]]:
    """What to restore, in the order of the kinds: C(job), C(backup) and C(target) of each."""
    own = [one for one in jobs if not one.get("host")]
    return [
        {
            "job": one["name"],
            "backup": note["backups"][one["name"]],
            "target": {"only": "/etc/letsencrypt"} if kind == "system" else {},
        }
        for kind in kinds
        for one in own
        if one["kind"] == kind and one["name"] in note["backups"]
    ]


# What a rebuild says of a backup that it did not restore, by the kind of its job; None = there is no such job.
LEFT = {None: "is no job any more", "system": "certificates restored"}
BY_HAND = "not restored: do it by hand"


def backups_rebuild_result(
    note: dict[str, Any], jobs: list[dict[str, Any]], kinds: list[str], now: float
) -> dict[str, Any]:
    """How much was lost and how long it took, as C(lines) for people and C(figures) in seconds for machines.

    The loss of a job is the time between its backup and the begin of the rebuild; the RPO is the largest.

    @param kinds: those that were restored; of C(system) that is the certificates alone
    """
    own = {one["name"]: one["kind"] for one in jobs if not one.get("host")}
    ages = {name: note["started"] - taken_at(backup).timestamp() for name, backup in sorted(note["backups"].items())}
    restored = [name for name in ages if own.get(name) in kinds]
    rows = [[name, note["backups"][name], seconds_text(ages[name]), "restored"] for name in restored]
    for name in sorted({*ages, *own} - {*restored}):
        if name not in ages:
            rows.append([name, "none", "everything", "was never backed up"])
        else:
            rows.append([name, note["backups"][name], seconds_text(ages[name]), LEFT.get(own.get(name), BY_HAND)])
    figures = {
        "rpo_seconds": round(max((ages[name] for name in restored), default=0)),
        "rto_seconds": round(now - note["started"]),
    }
    total = f"RPO {seconds_text(figures['rpo_seconds'])}, RTO {seconds_text(figures['rto_seconds'])}"
    return {"lines": [*table(["job", "backup", "lost", ""], rows), total], "figures": figures}
