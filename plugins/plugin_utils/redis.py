# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Redis instances from data: profiles, shares of the memory, access rules. See redis.conf of Redis 7."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

# Takes snapshots as a replica does, and can do nothing else.
BACKUP_USER, BACKUP_RULES = "bulwark-backup", "resetkeys -@all +sync +psync +replconf +ping +info"
COMMON = {"tcp-backlog": 511, "timeout": 300, "tcp-keepalive": 60, "maxmemory-samples": 5}
PROFILES: dict[str, dict[str, Any]] = {
    # A queue: what was accepted must not be thrown away and must survive a crash.
    "broker": {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "900 1 300 10 60 10000",
    },
    # A cache: old entries make room for new ones; a snapshot is enough to start warm.
    "cache": {"maxmemory-policy": "allkeys-lru", "appendonly": "no", "save": "900 1 300 10 60 10000"},
}


def redis_instances(instances: list[dict[str, Any]], memory_mb: int) -> list[dict[str, Any]]:
    """The instances with all their values; those without C(maxmemory_mb) share what is left of C(memory_mb)."""
    fixed = sum(int(one["maxmemory_mb"]) for one in instances if one.get("maxmemory_mb"))
    sharing = [one for one in instances if not one.get("maxmemory_mb")]
    share = max((int(memory_mb) - fixed) // len(sharing), 16) if sharing else 0
    done = []
    for one in instances:
        profile = one.get("profile", "broker")
        maxmemory = int(one.get("maxmemory_mb") or share)
        done.append(
            {
                "name": one["name"],
                "profile": profile,
                "port": int(one.get("port", 6379)),
                "addresses": one.get("addresses", ["127.0.0.1", "-::1"]),
                "allow_from": one.get("allow_from", []),
                "users": one.get("users", []),
                "maxmemory_mb": maxmemory,
                "settings": {
                    **COMMON,
                    **PROFILES.get(profile, {}),
                    "maxmemory": f"{maxmemory}mb",
                    **(one.get("settings") or {}),
                },
            }
        )
    return done


def redis_problems(instances: list[dict[str, Any]]) -> list[str]:
    """One sentence for everything about completed instances that would lose data or open a door."""
    problems = []
    for one in instances:
        name, policy = one["name"], one["settings"].get("maxmemory-policy")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            problems.append(f"redis_instances: '{name}' cannot be part of a unit name; use a-z, 0-9, _ and -.")
        if one["profile"] == "broker" and policy != "noeviction":
            problems.append(
                f"redis_instances: '{name}' is a broker with maxmemory-policy {policy}, which throws queued tasks "
                "away; use noeviction, or profile: cache."
            )
        if not one["users"]:
            problems.append(
                f"redis_instances: '{name}' has no users, so nobody could log in; give it users with a password each "
                "(openssl rand -hex 24 makes one)."
            )
        for user in one["users"]:
            # Both are words of the ACL file; a line break in them would be another user.
            if not re.fullmatch(r"[A-Za-z0-9_.@-]+", user["name"]) or "\n" in user.get("rules", ""):
                problems.append(
                    f"redis_instances: user {user['name']!r} of '{name}' has a name or rules that an ACL file cannot "
                    "hold; use letters, digits and _.@- for the name and one line for the rules."
                )
            if len(user.get("password") or "") < 16:
                problems.append(
                    f"redis_instances: user '{user['name']}' of '{name}' needs a password of 16 characters or more, "
                    "because Redis answers a million guesses a minute (openssl rand -hex 24 makes one)."
                )
    for index, one in enumerate(instances):
        for other in instances[:index]:
            if one["port"] == other["port"] and set(one["addresses"]) & set(other["addresses"]):
                problems.append(
                    f"redis_instances: '{other['name']}' and '{one['name']}' both want port {one['port']}; "
                    "give one of them another port."
                )
    names = [one["name"] for one in instances]
    problems += [
        f"redis_instances: the name '{name}' is there twice." for name in sorted(set(names)) if names.count(name) > 1
    ]
    return problems


def redis_firewall_rules(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"port": int(one.get("port", 6379)), "from": one.get("allow_from", []), "name": f"redis {one['name']}"}
        for one in instances
    ]


def backup_password(users: list[dict[str, Any]]) -> str:
    """The password of the user who may take snapshots: made of those of all users, so that it is no secret to keep."""
    secret = "\n".join(user["password"] for user in users)
    return hmac.new(secret.encode(), b"redis backup", hashlib.sha256).hexdigest()


def reachable(addresses: list[str]) -> str:
    """The address at which the host itself finds an instance."""
    named = [one for one in addresses if re.search("[1-9a-f]", one) and not one.startswith("-")]
    return (named or ["127.0.0.1"])[0]


def connection(one: dict[str, Any]) -> dict[str, Any]:
    """How the backup reaches an instance, whose own settings may have put a socket or TLS in the place of its port."""
    settings = {name: str(value) for name, value in (one.get("settings") or {}).items()}
    if "unixsocket" in settings:
        return {"socket": settings["unixsocket"]}
    place = {"address": reachable(one.get("addresses", [])), "port": int(one.get("port", 6379))}
    if settings.get("tls-port", "0") == "0":
        return place
    files = {"ca_file": "tls-ca-cert-file", "cert_file": "tls-cert-file", "key_file": "tls-key-file"}
    named = {option: settings[name] for option, name in files.items() if name in settings}
    return {**place, "port": int(settings["tls-port"]), "tls": True, **named}


def redis_backup_jobs(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A backup for each broker; a cache can be lost."""
    return [
        {
            "name": f"redis-{one['name']}",
            "kind": "redis",
            "user": BACKUP_USER,
            "password": backup_password(one["users"]),
            **connection(one),
            "unit": f"redis@{one['name']}.service",
            "config_file": f"/etc/redis/{one['name']}.conf",
        }
        for one in instances
        if one.get("profile", "broker") == "broker" and all(user.get("password") for user in one.get("users") or [{}])
    ]


def redis_acl(users: list[dict[str, Any]]) -> str:
    """An ACL file without the default user; passwords as SHA-256, see https://redis.io/docs/latest/commands/acl-setuser/."""
    lines = ["user default off resetpass -@all"]
    for user in [*users, {"name": BACKUP_USER, "password": backup_password(users), "rules": BACKUP_RULES}]:
        digest = hashlib.sha256(user["password"].encode()).hexdigest()
        lines.append(f"user {user['name']} on #{digest} {user.get('rules', '~* &* +@all -@dangerous +info +keys')}")
    return "\n".join(lines) + "\n"


def redis_files(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for the module C(files): the configuration, the users and the data directory of each instance."""
    files: list[dict[str, Any]] = []
    for one in instances:
        common = {"group": "redis", "mode": "0640"}
        files += [
            {
                "path": f"/var/lib/redis/{one['name']}",
                "state": "directory",
                "owner": "redis",
                "group": "redis",
                "mode": "0750",
            },
            {
                "path": f"/etc/redis/{one['name']}.conf",
                "template": "redis.conf.j2",
                "vars": {"instance": one},
                **common,
            },
            {"path": f"/etc/redis/{one['name']}.acl", "content": redis_acl(one["users"]), "secret": True, **common},
        ]
    return files


def redis_units(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit): the package's own service off, one service per instance on."""
    units: list[dict[str, Any]] = [{"name": "redis-server.service", "enabled": False, "state": "stopped"}]
    for one in instances:
        name = one["name"]
        service = {
            "Type": "notify",
            "ExecStart": f"/usr/bin/redis-server /etc/redis/{name}.conf",
            "User": "redis",
            "Group": "redis",
            "ReadWritePaths": f"/var/lib/redis/{name}",
            "LimitNOFILE": 65535,
            # A snapshot forks: pages that change meanwhile exist twice.
            "MemoryMax": f"{one['maxmemory_mb'] * 2 + 64}M",
            "OOMScoreAdjust": -500,
            # The last dump of a full instance takes minutes; killing it would lose it.
            "TimeoutStopSec": 300,
            "Restart": "on-failure",
            "RestartSec": 2,
        }
        units.append(
            {
                "name": f"redis@{name}.service",
                "sections": {
                    "Unit": {
                        "Description": f"Redis {name}",
                        "After": "network-online.target",
                        "Wants": "network-online.target",
                    },
                    "Service": service,
                    "Install": {"WantedBy": "multi-user.target"},
                },
                "enabled": True,
                "state": "started",
                "restart_on": [f"/etc/redis/{name}.conf", f"/etc/redis/{name}.acl"],
            }
        )
    return units
