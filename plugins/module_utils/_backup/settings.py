# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings of the agent and of the modules: frozen dataclasses, made from dictionaries by C(from_dict).

The agent reads them from /etc/bulwark-backup/settings.json, the modules from their parameters: one shape for both.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import SettingsError
from .names import WORD

SETTINGS_FILE = Path("/etc/bulwark-backup/settings.json")
STORE_KINDS = ("s3", "b2", "sftp", "local")
# S3 endpoints by provider, {region} as the provider writes it; "custom" takes the endpoint as given.
ENDPOINTS = {
    "aws": "https://s3.{region}.amazonaws.com",
    "b2": "https://s3.{region}.backblazeb2.com",
    "hetzner": "https://{region}.your-objectstorage.com",
    "linode": "https://{region}.linodeobjects.com",
    "r2": "https://{account}.r2.cloudflarestorage.com",
    "spaces": "https://{region}.digitaloceanspaces.com",
    "vultr": "https://{region}.vultrobjects.com",
    "custom": "",
}


@dataclasses.dataclass(frozen=True)
class StoreSettings:
    """Where backups go. Which fields count depends on C(kind); see docs/backups.md."""

    kind: str
    prefix: str = ""
    # s3 and b2
    provider: str = "custom"
    bucket: str = ""
    region: str = ""
    account: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    ca_file: str = ""
    lock_days: int = 0
    # sftp and local; a local path must be a mount point if it says so
    path: str = ""
    mount_required: bool = False
    # sftp
    host: str = ""
    port: int = 22
    user: str = ""
    key_file: str = ""
    known_hosts_file: str = ""
    # How long one call is tried again before the job fails.
    patience_seconds: int = 7200

    @property
    def address(self) -> str:
        """The address of an S3 endpoint."""
        return self.endpoint or ENDPOINTS[self.provider].format(region=self.region, account=self.account)

    @property
    def label(self) -> str:
        """How messages name the store; never with a secret."""
        place = {
            "s3": f"{self.endpoint or self.provider}/{self.bucket}",
            "b2": f"b2:{self.bucket}",
            "sftp": f"{self.user}@{self.host}:{self.path}",
            "local": self.path,
        }
        return f"{place[self.kind]}/{self.prefix}".rstrip("/")


@dataclasses.dataclass(frozen=True)
class Keep:
    """How many backups of each age are kept: the newest of each of the last N hours, days, weeks, months, years."""

    hourly: int = 0
    daily: int = 7
    weekly: int = 4
    monthly: int = 12
    yearly: int = 0


@dataclasses.dataclass(frozen=True)
class Job:
    """One thing that is backed up. What is special to its kind is in C(options); see the kind's own C(OPTIONS)."""

    name: str
    kind: str
    # systemd calendar expressions; "" = only by hand
    on_calendar: str = "*-*-* 02:00:00"
    drill_on_calendar: str = "Sun *-*-* 04:00:00"
    keep: Keep | None = None
    # Alerts fire when the newest backup, or the newest good drill, is older.
    max_age_hours: int = 26
    max_drill_age_days: int = 8
    # Whose backup this is; "" = this host. A drill host has jobs of others, which it never runs, only drills.
    host: str = ""
    # What it is called there; "" = as here, where two hosts cannot both have a job of the same name.
    job: str = ""
    # SQL that must hold in the restored data: one row, one column, true.
    assertions: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def stored_name(self) -> str:
        return self.job or self.name


@dataclasses.dataclass(frozen=True)
class Notify:
    """Who hears of a failure without Prometheus, and who expects a sign of life; "" = nobody."""

    mail_to: str = ""
    webhook_url: str = ""
    ping_url: str = ""


@dataclasses.dataclass(frozen=True)
class Settings:
    host: str
    store: StoreSettings
    jobs: tuple[Job, ...] = ()
    # Public keys (age1…) that backups are encrypted for.
    recipients: tuple[str, ...] = ()
    # false: backups are stored so that everybody who sees the store can read them.
    encrypted: bool = True
    # The private key, where this host restores and drills; a host that only backs up has none.
    identity_file: str = ""
    # Credentials that may delete, where those of `store` may not.
    prune_store: StoreSettings | None = None
    keep: Keep = dataclasses.field(default_factory=Keep)
    notify: Notify = dataclasses.field(default_factory=Notify)
    state_dir: str = "/var/lib/bulwark-backup"
    scratch_dir: str = "/var/lib/bulwark-backup/scratch"
    # node_exporter's textfile; "" = none
    metrics_file: str = ""
    zstd_level: int = 3

    def job(self, name: str) -> Job:
        for job in self.jobs:
            if job.name == name:
                return job
        raise SettingsError(f"There is no job {name!r}{did_you_mean(name, [job.name for job in self.jobs])}.")

    def host_of(self, job: Job) -> str:
        return job.host or self.host

    def keep_of(self, job: Job) -> Keep:
        return job.keep or self.keep


# What a store of a kind cannot do without.
NEEDED = {
    "s3": ("bucket", "access_key", "secret_key"),
    "b2": ("bucket", "access_key", "secret_key"),
    "sftp": ("host", "user", "path", "key_file", "known_hosts_file"),
    "local": ("path",),
}

T = TypeVar("T")


def check_store(store: StoreSettings, where: str = "store") -> None:
    """@raises SettingsError: if something is missing without which this kind of store cannot be reached"""
    if store.kind not in STORE_KINDS:
        raise SettingsError(f"{where}.kind is {store.kind!r}{did_you_mean(store.kind, list(STORE_KINDS))}.")
    needed = NEEDED[store.kind]
    if store.kind == "s3" and not store.endpoint:
        if store.provider not in ENDPOINTS:
            raise SettingsError(
                f"{where}.provider is {store.provider!r}{did_you_mean(store.provider, list(ENDPOINTS))}."
            )
        preset = ENDPOINTS[store.provider]
        needed += tuple(name for name in ("region", "account") if f"{{{name}}}" in preset) if preset else ("endpoint",)
    for name in needed:
        if not getattr(store, name):
            raise SettingsError(f"{where}.{name} is missing: a store of kind {store.kind} needs it.")


def did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (known are {', '.join(sorted(known))})" if known else ""


def from_dict(cls: type[T], data: Mapping[str, Any], where: str, *, lenient: bool = False) -> T:
    """A settings object from plain data.

    @param where: how messages name the place, such as C(backups_store)
    @param lenient: pass over unknown names, for data that a later release may have written
    @raises SettingsError: for an unknown or missing name or a wrong type, with what to write instead
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in data.items():
        if name in fields and name != "options":
            if value is not None:
                values[name] = convert(hints[name], value, f"{where}.{name}", lenient)
        elif "options" in fields:
            extra.update(value if name == "options" else {name: value})
        elif not lenient:
            raise SettingsError(f"{where} has no {name!r}{did_you_mean(name, list(fields))}.")
    if "options" in fields:
        values["options"] = extra
    no_default = (dataclasses.MISSING, dataclasses.MISSING)
    for name, field in fields.items():
        if name not in values and (field.default, field.default_factory) == no_default:
            raise SettingsError(f"{where}.{name} is missing.")
    return cls(**values)


def convert(hint: Any, value: Any, where: str, lenient: bool = False) -> Any:
    """A value of the wanted type, or the sentence why not."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return convert(typing.get_args(hint)[0], value, where, lenient)
    if dataclasses.is_dataclass(hint) or origin is Mapping:
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where} must be a dictionary, not {type(value).__name__}.")
        return dict(value) if origin else from_dict(typing.cast(type, hint), value, where, lenient=lenient)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingsError(f"{where} must be a list, not {type(value).__name__}.")
        element = typing.get_args(hint)[0]
        return tuple(convert(element, item, f"{where}[{number}]", lenient) for number, item in enumerate(value))
    if (hint is int and isinstance(value, bool)) or not isinstance(value, hint):
        words = {int: "a number", str: "a text", bool: "true or false"}
        # Not the value: it may be a secret.
        raise SettingsError(f"{where} must be {words[hint]}, not {type(value).__name__}.")
    return value


def of_host(job: Job, host: str) -> Job:
    """The same job of another host."""
    return dataclasses.replace(job, host=host)


def checked(settings: Settings) -> Settings:
    """The same settings, if the store is whole, and names can be those of objects and files.

    @raises SettingsError: if they cannot
    """
    check_store(settings.store)
    if settings.prune_store:
        check_store(settings.prune_store, "prune_store")
    words = [("host", settings.host)]
    for job in settings.jobs:
        words += [("name of a job", job.name), (f"host of job {job.name}", job.host or settings.host)]
        words += [(f"name of job {job.name} there", job.stored_name)]
        if job.job and job.host in ("", settings.host):
            raise SettingsError(f"Job {job.name} is {job.job!r} of another host: say of which, by host.")
    for what, word in words:
        if not re.fullmatch(WORD, word):
            raise SettingsError(f"The {what} may hold letters, digits, '.', '_' and '-' only, not {word!r}.")
    if not 1 <= settings.zstd_level <= 19:
        # Above it, zstd takes hundreds of MiB.
        raise SettingsError(f"zstd_level must be from 1 to 19, not {settings.zstd_level}.")
    names = [job.name for job in settings.jobs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SettingsError(f"There are two jobs {', '.join(sorted(twice))}: each job needs a name of its own.")
    return settings
