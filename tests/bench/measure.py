"""Runs a shell command on the host that it is copied to: seconds, CPU with that of the PostgreSQL server, memory, disk.

    measure.py COMMAND      prints {"wall", "cpu", "rss_mib", "written_kib"}

Memory is the most that the command and all it started held at one time. Written is what they had the kernel write to a
disk; what the server writes is not in it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stat(pid: str | int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def server_cpu() -> float:
    """CPU seconds of the postmaster and of all backends that it has seen end."""
    try:
        pid = next(Path("/var/lib/postgresql").glob("*/main/postmaster.pid")).read_text().split()[0]
        return sum(int(ticks) for ticks in stat(pid)[11:15]) / TICK
    except (StopIteration, OSError):
        return 0


class Watch(threading.Thread):
    """Looks at the processes below this one, ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rss, self.written = 0, {}

    def run(self) -> None:
        while True:
            self.look()
            time.sleep(0.1)

    def look(self) -> None:
        parents, sizes = {}, {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                fields = stat(pid)
                parents[pid], sizes[pid] = fields[1], int(fields[21]) * PAGE
            except OSError:
                continue
        ours, more = {str(os.getpid())}, True
        while more:
            found = {pid for pid, parent in parents.items() if parent in ours} - ours
            ours, more = ours | found, bool(found)
        ours.discard(str(os.getpid()))
        self.rss = max(self.rss, sum(sizes[pid] for pid in ours))
        for pid in ours:
            try:
                lines = Path(f"/proc/{pid}/io").read_text().splitlines()
                self.written[pid] = int(dict(line.split(": ") for line in lines)["write_bytes"])
            except OSError:
                continue


def main() -> int:
    watch = Watch()
    watch.start()
    before, begun = server_cpu(), time.monotonic()
    status = subprocess.run(["bash", "-o", "pipefail", "-c", sys.argv[1]], stdout=subprocess.DEVNULL).returncode
    wall = time.monotonic() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A backend is counted once the postmaster has noticed its end.
    time.sleep(0.3)
    cpu = used.ru_utime + used.ru_stime + server_cpu() - before
    figures = {"wall": wall, "cpu": cpu, "rss_mib": watch.rss / 2**20, "written_kib": sum(watch.written.values()) >> 10}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))
    return status


if __name__ == "__main__":
    sys.exit(main())
