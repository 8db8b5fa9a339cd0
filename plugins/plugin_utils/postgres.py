# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL from data: settings by size, who may log in, and what an existing server still lacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import math
import os
import re
import stringprep
import unicodedata
from typing import Any

CLUSTER = "main"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
HUGE_PAGES_FROM_MB = 8192
PASSWORD_LENGTH = 12
# pg_roles column of each flag. A role that does not name a flag gets what stands here.
FLAGS = {
    "LOGIN": ("rolcanlogin", True),
    "INHERIT": ("rolinherit", True),
    "SUPERUSER": ("rolsuper", False),
    "CREATEDB": ("rolcreatedb", False),
    "CREATEROLE": ("rolcreaterole", False),
    "REPLICATION": ("rolreplication", False),
    "BYPASSRLS": ("rolbypassrls", False),
}
PRIVILEGES = {
    "database": ["CREATE", "CONNECT", "TEMPORARY"],
    "schema": ["CREATE", "USAGE"],
    "table": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
    "sequence": ["USAGE", "SELECT", "UPDATE"],
}
RELATION_KINDS = {"table": "'r','v','m','p','f'", "sequence": "'S'"}
DEFAULT_KINDS = {"TABLES": ("r", "table"), "SEQUENCES": ("S", "sequence")}
# Settings that other variables decide or that the packaging depends on.
RESERVED = {
    "listen_addresses": "use postgres_tuned_listen_addresses",
    "max_connections": "use postgres_tuned_max_connections",
    "port": "PostgreSQL stays on 5432, where the packaged tools and the other roles look for it",
    "data_directory": "the packaged layout is /var/lib/postgresql/<version>/main",
    "hba_file": "use postgres_tuned_hba",
    "ident_file": "use postgres_tuned_hba",
    "config_file": "the packaged layout is /etc/postgresql/<version>/main",
    "unix_socket_directories": "the packaged tools look for the socket in /var/run/postgresql",
}
HBA_TYPES = ("local", "host", "hostssl", "hostnossl")
HBA_METHODS = ("scram-sha-256", "peer", "cert", "reject", "md5", "ldap", "pam", "radius", "gss")


# --- settings by size -------------------------------------------------------------------------------------------


def size(kilobytes: int) -> str:
    """A size in the largest unit that states it exactly, as SHOW prints it."""
    for factor, unit in ((1 << 20, "GB"), (1 << 10, "MB")):
        if kilobytes % factor == 0:
            return f"{kilobytes // factor}{unit}"
    return f"{kilobytes}kB"


def within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def postgres_connections(memory_mb: int) -> int:
    """How many connections a server of this size serves well: 100, fewer below 800 MiB."""
    return within(int(memory_mb) // 8, 20, 100)


def shared_buffers_mb(memory_mb: int) -> int:
    return int(memory_mb) // 4


def postgres_settings(memory_mb: int, cpus: float, connections: int) -> dict[str, Any]:
    """Settings for a server that may use C(memory_mb) MiB. See chapters 19.4 to 19.7 of the manual.

    A quarter is shared buffers; 40 % is what all connections together may sort in, one sort each.
    """
    mb, workers = int(memory_mb), max(1, math.ceil(float(cpus)))
    buffers = shared_buffers_mb(mb)
    work_kb = mb * 1024 * 2 // 5 // int(connections)
    # Whole MiB read better; below one MiB every kB counts.
    work_kb = work_kb // 1024 * 1024 if work_kb >= 1024 else max(work_kb, 64)
    return {
        "shared_buffers": size(buffers * 1024),
        "effective_cache_size": size(mb * 3 // 4 * 1024),
        "work_mem": size(min(work_kb, 1 << 20)),
        "maintenance_work_mem": size(within(mb // 16, 8, 2048) * 1024),
        "wal_buffers": size(within(buffers // 32, 1, 16) * 1024),
        "max_wal_size": size(within(mb // 2, 256, 16384) * 1024),
        "min_wal_size": size(within(mb // 4, 80, 4096) * 1024),
        "checkpoint_completion_target": 0.9,
        "random_page_cost": 1.1,
        "effective_io_concurrency": 200,
        "max_connections": int(connections),
        "max_worker_processes": max(8, 2 * workers),
        "max_parallel_workers": max(2, workers),
        "max_parallel_workers_per_gather": within(workers // 2, 1, 4),
        "max_parallel_maintenance_workers": within(workers // 2, 1, 4),
        # Without reserved pages there is nothing to try for.
        "huge_pages": "try" if buffers >= HUGE_PAGES_FROM_MB else "off",
        "log_min_duration_statement": 1000,
        "log_checkpoints": True,
        "log_lock_waits": True,
        "log_temp_files": "16MB",
        "password_encryption": "scram-sha-256",
        "shared_preload_libraries": "pg_stat_statements",
    }


def setting_mb(value: Any) -> int:
    """MiB of a memory setting as people write it; a bare number counts pages of 8 kB."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*(kB|MB|GB|TB)?\s*", str(value))
    if not found:
        return 0
    factor = {"kB": 1 / 1024, "MB": 1, "GB": 1024, "TB": 1 << 20, None: 8 / 1024}[found.group(2)]
    return int(float(found.group(1)) * factor)


def setting_text(value: Any) -> str:
    """A value as postgresql.conf wants it: quoted, quotes doubled."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "'" + str(value).replace("'", "''") + "'"


# --- passwords --------------------------------------------------------------------------------------------------


def saslprep(password: str) -> str:
    """RFC 4013 as PostgreSQL applies it: text that it forbids stays as it is."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    done = unicodedata.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    if not done or any(check(char) for char in done for check in forbidden):
        return password
    if any(map(stringprep.in_table_d1, done)) and (
        any(map(stringprep.in_table_d2, done))
        or not (stringprep.in_table_d1(done[0]) and stringprep.in_table_d1(done[-1]))
    ):
        return password
    return done


def scram_verifier(password: str, salt: bytes, iterations: int) -> str:
    """What pg_authid stores for a password, see RFC 5803 and scram-common.c."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    parts = (salt, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256"))
    encoded = [base64.b64encode(part).decode() for part in parts]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def postgres_scram(password: str) -> str:
    """A fresh verifier, so that the password itself never reaches the server or its log."""
    return scram_verifier(str(password), os.urandom(16), 4096)


def scram_matches(password: str, verifier: str | None) -> bool:
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+", verifier or "")
    if not found:
        return False
    expected = scram_verifier(password, base64.b64decode(found.group(2)), int(found.group(1)))
    return hmac.compare_digest(expected, verifier or "")


# --- the input, completed and checked ---------------------------------------------------------------------------


def postgres_hba(allow_from: list[str]) -> list[dict[str, Any]]:
    """The lines of a server nobody said more about: passwords everywhere, TLS from other hosts."""
    here: list[dict[str, Any]] = [
        {"type": "local"},
        {"type": "host", "address": "127.0.0.1/32"},
        {"type": "host", "address": "::1/128"},
    ]
    return here + [{"type": "hostssl", "address": "all" if one == "any" else one} for one in allow_from]


def role_flags(role: dict[str, Any]) -> dict[str, bool]:
    asked = [flag.upper() for flag in role.get("flags") or []]
    return {flag: flag in asked or (default and "NO" + flag not in asked) for flag, (_name, default) in FLAGS.items()}


def postgres_plan(given: dict[str, Any]) -> dict[str, Any]:
    """All that the role was given, with every value filled in."""
    settings = {
        **postgres_settings(given["memory_mb"], given["cpus"], given["max_connections"]),
        "listen_addresses": ", ".join(["localhost", *given["listen_addresses"]]),
        **given["settings"],
    }
    memory_mb = int(given["memory_mb"])
    version = str(given["version"] or given["distribution_version"])
    return {
        **given,
        "version": version,
        "cluster": f"{version}/{CLUSTER}",
        "unit": f"postgresql@{version}-{CLUSTER}.service",
        "config": f"/etc/postgresql/{version}/{CLUSTER}",
        "memory_mb": memory_mb,
        "final_settings": settings,
        "hba": [
            {
                "type": one.get("type", "host"),
                "databases": one.get("databases") or ["all"],
                "users": one.get("users") or ["all"],
                "address": one.get("address", ""),
                "method": one.get("method", "scram-sha-256"),
                "options": one.get("options", ""),
            }
            for one in given["hba"]
        ],
        "roles": [
            {
                "name": one["name"],
                "password": one.get("password"),
                "flags": role_flags(one),
                "member_of": one.get("member_of") or [],
                "unknown_flags": [
                    flag for flag in one.get("flags") or [] if flag.upper().removeprefix("NO") not in FLAGS
                ],
            }
            for one in given["roles"]
        ],
        "extensions": [
            {"name": one["name"], "database": one.get("database", "postgres")} for one in given["extensions"]
        ],
        "grants": [complete_grant(one) for one in given["grants"]],
        "huge_pages": huge_pages(settings),
    }


def complete_grant(grant: dict[str, Any]) -> dict[str, Any]:
    kind = grant.get("type", "database")
    objects = {"database": [grant["database"]], "schema": ["public"], "default_privs": ["TABLES"]}.get(kind, [])
    return {
        "role": grant["role"],
        "database": grant["database"],
        "type": kind,
        "objs": grant.get("objs") or objects,
        "schema": grant.get("schema", "public"),
        "privs": [priv.upper() for priv in grant.get("privs") or []],
        "owner": grant.get("owner", ""),
    }


def huge_pages(settings: dict[str, Any]) -> int:
    """Pages of 2 MiB to reserve: the buffers, 4 % for their headers and 64 MiB for the rest; 0 when not worth it."""
    buffers = setting_mb(settings["shared_buffers"])
    if buffers < HUGE_PAGES_FROM_MB or settings["huge_pages"] not in ("try", "on", True):
        return 0
    return math.ceil((buffers * 1.04 + 64) / 2)


def postgres_problems(plan: dict[str, Any], host: dict[str, Any]) -> list[str]:
    """One sentence for everything that would lose data, open a door or fail half way."""
    return [
        *version_problems(plan, host),
        *setting_problems(plan),
        *hba_problems(plan),
        *object_problems(plan),
    ]


def version_problems(plan: dict[str, Any], host: dict[str, Any]) -> list[str]:
    version, problems = plan["version"], []
    if not re.fullmatch(r"[1-9][0-9]", version):
        return [f"postgres_tuned_version: '{version}' is not a major version; write one like '17'."]
    others = [one for one in host["postgres_clusters"] if one != plan["cluster"]]
    if others and plan["cluster"] not in host["postgres_clusters"]:
        old, name = others[0].split("/")
        problems.append(
            f"This host has data of PostgreSQL {old} in /var/lib/postgresql/{old}/{name}, and PostgreSQL {version} "
            f"would start empty beside it. Keep it with postgres_tuned_version: '{old}', or move the data first "
            f"(pg_upgradecluster {old} {name}), or remove it if nobody needs it (pg_dropcluster {old} {name})."
        )
    if (
        plan["source"] == "distro"
        and version != plan["distribution_version"]
        and f"postgresql-{version}" not in host["packages"]
    ):
        problems.append(
            f"postgres_tuned_version: {host['distribution']} {host['version']} has PostgreSQL "
            f"{plan['distribution_version']}, not {version}; set postgres_tuned_source: pgdg for any other."
        )
    return problems


def setting_problems(plan: dict[str, Any]) -> list[str]:
    problems = [
        f"postgres_tuned_settings: {name} cannot be set there; {RESERVED[name]}."
        for name in sorted(set(plan["settings"]) & set(RESERVED))
    ]
    problems += [
        f"postgres_tuned_settings: '{name}' is not the name of a setting."
        for name in plan["settings"]
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.]*", name)
    ]
    for address in plan["listen_addresses"]:
        if address in ("*", "0.0.0.0", "::"):  # noqa: S104
            problems.append(
                f"postgres_tuned_listen_addresses: '{address}' means every address of the host, also public ones; "
                "name the private addresses."
            )
    if plan["allow_from"] and not plan["listen_addresses"]:
        problems.append(
            "postgres_tuned_allow_from lets other hosts in, and PostgreSQL listens on loopback only; "
            "name its private address in postgres_tuned_listen_addresses."
        )
    if plan["memory_mb"] < 64:
        problems.append(f"postgres_tuned_memory_mb: {plan['memory_mb']} MiB are too few; give it 80 at least.")
    if int(plan["max_connections"]) < 10:
        problems.append(f"postgres_tuned_max_connections: {plan['max_connections']} are too few; give it 10 at least.")
    return problems


def opens_world(address: str) -> bool:
    """Whether an address of pg_hba.conf lets in networks that nobody owns whole."""
    if address in ("all", "any"):
        return True
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return False
    return network.prefixlen < (8 if network.version == 4 else 16)


def hba_problems(plan: dict[str, Any]) -> list[str]:
    problems = []
    for one in plan["hba"]:
        line = hba_line(one)
        if one["type"] not in HBA_TYPES:
            problems.append(f"postgres_tuned_hba: '{line}' has no type of {', '.join(HBA_TYPES)}.")
        if one["method"] not in HBA_METHODS:
            hint = " It asks for no secret." if one["method"] == "trust" else ""
            problems.append(f"postgres_tuned_hba: '{line}' has no method of {', '.join(HBA_METHODS)}.{hint}")
        if any("\n" in str(part) for part in (line, *one["databases"], *one["users"])):
            problems.append(f"postgres_tuned_hba: '{line}' has a line break in it.")
        if one["type"] == "local":
            if one["address"]:
                problems.append(f"postgres_tuned_hba: '{line}' is for the socket and cannot have an address.")
            continue
        if not valid_address(one["address"]):
            problems.append(f"postgres_tuned_hba: '{line}' needs an address like 10.0.0.0/24.")
        elif opens_world(one["address"]) and one["method"] != "reject" and not plan["hba_open_to_world"]:
            problems.append(
                f"postgres_tuned_hba: '{line}' lets the whole world try passwords; name the networks, or set "
                "postgres_tuned_hba_open_to_world: true."
            )
    return problems


def valid_address(address: str) -> bool:
    if address in ("all", "samehost", "samenet"):
        return True
    try:
        # A bare address is a host name to PostgreSQL, so the length of the network is needed.
        ipaddress.ip_network(address)
        return "/" in address
    except ValueError:
        return re.fullmatch(r"\.?[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*", address) is not None


def object_problems(plan: dict[str, Any]) -> list[str]:
    problems = []
    names = [("postgres_tuned_roles", one["name"]) for one in plan["roles"]]
    names += [("postgres_tuned_databases", one["name"]) for one in plan["databases"]]
    for variable, name in names:
        if names.count((variable, name)) > 1:
            problems.append(f"{variable}: the name '{name}' is there twice.")
    for grant in plan["grants"]:
        names += [("postgres_tuned_grants", grant[key]) for key in ("role", "database", "schema")]
        names += [("postgres_tuned_grants", name) for name in grant["objs"]]
    for one in plan["extensions"]:
        names += [("postgres_tuned_extensions", one["name"]), ("postgres_tuned_extensions", one["database"])]
    names += [("postgres_tuned_roles", group) for one in plan["roles"] for group in one["member_of"]]
    names += [("postgres_tuned_databases", one["owner"]) for one in plan["databases"] if one.get("owner")]
    for variable, name in names:
        if not NAME.fullmatch(name):
            problems.append(f"{variable}: '{name}' cannot be a name; use letters, digits, _ and -, not first a digit.")
    for role in plan["roles"]:
        if role["password"] is not None and len(role["password"]) < PASSWORD_LENGTH:
            problems.append(
                f"postgres_tuned_roles: role '{role['name']}' needs a password of {PASSWORD_LENGTH} characters or "
                "more; for the application's own role that is bulwark_postgres_password "
                "(openssl rand -hex 24 makes one)."
            )
        if role["unknown_flags"]:
            problems.append(
                f"postgres_tuned_roles: '{role['unknown_flags'][0]}' of role '{role['name']}' is not a flag; known are "
                f"{', '.join(FLAGS)}, each also with NO in front."
            )
    for grant in plan["grants"]:
        problems += grant_problems(grant)
    return list(dict.fromkeys(problems))


def grant_problems(grant: dict[str, Any]) -> list[str]:
    where = f"postgres_tuned_grants: the one for '{grant['role']}' in '{grant['database']}'"
    if grant["type"] == "default_privs":
        if not grant["owner"]:
            return [f"{where} needs an owner: the role whose future tables it is about."]
        unknown = [one for one in grant["objs"] if one not in DEFAULT_KINDS]
        if unknown:
            return [f"{where} has objs '{unknown[0]}'; known are {', '.join(DEFAULT_KINDS)}."]
        known = {priv for kind in grant["objs"] for priv in PRIVILEGES[DEFAULT_KINDS[kind][1]]}
    elif grant["type"] in PRIVILEGES:
        known = set(PRIVILEGES[grant["type"]])
    else:
        return [f"{where} has the type '{grant['type']}'; known are {', '.join(PRIVILEGES)}, default_privs."]
    unknown = [priv for priv in grant["privs"] if priv not in known | {"ALL"}]
    if unknown or not grant["privs"]:
        return [
            f"{where} needs privs of {', '.join(sorted(known))} or ALL" + (f", not '{unknown[0]}'." if unknown else ".")
        ]
    return []


def postgres_firewall_rules(allow_from: list[str]) -> list[dict[str, Any]]:
    return [{"port": 5432, "from": allow_from, "name": "postgresql"}]


# --- what goes to the host --------------------------------------------------------------------------------------


def hba_word(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_+./:-]+", word) else '"' + word.replace('"', '""') + '"'


def hba_line(one: dict[str, Any]) -> str:
    words = [one["type"], *(",".join(map(hba_word, one[key])) for key in ("databases", "users"))]
    return " ".join(word for word in [*words, one["address"], one["method"], one["options"]] if word)


def postgres_files(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the module C(files): settings and access rules."""
    config = plan["config"]
    owner = {"owner": "postgres", "group": "postgres"}
    settings = {name: setting_text(value) for name, value in sorted(plan["final_settings"].items())}
    lines = [hba_line(one) for one in plan["hba"]]
    files: list[dict[str, Any]] = [
        {"path": f"{config}/conf.d", "state": "directory", **owner},
        {
            "path": f"{config}/conf.d/bulwark.conf",
            "template": "bulwark.conf.j2",
            "vars": {"settings": settings},
            **owner,
        },
        {"path": f"{config}/pg_ident.conf", "template": "pg_ident.conf.j2", "mode": "0640", **owner},
        {
            "path": f"{config}/pg_hba.conf",
            "template": "pg_hba.conf.j2",
            "vars": {"lines": lines},
            "mode": "0640",
            **owner,
        },
    ]
    if not plan["huge_pages"]:
        # The pages of a larger past go at the next boot.
        files.append({"path": "/etc/sysctl.d/60-postgresql.conf", "state": "absent"})
    return files


def postgres_validations(plan: dict[str, Any]) -> list[str]:
    """Commands that accept the settings: the server's own parser, and what it would not find before its next start."""
    binary = f"/usr/lib/postgresql/{plan['version']}"
    libraries = str(plan["final_settings"].get("shared_preload_libraries", "")).split(",")
    return [
        f"runuser -u postgres -- {binary}/bin/postgres -C data_directory "
        f"--config-file={plan['config']}/postgresql.conf",
        *(f"test -e {binary}/lib/{name.strip()}.so" for name in libraries if re.fullmatch(r"\s*[\w-]+\s*", name)),
    ]


def postgres_drop_in(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Sections on top of the packaged unit, which already protects the postmaster from the OOM killer; backends do
    not inherit that, because pg_ctlcluster sets PG_OOM_ADJUST_FILE (chapter 18.4.4 of the manual).
    """
    # The server's own processes need about 100 MiB; with less it would crawl.
    high = max(plan["memory_mb"], 192)
    network = {"Wants": "network-online.target", "After": "network-online.target"}
    return {
        # A private address that is not up yet would be left out silently.
        "Unit": network if plan["listen_addresses"] else {},
        "Service": {
            "OOMScoreAdjust": -900,
            # One query killed for its memory must not stop the whole server, which is what systemd does by default.
            "OOMPolicy": "continue",
            # At the plan the kernel takes page cache back; the hard limit is far off, as reaching it kills a query.
            "MemoryHigh": f"{high}M",
            "MemoryMax": f"{high * 3 // 2 + 256}M",
            "CPUWeight": within(round(float(plan["cpus"]) * 100), 1, 10000),
            "Restart": "on-failure",
            "RestartSec": 5,
        },
    }


def postgres_units(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit). A restart is decided by the server's own pending_restart, not by files."""
    files = [f"{plan['config']}/{name}" for name in ("conf.d/bulwark.conf", "pg_hba.conf", "pg_ident.conf")]
    return [
        {"name": "postgresql.service", "enabled": True},
        {
            "name": plan["unit"],
            "drop_in": "bulwark",
            "sections": postgres_drop_in(plan),
            "live": True,
            "state": "started",
            "reload_on": files,
        },
    ]


# --- what the server has and still lacks ------------------------------------------------------------------------

STATE = """
SELECT json_build_object(
  'pending', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'errors', (SELECT coalesce(json_agg(format('%s line %s: %s %s', sourcefile, sourceline, name, error)), '[]')
    FROM pg_file_settings WHERE error IS NOT NULL AND name NOT IN (SELECT name FROM pg_settings WHERE pending_restart)),
  'included', EXISTS (SELECT FROM pg_file_settings WHERE sourcefile LIKE '%/conf.d/bulwark.conf'),
  'hba_errors', (SELECT coalesce(json_agg(format('pg_hba.conf line %s: %s', line_number, error)), '[]')
    FROM pg_hba_file_rules WHERE error IS NOT NULL),
  'overridden', (SELECT coalesce(json_agg(name ORDER BY name), '[]')
    FROM pg_settings WHERE sourcefile LIKE '%/postgresql.auto.conf'),
  'checksums', current_setting('data_checksums'),
  'huge_pages', current_setting('huge_pages_status', true),
  'databases', (SELECT json_object_agg(datname, pg_get_userbyid(datdba)) FROM pg_database),
  'roles', (SELECT json_object_agg(rolname, json_build_object(
      'rolcanlogin', rolcanlogin, 'rolinherit', rolinherit, 'rolsuper', rolsuper, 'rolcreatedb', rolcreatedb,
      'rolcreaterole', rolcreaterole, 'rolreplication', rolreplication, 'rolbypassrls', rolbypassrls,
      'password', rolpassword,
      'member_of', (SELECT coalesce(json_agg(pg_get_userbyid(roleid)), '[]')
        FROM pg_auth_members WHERE member = a.oid)))
    FROM pg_authid a));
"""


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def privileges(grant: dict[str, Any], kind: str) -> list[str]:
    return (
        PRIVILEGES[kind] if "ALL" in grant["privs"] else [priv for priv in grant["privs"] if priv in PRIVILEGES[kind]]
    )


def grant_sql(grant: dict[str, Any]) -> str:
    """A boolean expression: does the role have all of it? False, not an error, where a name does not exist yet."""
    role = f"to_regrole({literal(identifier(grant['role']))})"
    schema = f"to_regnamespace({literal(identifier(grant['schema']))})"
    kind = grant["type"]
    if kind == "default_privs":
        owner = f"to_regrole({literal(identifier(grant['owner']))})"
        checks = [
            "EXISTS (SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE "
            f"d.defaclrole = {owner} AND d.defaclnamespace = {schema} "
            f"AND d.defaclobjtype = '{DEFAULT_KINDS[objects][0]}' "
            f"AND a.grantee = {role} AND a.privilege_type = '{priv}')"
            for objects in grant["objs"]
            for priv in privileges(grant, DEFAULT_KINDS[objects][1])
        ]
        return " AND ".join(checks)
    all_privileges = privileges(grant, kind)
    if kind in ("database", "schema"):
        found = (
            "(SELECT oid FROM pg_database WHERE datname = {0})" if kind == "database" else "to_regnamespace({1})::oid"
        )
        objects = [found.format(literal(name), literal(identifier(name))) for name in grant["objs"]]
    elif grant["objs"]:
        objects = [
            f"to_regclass({literal(identifier(grant['schema']) + '.' + identifier(name))})::oid"
            for name in grant["objs"]
        ]
    else:
        held = " AND ".join(f"has_{kind}_privilege({role}::oid, c.oid, '{priv}')" for priv in all_privileges)
        return (
            f"CASE WHEN {role} IS NULL OR {schema} IS NULL THEN false ELSE "  # noqa: S608
            f"(SELECT coalesce(bool_and({held}), true) FROM pg_class c "
            f"WHERE c.relnamespace = {schema} AND c.relkind IN ({RELATION_KINDS[kind]})) END"
        )
    held = " AND ".join(
        f"has_{kind}_privilege({role}::oid, {one}, '{priv}')" for one in objects for priv in all_privileges
    )
    # has_*_privilege gives null for an object that does not exist.
    return f"CASE WHEN {role} IS NULL THEN false ELSE coalesce({held}, false) END"


def postgres_state_sql(plan: dict[str, Any]) -> str:
    """One read-only psql script: a line of JSON for the server, then one for each database with extensions or grants.

    All names in it have passed C(object_problems).
    """
    databases = dict.fromkeys(
        [one["database"] for one in plan["extensions"]] + [one["database"] for one in plan["grants"]]
    )
    script = [STATE]
    for database in databases:
        grants = [
            f"{literal(str(index))}, ({grant_sql(grant)})"
            for index, grant in enumerate(plan["grants"])
            if grant["database"] == database
        ]
        script += [
            f"SELECT count(*) AS present FROM pg_database WHERE datname = {literal(database)} \\gset",  # noqa: S608
            "\\if :present",
            f"\\connect {identifier(database)}",
            f"SELECT json_build_object('database', {literal(database)}, 'extensions', "  # noqa: S608
            "(SELECT coalesce(json_agg(extname), '[]') FROM pg_extension), "
            f"'grants', json_build_object({', '.join(grants)}));",
            "\\endif",
        ]
    return "\n".join(script) + "\n"


def postgres_state(output: str) -> dict[str, Any]:
    """The lines of JSON as one dictionary; that of a server with nothing when there are none."""
    state: dict[str, Any] = {
        "pending": [],
        "errors": [],
        "included": True,
        "hba_errors": [],
        "overridden": [],
        "checksums": "on",
        "huge_pages": None,
        "databases": {},
        "roles": {},
        "extensions": {},
        "grants": {},
    }
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        found = json.loads(line)
        if "database" in found:
            state["extensions"][found["database"]] = found["extensions"]
            state["grants"].update(found["grants"])
        else:
            state.update(found)
    return state


def postgres_changes(plan: dict[str, Any], output: str) -> dict[str, list[dict[str, Any]]]:
    """What of the plan the server lacks, each a list to loop over. Holds no secret."""
    state = postgres_state(output)
    roles = [
        {
            "name": role["name"],
            "flags": ",".join(flag if on else "NO" + flag for flag, on in role["flags"].items()),
            "has_password": role["password"] is not None,
        }
        for role in plan["roles"]
        if not role_is(role, state["roles"].get(role["name"]))
    ]
    memberships = []
    for role in plan["roles"]:
        have = state["roles"].get(role["name"], {}).get("member_of", [])
        memberships += [{"role": role["name"], "group": group} for group in role["member_of"] if group not in have]
    databases = [
        one
        for one in plan["databases"]
        if one["name"] not in state["databases"]
        or (one.get("owner") and one["owner"] != state["databases"][one["name"]])
    ]
    return {
        "roles": roles,
        "memberships": memberships,
        "databases": databases,
        "extensions": [
            one for one in plan["extensions"] if one["name"] not in state["extensions"].get(one["database"], [])
        ],
        "grants": [one for index, one in enumerate(plan["grants"]) if not state["grants"].get(str(index))],
    }


def role_is(role: dict[str, Any], found: dict[str, Any] | None) -> bool:
    if found is None or any(found[FLAGS[flag][0]] is not on for flag, on in role["flags"].items()):
        return False
    return role["password"] is None or scram_matches(role["password"], found["password"])


def postgres_complaints(output: str) -> list[str]:
    """Why the running server cannot be what the files say."""
    state = postgres_state(output)
    missing = "its postgresql.conf does not read conf.d, where the settings are; add the line include_dir = 'conf.d'"
    return [*state["errors"], *state["hba_errors"], *([] if state["included"] else [missing])]


def postgres_notes(plan: dict[str, Any], output: str, restart_allowed: bool) -> list[str]:
    """What a person should know although the run went well."""
    state, notes = postgres_state(output), []
    if state["pending"] and not restart_allowed:
        notes.append(
            f"These settings wait for a restart of PostgreSQL: {', '.join(state['pending'])}. "
            "Run again with postgres_tuned_restart_allowed: true when a restart suits you."
        )
    overridden = sorted(set(state["overridden"]) & set(plan["final_settings"]))
    if overridden:
        notes.append(
            f"ALTER SYSTEM keeps these settings from what the role sets: {', '.join(overridden)}. "
            "ALTER SYSTEM RESET gives them back."
        )
    if state["checksums"] == "off":
        notes.append(
            "This cluster was made without data checksums. With PostgreSQL stopped, "
            f"/usr/lib/postgresql/{plan['version']}/bin/pg_checksums --enable adds them."
        )
    if plan["huge_pages"] and state["huge_pages"] == "off":
        notes.append(
            f"PostgreSQL runs without huge pages although {plan['huge_pages']} were asked for; memory is too "
            "fragmented or a container may not set them. A reboot usually helps."
        )
    return notes
