#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: celery_ping
short_description: Wait until Celery workers that were started answer
description:
  - Asks the workers by C(celery inspect ping) until all of them have answered.
  - A worker that still ends its tasks before it starts again is not waited for; it is named in the result.
  - Reads only. In check mode it does nothing, because nothing was started.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  workers:
    description: What has to run.
    type: list
    elements: dict
    required: true
    suboptions:
      unit:
        description: The systemd unit.
        type: str
        required: true
      node:
        description: The node name that has to answer. Without it the unit has to run and no more.
        type: str
  command:
    description: Celery with the options that name the application.
    type: list
    elements: str
    required: true
  user:
    description: The account to run it as.
    type: str
    required: true
  directory:
    description: The working directory.
    type: path
    required: true
  environment_file:
    description: As for C(EnvironmentFile) of systemd.
    type: path
    required: true
  timeout_seconds:
    description: How long to ask.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Wait for the worker
  bulwark.stack.celery_ping:
    workers: [{unit: celery-worker@processing.service, node: processing@host1}]
    command: [/srv/app/current/.venv/bin/celery, --app, app.tasks]
    user: app
    directory: /srv/app/current
    environment_file: /etc/app/environment
"""

RETURN = r"""
draining:
  description: Units that still end their tasks and start again by themselves after that.
  returned: always
  type: list
  elements: str
"""

import itertools
import json
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SPEC = {
    "workers": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"unit": {"type": "str", "required": True}, "node": {"type": "str"}},
    },
    "command": {"type": "list", "elements": "str", "required": True},
    "user": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "environment_file": {"type": "path", "required": True},
    "timeout_seconds": {"type": "int", "default": 60},
}
PROPERTIES = "Id,ActiveState,SubState,Job,NRestarts"
# An idle worker stops within a few seconds; one that takes longer has a task to end.
PATIENCE_SECONDS = 15
# How long one question waits: workers that start answer soon or to the next, those that are busy need longer.
PING_SECONDS = (0.5, 1, 2)
# click's exit status for a usage error, which is how Celery reports an application that it cannot load.
CANNOT_LOAD = 2
CRASHES = 2


def parse_show(text: str, names: list[str]) -> dict[str, dict[str, str]]:
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return dict(zip(names, blocks))


def pongs(text: str) -> set[str]:
    """The nodes in the output of C(inspect ping --json), in which the application may have printed lines of its own."""
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                return {node for node, answer in json.loads(line).items() if "ok" in answer}
            except (ValueError, TypeError, AttributeError):
                continue
    return set()


def ready(state: dict[str, str]) -> bool:
    """Runs, and no restart is queued, so an answer comes from the process that was started."""
    return state.get("ActiveState") == "active" and state.get("Job", "0") in ("", "0")


def missing_of(workers: list[dict[str, Any]], states: dict[str, dict[str, str]], answered: set[str]) -> list[str]:
    return [
        one["unit"]
        for one in workers
        if not ready(states.get(one["unit"], {})) or (one.get("node") and one["node"] not in answered)
    ]


def crashed(unit: str, states: dict[str, dict[str, str]], before: dict[str, dict[str, str]]) -> bool:
    state = states.get(unit, {})
    restarts = int(state.get("NRestarts") or 0) - int(before.get(unit, {}).get("NRestarts") or 0)
    return state.get("ActiveState") == "failed" or restarts >= CRASHES


class Gate:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.workers: list[dict[str, Any]] = module.params["workers"]
        self.units = [one["unit"] for one in self.workers]
        self.patience = itertools.chain(PING_SECONDS, itertools.repeat(PING_SECONDS[-1]))

    def states(self) -> dict[str, dict[str, str]]:
        out = self.module.run_command(["systemctl", "show", "-p", PROPERTIES, *self.units])[1]
        return parse_show(out, self.units)

    def ping(self) -> tuple[int, str, str]:
        nodes = ",".join(one["node"] for one in self.workers if one.get("node"))
        params = self.params
        command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "-p", f"User={params['user']}"]
        command += ["-p", f"Group={params['user']}", "-p", f"WorkingDirectory={params['directory']}"]
        command += ["-p", f"EnvironmentFile={params['environment_file']}", "-p", "RuntimeMaxSec=30"]
        command += [*params["command"], "inspect", "ping", "--json"]
        command += ["--timeout", str(next(self.patience))]
        rc, out, err = self.module.run_command([*command, "--destination", nodes])
        return rc, out, err

    def fail(self, sentence: str, units: list[str]) -> None:
        words = [word for unit in units for word in ("-u", unit)]
        out = self.module.run_command(["journalctl", "--no-pager", "-n", "25", "-o", "cat", *words])[1] if units else ""
        journal = "\nThe last lines of the journal:\n" + out.strip() if out.strip() else ""
        self.module.fail_json(msg=sentence + journal)

    def refuse_missing_release(self) -> None:
        celery = self.params["command"][0]
        if not os.path.exists(celery):
            self.fail(
                f"{celery} does not exist, so no worker can start; deploy a release with Celery in its .venv first.", []
            )

    def wait(self) -> list[str]:
        """Returns the units that still drain once all others have answered."""
        self.refuse_missing_release()
        start, before = time.monotonic(), self.states()
        while True:
            rc, out, err = self.ping() if any(one.get("node") for one in self.workers) else (0, "", "")
            if rc == CANNOT_LOAD:
                reason = " ".join(err.split("Error:")[-1].split())
                self.fail(f"Celery cannot load the application: {reason}", self.units)
            states = self.states()
            missing = missing_of(self.workers, states, pongs(out))
            draining = [unit for unit in missing if states[unit].get("ActiveState") == "deactivating"]
            waited, limit = time.monotonic() - start, self.params["timeout_seconds"]
            if not missing or (draining == missing and waited > PATIENCE_SECONDS):
                return draining
            silent = [unit for unit in missing if unit not in draining]
            dead = [unit for unit in silent if crashed(unit, states, before)]
            if dead:
                self.fail(f"{', '.join(dead)} ends as soon as it has started.", dead)
            if silent and waited > limit:
                self.fail(f"{', '.join(silent)} did not answer within {limit} seconds.", silent)
            time.sleep(0.2)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    draining = [] if module.check_mode else Gate(module).wait()
    module.exit_json(changed=False, draining=draining)


if __name__ == "__main__":
    main()
