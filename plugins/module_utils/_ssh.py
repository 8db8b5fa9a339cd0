# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a module was reached. Private to this collection."""

from __future__ import annotations

import os


def parse_connection(text: str) -> tuple[str, str] | None:
    """Client address and server port from the value of SSH_CONNECTION, see ssh(1)."""
    words = text.split()
    return (words[0].split("%")[0], words[3]) if len(words) == 4 else None


def connection() -> tuple[str, str] | None:
    """How this process was reached over SSH. sudo drops the variable, so its ancestors are asked."""
    if os.environ.get("SSH_CONNECTION"):
        return parse_connection(os.environ["SSH_CONNECTION"])
    pid = os.getppid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as handle:
                variables = handle.read().split(b"\0")
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as handle:
                parent = int(handle.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None
        for variable in variables:
            if variable.startswith(b"SSH_CONNECTION="):
                return parse_connection(variable[15:].decode(errors="replace"))
        pid = parent
    return None
