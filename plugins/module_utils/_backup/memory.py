# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much memory this process may still use: the host's, or less if its unit has a limit. See cgroups(7)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def free_memory(cgroups: Path = CGROUPS, proc: Path = PROC) -> int:
    """In bytes. What can be dropped from the page cache counts as free."""
    available = re.search(r"MemAvailable: *(\d+) kB", (proc / "meminfo").read_text(encoding="ascii"))
    free = [int(available[1]) * 1024] if available else []
    own = next((line for line in (proc / "self/cgroup").read_text().splitlines() if line.startswith("0::")), "0::/")
    folder = cgroups / own[4:]
    for group in (folder, *folder.parents):
        # No file: the root, no limit, or a kernel without it.
        with contextlib.suppress(OSError, ValueError):
            limit = int((group / "memory.max").read_text())
            used = int((group / "memory.current").read_text())
            cache = re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
            free.append(max(limit - used + int(cache[1] if cache else 0), 0))
    return min(free, default=0)
