# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Installs what is missing with ansible.builtin.apt, and says in one sentence what stands in the way."""

from __future__ import annotations

import re
from typing import Any

from ansible.plugins.action import ActionBase

UNKNOWN = (
    r"No package matching|Unable to locate package|has no installation candidate|no available installation candidate"
    r"|Version .* not found"
)
# What apt prints → what a person does. The first that matches counts.
REASONS = (
    (
        r"[Cc]ould not get lock|Failed to lock|[Uu]nable to (acquire|lock)|is another process using it",
        "another program has held the package lock for {seconds} s; wait until it has ended "
        "(ps -ef | grep -E 'apt|dpkg' shows it), then run again",
    ),
    (
        r"No space left|enough free space",
        "the disk is full; free some space (apt-get clean, journalctl --vacuum-size=100M), then run again",
    ),
    (
        UNKNOWN,
        "the package sources do not offer {names}; look at the version or the source that you asked for",
    ),
    (
        r"Failed to fetch|Could not connect|Could not resolve|Temporary failure|update apt cache|Unable to fetch"
        r"|NO_PUBKEY|not signed",
        "a package source cannot be used; look at /etc/apt/sources.list.d, the network and the proxy, then run again",
    ),
)


def explain(message: str, names: list[str], seconds: int) -> str:
    """The sentence for an apt error, apt's own last words where no reason is known."""
    for pattern, sentence in REASONS:
        if re.search(pattern, message):
            return sentence.format(names=", ".join(names), seconds=seconds)
    return message.strip().splitlines()[-1] if message.strip() else "apt failed without a word"


def missing(names: list[str], known: dict[str, str]) -> list[str]:
    """The names that are not installed, or not in the version that C(name=version) asks for."""
    wanted = {name: name.split("=", 1) for name in names}
    return [
        name
        for name, (package, *version) in wanted.items()
        if package not in known or version not in ([], [known[package]])
    ]


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("names", "host", "lock_timeout_seconds"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        names = list(self._task.args["names"])
        host = self._task.args["host"]
        seconds = int(self._task.args.get("lock_timeout_seconds", 600))
        wanted = missing(names, host["packages"])
        if not wanted:
            return {**result, "changed": False, "skipped": True, "skip_reason": "All are installed."}
        if self._task.check_mode:
            # apt itself could not tell: on a new host its lists are not there yet, and check mode fetches none.
            return {**result, "changed": True, "diff": {"before": "", "after": "".join(f"{name}\n" for name in wanted)}}
        # An image may carry lists that are weeks old, whose packages are gone from the mirror.
        arguments = {
            "name": wanted,
            "install_recommends": False,
            "lock_timeout": seconds,
            "update_cache": True,
            "cache_valid_time": 3600,
        }
        if any("=" in name for name in wanted):
            # Who names a version means it, also for a package that is held at another one.
            arguments.update(allow_downgrade=True, allow_change_held_packages=True)
        done = self._execute_module("ansible.builtin.apt", module_args=arguments, task_vars=task_vars)
        if done.get("failed") and re.search(UNKNOWN, str(done.get("msg") or "")):
            # Lists that look fresh may be empty, as in a new image, or older than a source that was just added.
            arguments["cache_valid_time"] = 0
            done = self._execute_module("ansible.builtin.apt", module_args=arguments, task_vars=task_vars)
        if done.get("failed") and not done.get("unreachable"):
            said = " ".join(str(done.get(key) or "") for key in ("msg", "stderr", "stdout"))
            name = (task_vars or {}).get("inventory_hostname", "the host")
            return {
                **result,
                "failed": True,
                "changed": False,
                "msg": f"{name}: {explain(said, wanted, seconds)}.",
                "apt": said[-2000:],
            }
        done.pop("invocation", None)
        return {**result, **done}
