# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables, sizes and times for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def bytes_text(count: float) -> str:
    """C(102 MiB): three figures at most."""
    for unit in UNITS:
        if count < 999.5 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.1f} {unit}" if count < 9.95 and unit != "B" else f"{count:.0f} {unit}"


def seconds_text(seconds: float) -> str:
    """C(41 s), C(12 min), C(3 h), C(9 d): one number and its unit."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 1.95 else f"{seconds:.0f} s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> list[str]:
    """Lines with columns as wide as they must be, two spaces apart.

    @param right: the heads of columns that are aligned to the right
    """
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    return [
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width) for cell, width, name in zip(row, widths, head)
        ).rstrip()
        for row in [head, *rows]
    ]
