# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What answers from outside, held against what was declared. Pure functions over what the module port_scan saw."""

from __future__ import annotations

import ipaddress
from typing import Any

COLUMNS = ("host", "from", "address", "port", "is", "should be", "why")


def exposure_targets(host: str, told: list[str], known: list[str], inside: bool) -> list[str]:
    """What to scan of a host: the address that the controller uses, and those that it is told or that the host has.

    Private addresses are scanned from another host only: at the controller they may be somebody else's.
    """
    found = [host, *(told or [one for one in known if ipaddress.ip_address(one).is_global])]
    if inside:
        found += [one for one in known if not ipaddress.ip_address(one).is_global]
    return list(dict.fromkeys(found))


def exposure_udp_ports(ports: list[int], rules: list[dict[str, Any]]) -> list[int]:
    """The UDP ports to ask: the usual ones, and those of the rules."""
    declared = {int(rule["port"]) for rule in rules if rule.get("proto") == "udp" and ":" not in str(rule["port"])}
    return sorted({*map(int, ports), *declared})


def span(rule: dict[str, Any]) -> range:
    first, _sep, last = str(rule["port"]).partition(":")
    return range(int(first), int(last or first) + 1)


def lets_in(rule: dict[str, Any], source: str) -> bool:
    address = ipaddress.ip_address(source)
    networks = [ipaddress.ip_network(one, strict=False) for one in rule["from"] if one != "any"]
    return "any" in rule["from"] or any(address in one for one in networks)


def refused(scan: dict[str, Any], proto: str, port: int) -> bool:
    if proto == "udp":
        return port in scan["udp_refused"]
    return any(port in span({"port": one.replace("-", ":")}) for one in scan["tcp_refused"])


def seen_as(scan: dict[str, Any], client: str) -> str:
    """The address that the host sees: its own word for the controller counts, which may be behind a router."""
    same_family = client and (":" in client) == (":" in scan["source"])
    return client if same_family else str(scan["source"])


def exposure_compared(
    scans: list[dict[str, Any]], host: str, scanner: str, rules: list[dict[str, Any]], client: str = ""
) -> dict[str, Any]:
    """One row for each difference, and one sentence for each address that could not be scanned.

    A declared port counts as open when any address of the IP version answers: services listen where they are wanted.
    Silent UDP ports say nothing.
    """
    done = [scan for scan in scans if not scan["skipped"]]
    notes = [
        f"{host}: {scan['address']} was not scanned from {scanner}: {scan['skipped']}."
        for scan in scans
        if scan["skipped"]
    ]
    if done and not any(scan["tcp_open"] or scan["tcp_refused"] for scan in done):
        notes.append(f"{host}: nothing at all answered to {scanner}; is there a way, and may {scanner} connect out?")
    rows = []
    for scan in done:
        source = seen_as(scan, client)
        allowed = [rule for rule in rules if lets_in(rule, source)]
        version = ":" in scan["address"]
        row = {"host": host, "from": f"{scanner} {source}", "address": scan["address"]}
        for proto in ("tcp", "udp"):
            mine = [rule for rule in allowed if rule.get("proto", "tcp") == proto]
            for port in scan[f"{proto}_open"]:
                if not any(port in span(rule) for rule in mine):
                    closed = [
                        rule["name"] for rule in rules if rule.get("proto", "tcp") == proto and port in span(rule)
                    ]
                    why = f"the rule '{closed[0]}' lets others in" if closed else "no rule names it"
                    rows.append({**row, "port": f"{port}/{proto}", "is": "open", "should be": "closed", "why": why})
            for rule in mine:
                port = span(rule)[0]
                anywhere = [one for one in done if (":" in one["address"]) is version]
                if len(span(rule)) > 1 or any(port in one[f"{proto}_open"] for one in anywhere):
                    continue
                said_no = refused(scan, proto, port)
                if proto == "udp" and not said_no:
                    continue
                why = f"'{rule['name']}': " + ("nothing listens" if said_no else "no answer")
                rows.append({**row, "port": f"{port}/{proto}", "is": "closed", "should be": "open", "why": why})
    return {"rows": rows, "notes": notes, "scanned": [f"{scan['address']} from {scanner}" for scan in done]}


def exposure_report(results: list[dict[str, Any]], missing: list[str]) -> dict[str, Any]:
    """The results of all hosts as one: C(rows), C(notes), C(scanned), a C(table) for people and C(ok)."""
    rows = [row for result in results for row in result["rows"]]
    notes = [note for result in results for note in result["notes"]]
    notes += [f"{host}: it was not scanned, because there is no contact with it." for host in missing]
    scanned = [one for result in results for one in result["scanned"]]
    lines = [COLUMNS, *(tuple(str(row[key]) for key in COLUMNS) for row in rows)] if rows else []
    widths = [max(len(line[number]) for line in lines) for number in range(len(COLUMNS))] if lines else []
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return {
        "ok": not rows and not missing and bool(scanned),
        "table": [*table, *notes, f"{len(scanned)} scans, {len(rows)} differences."],
        "rows": rows,
        "notes": notes,
        "scanned": scanned,
    }
