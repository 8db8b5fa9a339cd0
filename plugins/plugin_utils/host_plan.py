# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host plan: how the services of one host share its memory and processors. Pure arithmetic."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from ansible.errors import AnsibleFilterError


class Share(NamedTuple):
    """What a service gets: per cent of the host, and the MiB between which that is kept."""

    memory_percent: float
    memory_floor_mb: int
    memory_cap_mb: int
    cpu_percent: float


NO_CAP = 1 << 40
# The percentages reproduce the reference deployment single_host on 16 GiB and 8 vCPU. The floors together
# fit into 448 MiB, what a 512 MiB server shows; Beat and Flower do not grow with the host.
SHARES: dict[str, Share] = {
    "postgres": Share(25, 80, NO_CAP, 12.5),
    "redis": Share(3.125, 24, NO_CAP, 6.25),
    "web_app": Share(6.25, 56, NO_CAP, 12.5),
    "celery_workers": Share(37.5, 80, NO_CAP, 50),
    "celery_beat": Share(1.5625, 28, 256, 6.25),
    "flower": Share(1.5625, 28, 256, 6.25),
}
SYSTEM = Share(12.5, 80, 8192, 6.25)
RESERVE = Share(12.5, 16, NO_CAP, 0)
# Which services an inventory group brings to its hosts.
GROUPS = {
    "postgres": ["postgres"],
    "redis": ["redis"],
    "web": ["web_app"],
    "workers": ["celery_workers", "celery_beat", "flower"],
}
MEMORY_AT_LEAST_MB = 448


def planned_services(group_names: list[str]) -> list[str]:
    """The services of a host in these groups; all of them where no group says anything, which is the safe plan."""
    found = [service for group, services in GROUPS.items() if group in group_names for service in services]
    return found or list(SHARES)


def fill(total: float, shares: dict[str, Share]) -> dict[str, int]:
    """Shares C(total) in proportion, within floors and caps; what a cap leaves goes to the others.

    With one level for all (allocation = percent times level, kept within floor and cap) every allocation grows
    with the total, so a larger host never gives a service less.
    """
    low, high = 0.0, float(NO_CAP)
    for _step in range(128):
        level = (low + high) / 2
        if sum(kept(share, level) for share in shares.values()) <= total:
            low = level
        else:
            high = level
    # The bisection ends a hair below the exact level; the nudge keeps 4096 from becoming 4095.
    return {name: int(kept(share, low) + 1e-6) for name, share in shares.items()}


def kept(share: Share, level: float) -> float:
    return min(max(share.memory_percent * level, share.memory_floor_mb), share.memory_cap_mb)


def checked(services: list[str], overrides: dict[str, Any]) -> dict[str, int]:
    """The overrides as whole MiB, once all names are known."""
    known = [*SHARES, "system", "reserve"]
    for name in [*services, *overrides]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise AnsibleFilterError(f"host_plan: there is no service '{name}'.{hint} Known are: {', '.join(known)}.")
    try:
        fixed = {name: int(value) for name, value in overrides.items()}
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"host_plan_memory_overrides_mb wants whole MiB for each service: {exc}.") from exc
    for name, megabytes in fixed.items():
        if megabytes < 0:
            raise AnsibleFilterError(f"host_plan_memory_overrides_mb: {name} cannot have {megabytes} MiB.")
    return fixed


def host_plan_memory(memory_mb: int, services: list[str], overrides: dict[str, Any] | None = None) -> dict[str, int]:
    """MiB for each service, C(system) and C(reserve).

    @param memory_mb: the host's memory in MiB
    @param services: names from SHARES
    @param overrides: MiB that the user fixed for some of them
    @raises AnsibleFilterError: the host is too small, or the overrides ask for more than it has
    """
    memory_mb = int(memory_mb)
    fixed = checked(services, overrides or {})
    if memory_mb < MEMORY_AT_LEAST_MB:
        raise AnsibleFilterError(
            f"host_plan: this host has {memory_mb} MiB; the plan needs {MEMORY_AT_LEAST_MB} MiB at least. "
            "Take a larger plan at the provider."
        )
    # Whole MiB only at the end: a larger host must never give a service less because something else was rounded up.
    exact: dict[str, float] = {
        name: fixed.get(name, kept(share, memory_mb / 100))
        for name, share in (("system", SYSTEM), ("reserve", RESERVE))
    }
    exact.update({name: fixed[name] for name in services if name in fixed})
    open_shares = {name: SHARES[name] for name in services if name not in fixed}
    left = memory_mb - sum(exact.values())
    floors = sum(share.memory_floor_mb for share in open_shares.values())
    plan = {name: int(value + 1e-6) for name, value in exact.items()}
    plan.update(fill(max(left, floors), open_shares) if open_shares else {})
    if sum(plan.values()) > memory_mb:
        raise AnsibleFilterError(
            f"host_plan: the services ask for {sum(plan.values())} MiB and the host has {memory_mb} MiB. "
            "Lower host_plan_memory_overrides_mb, move a service to another host, or take a larger plan.\n"
            + host_plan_table(plan, {})
        )
    return {name: plan[name] for name in [*services, "system", "reserve"]}


def host_plan_cpu(cpus: float, services: list[str]) -> dict[str, float]:
    """Processors for each service, to two decimals; the shares of absent services go to those present."""
    checked(services, {})
    total = sum(SHARES[name].cpu_percent for name in services) or 1
    usable = float(cpus) * (100 - SYSTEM.cpu_percent) / 100
    plan = {name: int(usable * SHARES[name].cpu_percent / total * 100 + 1e-6) / 100 for name in services}
    return {**plan, "system": int(float(cpus) * SYSTEM.cpu_percent + 1e-6) / 100, "reserve": 0.0}


def host_plan_table(memory: dict[str, int], cpu: dict[str, float]) -> str:
    """The plan as a table for people."""
    lines = [f"{'service':<16}{'RAM MiB':>9}{'CPU':>7}"]
    lines += [
        f"{name:<16}{megabytes:>9}{format(cpu.get(name, 0), '.2f') if cpu else '':>7}"
        for name, megabytes in memory.items()
    ]
    lines.append(f"{'sum':<16}{sum(memory.values()):>9}{format(sum(cpu.values()), '.2f') if cpu else '':>7}")
    return "\n".join(lines)
