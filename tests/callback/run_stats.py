"""Counts what a run did and how long it took, for the demo, the benchmarks and the tests.

Environment: RUN_STATS_FILE, where the figures go as JSON; RUN_STATS_PROGRESS=1, one line per task on a terminal;
RUN_STATS_KILL_AT, the number of the task at which the controller dies without a word.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: run_stats
type: aggregate
short_description: Counts what a run did
description: Counts what a run did and how long it took.
"""

# Actions that the controller does alone; all others cost a round trip.
ON_CONTROLLER = {
    "assert",
    "debug",
    "fail",
    "set_fact",
    "meta",
    "include_role",
    "include_tasks",
    "include_vars",
    "import_role",
    "import_tasks",
    "validate_argument_spec",
    "add_host",
    "group_by",
    "check_variables",
    "pause",
}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_stats"

    def __init__(self) -> None:
        super().__init__()
        self.started = time.monotonic()
        self.tasks = 0
        self.host_tasks = 0
        self.per_task: list[dict[str, Any]] = []
        self.kill_at = int(os.environ.get("RUN_STATS_KILL_AT") or 0)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.tasks += 1
        self.close_task()
        self.per_task.append({"name": task.get_name(), "action": task.action, "start": time.monotonic(), "reached": 0})
        if os.environ.get("RUN_STATS_PROGRESS") and sys.stderr.isatty():
            seconds = time.monotonic() - self.started
            sys.stderr.write(f"\r\033[K  {seconds:5.0f} s  {task.get_name()[:100]}")
            sys.stderr.flush()
        if self.tasks == self.kill_at:
            # Half a second on, so that the task is under way on the host.
            time.sleep(0.5)
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def close_task(self) -> None:
        if self.per_task and "seconds" not in self.per_task[-1]:
            self.per_task[-1]["seconds"] = round(time.monotonic() - self.per_task[-1].pop("start"), 3)

    def count(self, result: Any) -> None:
        action = result._task.action.rsplit(".", 1)[-1]
        if (
            action in ON_CONTROLLER
            or result._result.get("skipped")
            or result._task.delegate_to in ("localhost", "127.0.0.1")
        ):
            return
        items = result._result.get("results")
        reached = sum(1 for item in items if not item.get("skipped")) if result._task.loop and items else 1
        self.host_tasks += reached
        if self.per_task:
            self.per_task[-1]["reached"] += reached
            self.per_task[-1].setdefault("paths", []).extend(result._result.get("changed_paths") or [])

    def v2_runner_on_ok(self, result: Any) -> None:
        self.count(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.count(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self.close_task()
        if os.environ.get("RUN_STATS_PROGRESS") and sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        figures: dict[str, Any] = {"seconds": round(time.monotonic() - self.started, 1), "host_tasks": self.host_tasks}
        for key, source in (("ok", "ok"), ("changed", "changed"), ("skipped", "skipped")):
            figures[key] = sum(getattr(stats, source).values())
        figures["failed"] = sum(stats.failures.values()) + sum(stats.dark.values())
        figures["tasks"] = self.tasks
        if os.environ.get("RUN_STATS_FILE"):
            with open(os.environ["RUN_STATS_FILE"], "w", encoding="utf-8") as handle:
                json.dump({**figures, "custom": stats.custom, "per_task": self.per_task}, handle, indent=1)
