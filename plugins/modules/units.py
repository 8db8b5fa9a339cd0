#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Install, enable, start and restart many systemd units in one round trip
description:
  - Writes unit files and drop-ins, reloads the manager when it must, enables and starts.
  - A restart or a reload is decided by state and not by notification. A unit that started before one of its
    files last changed is restarted, so a run that was killed half way is finished by the next one.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  units:
    description: The units, in the order in which they are started.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name, with its suffix.
        type: str
        required: true
      content:
        description: Text of the unit file in C(/etc/systemd/system).
        type: str
      drop_in:
        description: Name of the drop-in that O(units[].content) is for; the unit file itself is then not ours.
        type: str
      enabled:
        description: Whether it starts at boot. Left as it is when not given.
        type: bool
      state:
        description:
          - V(absent) stops and disables it and removes the unit file. Left as it is when not given.
          - With O(units[].drop_in), V(absent) removes the drop-in alone; the unit goes on, restarted if it runs.
        type: str
        choices: [started, stopped, absent]
      restart_on:
        description: Files, links and directories; a change after the start of the unit restarts it.
        type: list
        elements: path
        default: []
      reload_on:
        description: The same for a reload; a restart where a socket of O(units) accepts for the service.
        type: list
        elements: path
        default: []
      live:
        description: The text is only what a running unit takes over at once, such as limits; a change restarts nothing.
        type: bool
        default: false
      wait:
        description: Wait for start and stop jobs to end; V(false) for units that drain for hours.
        type: bool
        default: true
  purge:
    description:
      - Patterns such as C(redis@*.service). A unit file of this collection that matches one and is not in
        O(units) is removed as with V(absent), once its unit has stopped.
      - One that still drains keeps its file, because systemd would forget how long it may; a later run removes it.
    type: list
    elements: str
    default: []
  guard_seconds:
    description:
      - Keep how each unit was before its first change.
      - A change of SSH or the firewall is put back after so many seconds, unless M(bulwark.stack.guard)
        has confirmed it by then. V(0) keeps nothing.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Run Redis
  bulwark.stack.units:
    units:
      - name: redis@broker.service
        enabled: true
        state: started
        restart_on: [/etc/redis/broker.conf]
    purge: ["redis@*.service"]
"""

RETURN = r"""
started: {description: Units that were started., returned: always, type: list, elements: str}
stopped: {description: Units that were stopped., returned: always, type: list, elements: str}
restarted: {description: Units that were restarted., returned: always, type: list, elements: str}
reloaded: {description: Units that were reloaded., returned: always, type: list, elements: str}
draining: {description: Units that are to go and still end their work., returned: always, type: list, elements: str}
armed: {description: Whether the change waits for its confirmation., returned: always, type: bool}
"""

import glob
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._guard import Guard

SPEC = {
    "units": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "content": {"type": "str"},
            "drop_in": {"type": "str"},
            "enabled": {"type": "bool"},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"]},
            "restart_on": {"type": "list", "elements": "path", "default": []},
            "reload_on": {"type": "list", "elements": "path", "default": []},
            "live": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
        },
    },
    "purge": {"type": "list", "elements": "str", "default": []},
    "guard_seconds": {"type": "int", "default": 0},
}
# The first words of every unit file that the role systemd_unit writes.
MARK = "# Managed by Ansible (bulwark.stack)"
# What stops in this time is removed by the same run.
DRAIN_SECONDS = 20
SETTLE_SECONDS = 0.3
ETC = "/etc/systemd/system"
# Reloads leave no trace in systemd; this directory is empty after a boot, when every unit is newer than its files.
STAMPS = "/run/bulwark-units"
PROPERTIES = (
    "LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,InactiveExitTimestampMonotonic,Job,TriggeredBy"
)
RUNNING = {"active", "activating", "reloading"}


def unit_path(unit: dict[str, Any]) -> str:
    if unit["drop_in"]:
        return f"{ETC}/{unit['name']}.d/{unit['drop_in']}.conf"
    return f"{ETC}/{unit['name']}"


def is_template(name: str) -> bool:
    """Whether a name stands for instances to come: systemd knows no state of such a unit."""
    return "@." in name


def gone(unit: dict[str, Any]) -> bool:
    """Whether the unit itself is to go, and not just a drop-in of it."""
    return unit["state"] == "absent" and not unit["drop_in"]


def undeclared(patterns: list[str], names: set[str]) -> list[str]:
    """Units of ours in C(/etc/systemd/system) that match a pattern and that nobody asks for any more."""
    paths = sorted({path for pattern in patterns for path in glob.glob(f"{ETC}/{pattern}")})
    ours = [path for path in paths if os.path.isfile(path) and (read(path) or "").startswith(MARK)]
    return [os.path.basename(path) for path in ours if os.path.basename(path) not in names]


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def changed_at(paths: list[str]) -> float:
    """The newest modification time of the paths, 0.0 when none of them exists."""
    return max((os.lstat(path).st_mtime for path in paths if os.path.lexists(path)), default=0.0)


def parse_show(text: str, names: list[str]) -> dict[str, dict[str, str]]:
    """The blocks of C(systemctl show), in the order in which the names were asked for."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return dict(zip(names, blocks))


class Manager:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.guard = Guard(module, module.params["guard_seconds"])
        self.units: list[dict[str, Any]] = module.params["units"]
        nothing: dict[str, Any] = {"content": None, "drop_in": None, "enabled": None, "restart_on": [], "reload_on": []}
        for name in undeclared(module.params["purge"], {unit["name"] for unit in self.units}):
            self.units.append({"name": name, "state": "absent", "wait": False, **nothing})
        kinds = ("started", "stopped", "restarted", "reloaded", "draining")
        self.done: dict[str, list[str]] = {kind: [] for kind in kinds}
        self.diffs: list[dict[str, str]] = []
        self.state: dict[str, dict[str, str]] = {}
        self.rewritten: set[str] = set()

    def refuse_nonsense(self) -> None:
        for unit in self.units:
            name = unit["name"]
            if "." not in name or "/" in name:
                self.module.fail_json(msg=f"units: '{name}' is not a unit's full name; write it like {name}.service.")
            if unit["drop_in"] and unit["content"] is None and unit["state"] != "absent":
                self.module.fail_json(msg=f"units: the drop-in {unit['drop_in']} of {name} has no content.")
            if is_template(name) and (unit["enabled"] is not None or unit["state"] in ("started", "stopped")):
                self.module.fail_json(msg=f"units: {name} is a template; enable and start its instances instead.")

    def systemctl(self, *words: str, wait: bool = True) -> str:
        command = ["systemctl", *([] if wait else ["--no-block"]), *words]
        rc, out, err = self.module.run_command(command, environ_update={"LC_ALL": "C"})
        if rc:
            names = list(words[1:]) if words[0] in ("start", "stop", "restart", "reload") else []
            self.module.fail_json(msg=f"{' '.join(command)} failed: {(err or out).strip()}{self.journal(names)}")
        return out

    def journal(self, names: list[str]) -> str:
        if not names:
            return ""
        words = [word for name in names for word in ("-u", name)]
        out = self.module.run_command(["journalctl", "--no-pager", "-n", "20", "-o", "cat", *words])[1]
        return "\nThe last lines of its journal:\n" + out.strip() if out.strip() else ""

    def show(self) -> None:
        names = [unit["name"] for unit in self.units if not is_template(unit["name"])]
        out = self.systemctl("show", "-p", PROPERTIES, *names) if names else ""
        self.state = parse_show(out, names)

    def note(self, title: str, before: str, after: str) -> None:
        self.diffs.append({"before_header": title, "after_header": title, "before": before, "after": after})

    def write_files(self) -> bool:
        """Writes and removes unit files; tells whether the manager has to read them again."""
        wrote = False
        for unit in self.units:
            path = unit_path(unit)
            before = read(path)
            after = None if unit["state"] == "absent" else unit["content"]
            if before == after or (after is None and unit["state"] != "absent"):
                continue
            if gone(unit) and not is_template(unit["name"]) and not self.let_go(unit):
                continue
            self.note(path, before or "", after or "")
            wrote = True
            if not unit.get("live"):
                self.rewritten.add(unit["name"])
            if self.module.check_mode:
                continue
            self.guard.before_unit(unit["name"], path)
            if after is None:
                os.unlink(path)
                continue
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path + ".new", "w", encoding="utf-8") as handle:
                handle.write(after)
            os.chmod(path + ".new", 0o644)
            os.replace(path + ".new", path)
        return wrote

    def stop(self, unit: dict[str, Any]) -> None:
        name = unit["name"]
        if self.state.get(name, {}).get("ActiveState") in RUNNING:
            self.done["stopped"].append(name)
            self.note(name, "running\n", "stopped\n")
            if not self.module.check_mode:
                self.guard.before_unit(name)
                self.systemctl("stop", name, wait=unit["wait"])
        if gone(unit) and self.state.get(name, {}).get("UnitFileState") == "enabled":
            self.enable([name], False)

    def let_go(self, unit: dict[str, Any]) -> bool:
        """Stops a unit that is to go; tells whether it has ended, so that its file may go too."""
        name = unit["name"]
        draining = not unit["wait"] and self.state.get(name, {}).get("ActiveState") == "deactivating"
        if not draining:
            self.stop(unit)
        if unit["wait"] or self.module.check_mode:
            return True
        deadline = time.monotonic() + (0 if draining else DRAIN_SECONDS)
        while self.active_state(name) not in ("inactive", "failed"):
            if time.monotonic() >= deadline:
                self.done["draining"].append(name)
                return False
            time.sleep(0.25)
        return True

    def active_state(self, name: str) -> str:
        return parse_show(self.systemctl("show", "-p", "ActiveState", name), [name])[name]["ActiveState"]

    def enable(self, names: list[str], wanted: bool) -> None:
        for name in names:
            self.note(name, f"{'disabled' if wanted else 'enabled'}\n", f"{'enabled' if wanted else 'disabled'}\n")
            self.guard.before_unit(name)
        if names and not self.module.check_mode:
            self.systemctl("enable" if wanted else "disable", *names)

    def missing(self, name: str) -> bool:
        return self.state[name].get("LoadState") in ("not-found", None)

    def run(self) -> None:
        self.refuse_nonsense()
        self.show()
        wrote = self.write_files()
        stale = any(block.get("NeedDaemonReload") == "yes" for block in self.state.values())
        if (wrote or stale) and not self.module.check_mode:
            self.systemctl("daemon-reload")
            self.show()
        self.forget_failures()
        present = [unit for unit in self.units if not gone(unit) and not is_template(unit["name"])]
        for unit in present:
            wanted = unit["state"] == "started" or unit["enabled"]
            if self.missing(unit["name"]) and wanted and not self.module.check_mode:
                self.module.fail_json(msg=f"{unit['name']} does not exist on this host.")
        for wanted in (True, False):
            differ = [u["name"] for u in present if u["enabled"] is wanted and self.enabled(u["name"]) is (not wanted)]
            self.enable(list(dict.fromkeys(differ)), wanted)
        for unit in present:
            self.converge(unit)
        if not self.module.check_mode:
            self.assert_healthy([u["name"] for u in present if u["state"] == "started" and u["wait"]])

    def forget_failures(self) -> None:
        """A removed unit that ended badly would stay in the list of failed units until the next boot."""
        names = [
            u["name"] for u in self.units if gone(u) and self.state.get(u["name"], {}).get("ActiveState") == "failed"
        ]
        if names and not self.module.check_mode:
            self.systemctl("reset-failed", *names)

    def enabled(self, name: str) -> bool | None:
        """Whether it starts at boot; None for units that cannot be enabled, which is then left alone."""
        state = self.state[name].get("UnitFileState", "")
        if state in ("enabled", "enabled-runtime", "alias"):
            return True
        return False if state in ("disabled", "") else None

    def converge(self, unit: dict[str, Any]) -> None:
        name = unit["name"]
        accepting = self.accepting(name)
        if set(accepting) & set(self.done["restarted"]):
            # It may have been restarted with its socket.
            self.state[name] = parse_show(self.systemctl("show", "-p", PROPERTIES, name), [name])[name]
        # One that crashed and waits for its next try does not run, however often it was started before.
        crashed = self.state[name].get("SubState") == "auto-restart"
        running = self.state[name].get("ActiveState") in RUNNING and not crashed
        if unit["state"] == "stopped":
            self.stop(unit)
        elif unit["state"] == "started" and not running:
            if not self.draining(name):
                self.act("started", "start", unit)
            elif not self.module.check_mode:
                self.systemctl("start", name, wait=unit["wait"])
        elif running:
            started = self.started_at(name)
            if changed_at(unit["restart_on"] + self.own_files(unit)) > started or self.would_restart(name):
                self.act("restarted", "restart", unit)
            elif changed_at(unit["reload_on"]) > max(started, changed_at([f"{STAMPS}/{name}"])):
                # A server that is to accept again by itself finds its address taken by the socket.
                self.act(*(("restarted", "restart") if accepting else ("reloaded", "reload")), unit)

    def accepting(self, name: str) -> list[str]:
        """The sockets of the service among these units that accept for it."""
        sockets = self.state[name].get("TriggeredBy", "").split()
        return [one for one in sockets if self.state.get(one, {}).get("ActiveState") in RUNNING]

    def draining(self, name: str) -> bool:
        """Whether it is on its way down with a job queued: a restart that an earlier call did not wait for."""
        state = self.state[name]
        return state.get("ActiveState") == "deactivating" and state.get("Job", "") not in ("", "0")

    def own_files(self, unit: dict[str, Any]) -> list[str]:
        """What this call wrote for the unit; a drop-in that went left its mark on the directory it was in."""
        if unit["state"] == "absent":
            return [os.path.dirname(unit_path(unit))]
        return [unit_path(unit)] if unit["content"] is not None and not unit["live"] else []

    def would_restart(self, name: str) -> bool:
        """In check mode the file that decides has not been written."""
        return self.module.check_mode and name in self.rewritten

    def started_at(self, name: str) -> float:
        """Wall-clock time at which the unit began to start, by today's clock."""
        microseconds = int(self.state[name].get("InactiveExitTimestampMonotonic") or 0)
        return time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - microseconds / 1e6)

    def act(self, kind: str, verb: str, unit: dict[str, Any]) -> None:
        name = unit["name"]
        self.done[kind].append(name)
        self.note(name, "stopped\n" if kind == "started" else "running\n", kind + "\n")
        failed = self.state[name].get("ActiveState") == "failed"
        if kind != "reloaded":
            # The list may name a unit twice, once for a drop-in and once for its state.
            now = str(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6))
            self.state[name].update(ActiveState="active", SubState="running", InactiveExitTimestampMonotonic=now)
            self.rewritten.discard(name)
        if self.module.check_mode:
            return
        self.guard.before_unit(name)
        stamp = time.time()
        if failed:
            self.systemctl("reset-failed", name)
        self.systemctl(verb, name, wait=unit["wait"])
        if kind == "reloaded":
            os.makedirs(STAMPS, mode=0o755, exist_ok=True)
            with open(f"{STAMPS}/{name}", "w", encoding="utf-8"):
                os.utime(f"{STAMPS}/{name}", (stamp, stamp))

    def assert_healthy(self, names: list[str]) -> None:
        acted = [*self.done["started"], *self.done["restarted"]]
        names = list(dict.fromkeys(name for name in names if name in acted))
        if not names:
            return
        # To systemd a simple service has started when its program was found; give it a moment to fall over.
        time.sleep(SETTLE_SECONDS)
        self.show()
        failed = [name for name in names if self.failed(name)]
        if failed:
            self.module.fail_json(msg=f"{', '.join(failed)} failed right after the start.{self.journal(failed)}")

    def failed(self, name: str) -> bool:
        """Whether it fell over; with C(Restart=) systemd calls that C(auto-restart) until it gives up."""
        return self.state[name].get("ActiveState") == "failed" or self.state[name].get("SubState") == "auto-restart"


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    manager = Manager(module)
    manager.run()
    module.exit_json(
        changed=bool(manager.diffs),
        diff=manager.diffs if module._diff else [],
        armed=manager.guard.armed,
        **manager.done,
    )


if __name__ == "__main__":
    main()
