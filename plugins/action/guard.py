# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Confirms a change over a connection of its own; one that cannot come in sees to it that the host goes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

MODULE = "bulwark.stack.guard"
# A reload of sshd or of the firewall may still be under way.
ATTEMPTS = 3
PAUSE_SECONDS = 1
CONNECT_SECONDS = 5
# How much longer than its own time a host may take until it is back.
PATIENCE_SECONDS = 30
OWN = "-o ControlMaster=no -o ControlPath=none -o ControlPersist=no"


def last_words(text: str) -> str:
    """What ssh or sudo said at the end, without the notices before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Warning: Permanently")]
    return lines[-1].rstrip(".") if lines else "no answer"


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("state", "seconds", "port", "reason", "users", "paths", "units", "packages"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.vars = task_vars or {}
        args = dict(self._task.args)
        port = int(args.pop("port", None) or 0)
        work = {"confirmed": self.confirm, "restored": self.restore}.get(args["state"])
        if work is None or self._task.check_mode:
            return {**result, **self.call(**args)}
        done = work(port, **args)
        if done.get("failed"):
            done["msg"] = f"{self.vars.get('inventory_hostname', 'the host')}: {done['msg']}"
        return {**result, **done}

    def confirm(self, port: int, /, **args: Any) -> dict[str, Any]:
        said = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_SECONDS)
            done, said = self.come_in(port, **args)
            if done.get("confirmed"):
                return done
            if done:
                # It is fast, or the proof was slow: the host has gone back already.
                return {**done, "failed": True, "msg": f"the change came to nothing. {done['put_back']}".strip()}
        where = f" over port {port}" if port else ""
        return {"failed": True, "msg": f"after the change no new connection came in{where}: {said}."}

    def restore(self, _port: int, /, **args: Any) -> dict[str, Any]:
        """Has the host put everything back, or waits until it has done so by itself."""
        seconds = int(args.get("seconds", 120))
        with contextlib.suppress(AnsibleError):
            # The connection of this run may still be good. If not, the host needs no one.
            done = self.call(**args)
            if not done.get("failed"):
                return done
        deadline, said = time.monotonic() + seconds + PATIENCE_SECONDS, ""
        while time.monotonic() < deadline:
            done, said = self.come_in(0, state="read")
            if done and not done["armed"]:
                return {**done, "changed": True}
            time.sleep(PAUSE_SECONDS)
        return {
            "failed": True,
            "msg": f"the host puts everything back by itself {seconds} s after the change, and has not let this run in "
            f"since ({said}). Look at it through the console of its provider: journalctl -u bulwark-guard.",
        }

    def call(self, **args: Any) -> dict[str, Any]:
        done = self._execute_module(MODULE, module_args=args, task_vars=self.vars)
        done.pop("invocation", None)
        return done

    def come_in(self, port: int, **args: Any) -> tuple[dict[str, Any], str]:
        """What the module said over a new connection, or nothing and what was in the way."""
        try:
            with self.own_connection(port):
                done = self.call(**args)
        except AnsibleError as exc:
            return {}, last_words(str(exc))
        if done.get("failed") or done.get("unreachable"):
            said = [str(done[key]) for key in ("module_stderr", "module_stdout", "msg") if done.get(key)]
            return {}, last_words(said[0] if said else "")
        return done, ""

    @contextlib.contextmanager
    def own_connection(self, port: int) -> Iterator[None]:
        """For as long as this lasts, each call opens a connection that no other task has used."""
        connection = self._connection
        if connection.transport != "ssh":
            yield
            return
        before = {name: connection.get_option(name) for name in ("ssh_args", "port", "timeout", "reconnection_retries")}
        # The first of equal options counts. A question would be asked at the terminal of whoever runs this.
        quiet = "" if connection.get_option("password") else " -o BatchMode=yes"
        own = {"ssh_args": f"{OWN}{quiet} {before['ssh_args'] or ''}", "timeout": CONNECT_SECONDS}
        own["reconnection_retries"] = 0
        if port:
            own["port"] = port
        try:
            for name, value in own.items():
                connection.set_option(name, value)
            yield
        finally:
            for name, value in before.items():
                connection.set_option(name, value)
