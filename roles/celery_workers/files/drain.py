# Managed by Ansible (bulwark.stack.celery_workers).
"""Ends the intake of a worker and waits until its tasks have ended: drain.py APP NODE, as ExecStop= of its unit.

Celery's own warm shutdown stops reading what its children answer. A child that has done its last task by then
(max-tasks-per-child) is not heard any more: the worker hangs, the task is not acknowledged and runs again.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

# A read of the queue that was under way ends within a second; two looks that far apart cannot both miss its task.
LOOKS, FIRST_PAUSE, LONGEST_PAUSE = 2, 1.1, 5.0
REPLY_SECONDS = 5
# A worker of the pool "solo" cannot answer while it works; SIGTERM lets it end its task.
SILENCES = 3


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def drain(app: Any, node: str, pid: int) -> None:
    control = app.control
    inspect = control.inspect([node], timeout=REPLY_SECONDS)
    idle = silent = 0
    pause = FIRST_PAUSE
    while idle < LOOKS and silent < SILENCES and alive(pid):
        # At every turn, because a worker that was just starting has not begun to read yet.
        queues = inspect.active_queues()
        for queue in (queues or {}).get(node, []):
            control.cancel_consumer(queue["name"], destination=[node], reply=True, timeout=REPLY_SECONDS)
        time.sleep(pause)
        active, reserved = inspect.active(), inspect.reserved()
        if queues is None or active is None or reserved is None:
            silent += 1
        elif active.get(node) or reserved.get(node):
            idle = silent = 0
            pause = min(pause * 1.2, LONGEST_PAUSE)
        else:
            silent, idle, pause = 0, idle + 1, FIRST_PAUSE


if __name__ == "__main__":
    main_pid = int(os.environ.get("MAINPID") or 0)
    # Without it the worker has ended by itself.
    if main_pid:
        from celery.app.utils import find_app

        sys.path.insert(0, os.getcwd())
        drain(find_app(sys.argv[1]), sys.argv[2], main_pid)
