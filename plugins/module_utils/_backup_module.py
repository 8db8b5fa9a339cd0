# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the backup modules share: the store's settings from parameters, and what goes wrong as their result."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._backup import kind_command, kind_files, store_b2, store_local, store_s3, store_sftp
from ._backup.errors import BackupError
from ._backup.jobs import Agent
from ._backup.progress import Progress
from ._backup.settings import ENDPOINTS, STORE_KINDS, Settings, StoreSettings, check_store, from_dict
from ._backup.stores import open_store

# A module takes along what is imported by name; the library loads these when a store or a job asks for them.
TAKEN_ALONG = (kind_command, kind_files, store_b2, store_local, store_s3, store_sftp)
STATE_DIR = "/var/lib/bulwark-backup"
CHOICES = {"kind": list(STORE_KINDS), "provider": sorted(ENDPOINTS)}


def store_options() -> dict[str, dict[str, Any]]:
    """The settings of a store as an argument spec."""
    done: dict[str, dict[str, Any]] = {}
    for field in dataclasses.fields(StoreSettings):
        option = done[field.name] = {"type": "path" if field.name.endswith("_file") else str(field.type)}
        if field.default is dataclasses.MISSING:
            option["required"] = True
        elif field.default != "":
            option["default"] = field.default
        if field.name in CHOICES:
            option["choices"] = CHOICES[field.name]
        if field.name.endswith("_key"):
            option["no_log"] = field.name == "secret_key"
        if field.name == "key_file":
            option["no_log"] = False
    return done


SPEC: dict[str, dict[str, Any]] = {"store": {"type": "dict", "required": True, "options": store_options()}}
HOST: dict[str, dict[str, Any]] = {"host": {"type": "str"}}


def store_settings(module: AnsibleModule) -> StoreSettings:
    """@raises SettingsError: if something is missing without which the store cannot be reached"""
    settings = from_dict(StoreSettings, module.params["store"], "store")
    check_store(settings)
    return settings


def agent_of(module: AnsibleModule, **values: Any) -> Agent:
    """The library's agent for the parameters of a module.

    @param values: further settings, as plain data
    """
    state = STATE_DIR if os.geteuid() == 0 else os.path.expanduser("~/.local/state/bulwark-backup")
    plain = {
        "host": module.params.get("host") or os.uname().nodename,
        "store": module.params["store"],
        "state_dir": state,
        "scratch_dir": f"{state}/scratch",
        **values,
    }
    settings = from_dict(Settings, plain, "backup")
    store = open_store(store_settings(module))
    return Agent(settings, store, lambda: datetime.now(timezone.utc), module.log, Progress())


@contextlib.contextmanager
def failures(module: AnsibleModule) -> Iterator[None]:
    """Whatever the library raises becomes the module's message."""
    try:
        yield
    except BackupError as error:
        module.fail_json(msg=str(error))
