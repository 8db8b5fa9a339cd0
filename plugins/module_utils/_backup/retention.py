# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which backups are kept: the newest of each of the last N hours, days, weeks, months and years. Pure.

The rule, in full:

1. A tier counts the periods that have a backup, not those of the calendar: only newer backups push out older ones. A
   job that paused for a month loses nothing, and a host whose clock runs years ahead loses nothing either.
2. Periods are those of the host's time zone. Weeks begin on Monday; the hour that autumn repeats is two hours.
3. A backup from the future was made by a clock that was wrong, or is judged by one. It is kept and does not count,
   so it pushes out nothing, until its time has come.
4. The newest backup is kept, whatever the numbers say, and so is the newest that passed a drill.

What is dropped once would be dropped at any later time too, and pruning daily keeps what pruning once would keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from .settings import Keep

# Tier -> what two moments of one period have in common. The shortest comes first and names what several keep.
PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda moment: (*moment.timetuple()[:4], moment.fold),
    "daily": lambda moment: moment.timetuple()[:3],
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: moment.timetuple()[:2],
    "yearly": lambda moment: moment.timetuple()[:1],
}


def tiers(
    taken: Mapping[str, datetime], keep: Keep, now: datetime, zone: tzinfo, proved: Collection[str] = ()
) -> dict[str, str]:
    """Why each backup that is kept is kept: a tier, C(newest), C(proved) or C(future); what is not in here may go.

    @param taken: when each backup was begun, with a time zone; only complete ones, or a broken one counts as the newest
    @param proved: those that passed a drill
    """
    newest_first = sorted(taken, key=lambda name: (taken[name], name), reverse=True)
    past = [name for name in newest_first if taken[name] <= now]
    local = {name: taken[name].astimezone(zone) for name in past}
    kept = {name: "future" for name in newest_first if taken[name] > now}
    for tier, period in PERIODS.items():
        seen: set[tuple[int, ...]] = set()
        for name in past:
            if len(seen) >= getattr(keep, tier):
                break
            if period(local[name]) not in seen:
                seen.add(period(local[name]))
                kept.setdefault(name, tier)
    for name in past[:1]:
        kept.setdefault(name, "newest")
    for name in [name for name in past if name in proved][:1]:
        kept.setdefault(name, "proved")
    return kept


def dropped(
    taken: Mapping[str, datetime], keep: Keep, now: datetime, zone: tzinfo, proved: Collection[str] = ()
) -> set[str]:
    """The backups that are not needed any more; parameters as for C(tiers)."""
    return set(taken) - set(tiers(taken, keep, now, zone, proved))


def local_zone(localtime: Path = Path("/etc/localtime")) -> tzinfo:
    """The time zone of this host with its rules for summer; C(astimezone) without one knows today's offset only."""
    try:
        with localtime.open("rb") as handle:
            return ZoneInfo.from_file(handle)
    except (OSError, ValueError):
        return timezone.utc
