# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The exporter of the host's metrics from data, see https://prometheus.io/docs/guides/node-exporter/."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

DIRECTORY = "/etc/node_exporter"
WEB_CONFIG = f"{DIRECTORY}/web.yml"
TEXTFILES = "/var/lib/prometheus/node-exporter"
PRODUCER = "/usr/local/lib/bulwark/node-exporter-textfile"
PRODUCER_CONFIG = f"{DIRECTORY}/textfile.json"
# The name of the distributions' own unit, which ours stands before: one name for both sources, and a package upgrade
# restarts it.
UNIT = "prometheus-node-exporter.service"
ACCOUNT = "prometheus"
# Copies of the certificate and its key, which the account could not read where they are.
TLS = {"tls_certificate": "/run/node_exporter/tls.crt", "tls_key": "/run/node_exporter/tls.key"}


def ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether strangers may reach an address; all addresses at once count as public."""
    parsed = ip(address)
    return bool(parsed and (parsed.is_unspecified or parsed.is_global))


def all_loopback(addresses: list[str]) -> bool:
    return all(parsed is not None and parsed.is_loopback for parsed in map(ip, addresses))


def at_least(version: str, wanted: tuple[int, int]) -> bool:
    return tuple(int(part) for part in version.split(".")[:2]) >= wanted


def node_exporter_problems(options: dict[str, Any]) -> list[str]:
    """One sentence for everything that would not start or would show the host to strangers."""
    problems = []
    addresses, users = options["addresses"], options["users"]
    if not addresses:
        problems.append("node_exporter_addresses: give at least one address; 127.0.0.1 is the closed one.")
    problems += [f"node_exporter_addresses: '{one}' is not an IP address." for one in addresses if ip(one) is None]
    if len(addresses) > 1 and not at_least(options["version"], (1, 5)):
        problems.append(
            f"node_exporter_addresses: version {options['version']} of this system listens on one address only; "
            "give one, or set node_exporter_source: upstream."
        )
    for user in users:
        if not re.fullmatch(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", user.get("password_hash") or ""):
            problems.append(
                f"node_exporter_users: '{user['name']}' needs a bcrypt hash as password_hash "
                f"(htpasswd -nBC 10 {user['name']} prints one after the colon)."
            )
    names = [user["name"] for user in users]
    problems += [f"node_exporter_users: '{one}' is there twice." for one in sorted(set(names)) if names.count(one) > 1]
    tls = options["tls_certificate"], options["tls_key"]
    if bool(tls[0]) is not bool(tls[1]):
        problems.append("node_exporter_tls_certificate and node_exporter_tls_key belong together; give both or none.")
    public = [one for one in addresses if is_public(one)]
    if public and not (users and all(tls)):
        problems.append(
            f"node_exporter_addresses: {', '.join(public)} can be reached from outside, and metrics tell a stranger "
            "what runs here; give node_exporter_users, node_exporter_tls_certificate and node_exporter_tls_key, or "
            "listen on a private address."
        )
    problems += [
        f"node_exporter_certificate_paths: '{one}' is not an absolute path."
        for one in options["certificate_paths"]
        if not one.startswith("/")
    ]
    problems += [
        f"node_exporter_{name}: '{options[name]}' is not an absolute path without spaces."
        for name in TLS
        if options[name] and not re.fullmatch(r"/[^\s%]+", options[name])
    ]
    return problems


def node_exporter_firewall_rules(port: int, addresses: list[str], allow_from: list[str]) -> list[dict[str, Any]]:
    return [{"port": int(port), "from": [] if all_loopback(addresses) else allow_from, "name": "node exporter"}]


def web_config(options: dict[str, Any]) -> str:
    """See https://github.com/prometheus/exporter-toolkit; JSON is YAML. Empty when there is nothing to protect with."""
    config: dict[str, Any] = {}
    if options["tls_certificate"]:
        config["tls_server_config"] = {
            "cert_file": TLS["tls_certificate"],
            "key_file": TLS["tls_key"],
            "min_version": "TLS12",
        }
    if options["users"]:
        config["basic_auth_users"] = {user["name"]: user["password_hash"] for user in options["users"]}
    return json.dumps(config, indent=2, sort_keys=True) + "\n" if config else ""


def node_exporter_files(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the module C(files)."""
    web = web_config(options)
    protect = {"content": web, "secret": True, "group": ACCOUNT, "mode": "0640"} if web else {"state": "absent"}
    producer = {"certificate_paths": ["/etc/letsencrypt/live/*/cert.pem", *options["certificate_paths"]]}
    return [
        {"path": DIRECTORY, "state": "directory"},
        {"path": WEB_CONFIG, **protect},
        {"path": TEXTFILES, "state": "directory"},
        {"path": "/usr/local/lib/bulwark", "state": "directory"},
        {"path": PRODUCER, "src": "node-exporter-textfile"},
        {"path": PRODUCER_CONFIG, "content": json.dumps(producer, indent=2, sort_keys=True) + "\n"},
    ]


def exporter_command(options: dict[str, Any]) -> str:
    words = [options["binary"], f"--collector.textfile.directory={TEXTFILES}"]
    for address in options["addresses"]:
        host = f"[{address}]" if ":" in address else address
        words.append(f"--web.listen-address={host}:{options['port']}")
    if web_config(options):
        flag = "--web.config.file" if at_least(options["version"], (1, 5)) else "--web.config"
        words.append(f"{flag}={WEB_CONFIG}")
    return " ".join([*words, *options["flags"]])


def node_exporter_units(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit): the exporter, and the timer of our own metrics."""
    copied = {options[name]: copy for name, copy in TLS.items() if options[name]}
    exporter = {
        "ExecStart": exporter_command(options),
        "User": ACCOUNT,
        "Group": ACCOUNT,
        # With full privileges, into a directory that only the account can enter.
        "ExecStartPre": [f"+/usr/bin/install -m 0444 {path} {copy}" for path, copy in copied.items()],
        "RuntimeDirectory": "node_exporter",
        "RuntimeDirectoryMode": "0700",
        # It measures what the sandbox would hide: the processes, the mounts of the host, the clock, the network.
        "ProcSubset": None,
        "ProtectProc": None,
        "ProtectHome": "read-only",
        "ProtectClock": None,
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter": ["@system-service", "~@privileged @resources", "adjtimex clock_adjtime"],
        "SystemCallErrorNumber": "EPERM",
        "MemoryMax": "256M",
        "Restart": "on-failure",
        "RestartSec": 5,
    }
    producer = {
        "Type": "oneshot",
        "ExecStart": f"/usr/bin/python3 {PRODUCER} {PRODUCER_CONFIG} {TEXTFILES}/host.prom",
        "ReadWritePaths": TEXTFILES,
        # Certificates may belong to anybody.
        "CapabilityBoundingSet": "CAP_DAC_READ_SEARCH",
        "ProcSubset": None,
        "ProtectProc": None,
        "RestrictAddressFamilies": "AF_UNIX",
        "SystemCallErrorNumber": "EPERM",
        "UMask": "0022",
        "TimeoutStartSec": 120,
        "Nice": 10,
        "IOSchedulingClass": "idle",
    }
    return [
        {
            "name": UNIT,
            "sections": {
                "Unit": {
                    "Description": "Prometheus exporter of the host's metrics",
                    "After": "network-online.target",
                    "Wants": "network-online.target",
                },
                "Service": exporter,
                "Install": {"WantedBy": "multi-user.target"},
            },
            "enabled": True,
            "state": "started",
            "restart_on": [WEB_CONFIG, *copied],
        },
        {
            "name": "node-exporter-textfile.service",
            "sections": {
                "Unit": {"Description": "Write metrics that the exporter has no eyes for"},
                "Service": producer,
            },
        },
        {
            "name": "node-exporter-textfile.timer",
            "sections": {
                "Unit": {"Description": "Write the host's own metrics from time to time"},
                # Also right after it was started, so that the metrics are there when somebody asks.
                "Timer": {"OnActiveSec": "1s", "OnCalendar": options["textfile_oncalendar"], "AccuracySec": "1s"},
                "Install": {"WantedBy": "timers.target"},
            },
            "enabled": True,
            "state": "started",
            "restart_on": [PRODUCER, PRODUCER_CONFIG],
        },
    ]
