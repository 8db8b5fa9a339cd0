# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Python web application from data: its files, its units, its site. See systemd.socket(5) and tmpfiles.d(5)."""

from __future__ import annotations

import math
import re
from typing import Any

# Names whose directories in /etc, /srv or /run belong to somebody else.
TAKEN = {
    "root",
    "nginx",
    "redis",
    "postgres",
    "postgresql",
    "docker",
    "ssh",
    "sshd",
    "systemd",
    "celery",
    "www-data",
    "bulwark",
}
SYSTEM_FOLDERS = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr")


def web_app_workers(memory_mb: int, cpus: float) -> int:
    """Two processes for each processor, as long as each has 512 MiB."""
    return max(1, min(int(memory_mb) // 512, 2 * math.ceil(float(cpus))))


def web_app_sites(name: str, domains: list[str], body_size_mb: int) -> list[dict[str, Any]]:
    """What nginx is to serve; nothing without a domain."""
    if not domains:
        return []
    return [
        {
            "name": name,
            "domains": domains,
            "body_size_mb": int(body_size_mb),
            "locations": [
                {"path": "/", "proxy": f"http://unix:/run/{name}/web.sock", "websocket": True, "rate_limit": True},
                {"path": "/media/", "static": f"/srv/{name}/shared/media/"},
            ],
        }
    ]


def source_problems(app: dict[str, Any]) -> list[str]:
    given = [f"web_app_{key}" for key in ("directory", "repository", "wheel") if app[key]]
    if not given:
        return ["There is nothing to deploy: give web_app_directory, web_app_repository or web_app_wheel."]
    if len(given) > 1:
        return [f"{' and '.join(given)} are both given, and a release has one source; keep one of them."]
    problems = []
    if re.match(r"https?://[^/]*@", app["repository"]):
        problems.append(
            "web_app_repository: a password in the address would be in the process list; use an SSH address and "
            "web_app_repository_key."
        )
    if "://" in app["wheel"] and not re.search(r"#sha256=[0-9a-f]{64}$", app["wheel"]):
        problems.append(
            "web_app_wheel: an address needs its checksum, as in https://…/app-1.0-py3-none-any.whl#sha256=…."
        )
    if re.fullmatch(r"[0-9a-f]{7,39}", app["revision"]):
        problems.append("web_app_revision: give a branch, a tag or all 40 characters of a commit, not a part of it.")
    return problems


def environment_problems(environment: dict[str, Any]) -> list[str]:
    problems = []
    for name, value in environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            problems.append(f"web_app_environment: '{name}' cannot be the name of an environment variable.")
        if value is None or isinstance(value, (dict, list)):
            problems.append(f"web_app_environment: the value of {name} must be text, a number or a boolean.")
    return problems


def policy_problems(app: dict[str, Any]) -> list[str]:
    problems = []
    for policy in app["cleanup_policies"]:
        path = policy["path"].rstrip("/")
        inside = f"{path}/"
        if not re.fullmatch(r"/[^\s\"'%*?\[\]]+", path) or "/../" in inside or path.count("/") < 2:
            problems.append(
                f"web_app_cleanup_policies: '{path}' must be an absolute path with two parts or more and no blanks."
            )
        elif inside.startswith(tuple(f"{folder}/" for folder in SYSTEM_FOLDERS)) or inside in (
            f"/srv/{app['name']}/",
            "/var/lib/",
            "/var/log/",
        ):
            problems.append(
                f"web_app_cleanup_policies: '{path}' holds what the system needs; name a directory of the application."
            )
        elif inside.startswith(f"/srv/{app['name']}/releases/"):
            problems.append(f"web_app_cleanup_policies: '{path}' is kept tidy by web_app_releases_kept; leave it out.")
        if int(policy["age_days"]) < 1:
            problems.append(f"web_app_cleanup_policies: age_days of '{path}' must be 1 or more.")
    return problems


def web_app_problems(app: dict[str, Any]) -> list[str]:
    """One sentence for each part of the input that could not work."""
    problems = source_problems(app)
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", app["name"]) or app["name"] in TAKEN:
        problems.append(
            f"web_app_name: '{app['name']}' names a user, units and directories; take a-z, 0-9 and -, and no name that "
            "the system has."
        )
    if app["serve"] and not app["command"] and not re.fullmatch(r"[\w.]+:[\w.]+(\(\))?", app["module"]):
        problems.append(f"web_app_module: '{app['module']}' must be module:object, as in app.main:app.")
    if not app["health_path"].startswith("/"):
        problems.append(f"web_app_health_path: '{app['health_path']}' must start with a slash.")
    if not app["python"].startswith("/"):
        problems.append(f"web_app_python: '{app['python']}' must be an absolute path.")
    if int(app["releases_kept"]) < 2:
        problems.append("web_app_releases_kept must be 2 or more; with one release there is none to return to.")
    if int(app["workers"]) < 1:
        problems.append("web_app_workers must be 1 or more.")
    if any("\n" in text for text in (app["command"], app["migration_command"], *app["server_options"])):
        problems.append("web_app_command, web_app_migration_command and web_app_server_options must be single lines.")
    return problems + environment_problems(app["environment"]) + policy_problems(app)


def web_app_environment(environment: dict[str, Any]) -> str:
    """The text of an EnvironmentFile, see systemd.exec(5): in double quotes a backslash escapes \\ \" ` and $."""
    lines = ["# Managed by Ansible (bulwark.stack.web_app)."]
    for name, value in environment.items():
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        lines.append('%s="%s"' % (name, re.sub(r'([\\"`$])', r"\\\1", text)))
    return "\n".join(lines) + "\n"


def cleanup_text(policies: list[dict[str, Any]], age_by: str) -> str:
    lines = ["# Managed by Ansible (bulwark.stack.web_app)."]
    lines += [f"e {policy['path']} - - - {age_by}{int(policy['age_days'])}d" for policy in policies]
    return "\n".join(lines) + "\n"


def rotation_text(name: str, policies: list[dict[str, Any]]) -> str:
    blocks = ["# Managed by Ansible (bulwark.stack.web_app)."]
    for policy in policies:
        days = int(policy["age_days"])
        # Applications keep their log open and know no signal to open it again, hence copytruncate.
        words = ["daily", f"rotate {days}", f"maxage {days}", "missingok", "notifempty", "compress", "delaycompress"]
        words += ["copytruncate", f"su {name} adm"]
        blocks.append(f"{policy['path'].rstrip('/')}/*.log {{\n" + "".join(f"    {word}\n" for word in words) + "}")
    return "\n".join(blocks) + "\n"


def web_app_files(app: dict[str, Any], version: str) -> list[dict[str, Any]]:
    """Entries for the module C(files): directories, the environment, the clean-up.

    @param app: the completed variables of the role without their prefix
    @param version: of the distribution; Ubuntu 22.04 cannot tell times apart when it cleans up
    """
    name, root = app["name"], f"/srv/{app['name']}"
    own = {"owner": name, "group": name}
    policies = app["cleanup_policies"]
    rotated = [policy for policy in policies if policy.get("rotate")]
    files: list[dict[str, Any]] = [
        {"path": root, "state": "directory"},
        {"path": f"{root}/releases", "state": "directory", "group": name, "mode": "0750"},
        {"path": f"{root}/shared", "state": "directory", **own, "mode": "0751"},
        # nginx serves the media itself: what the application writes here belongs to the group of nginx.
        {"path": f"{root}/shared/media", "state": "directory", "owner": name, "group": "www-data", "mode": "2750"},
        {"path": f"/var/log/{name}", "state": "directory", "owner": name, "group": "adm", "mode": "0750"},
        {"path": f"/var/cache/{name}", "state": "directory", **own, "mode": "0700"},
        {"path": f"/etc/{name}", "state": "directory", "group": name, "mode": "0750"},
        {
            "path": f"/etc/{name}/environment",
            "content": web_app_environment(app["environment"]),
            "secret": True,
            "group": name,
            "mode": "0640",
        },
        {
            "path": f"/etc/tmpfiles.d/{name}.conf",
            "content": cleanup_text(policies, "" if version == "22.04" else "mM:"),
        },
    ]
    if rotated:
        files.append({"path": f"/etc/logrotate.d/{name}", "content": rotation_text(name, rotated)})
    else:
        files.append({"path": f"/etc/logrotate.d/{name}", "state": "absent"})
    if app["repository_key"]:
        key = app["repository_key"].strip() + "\n"
        files.append({"path": f"/etc/{name}/repository_key", "content": key, "secret": True, "mode": "0600"})
    return files


def command_line(command: str, base: str) -> str:
    """A command of the release: its program is looked for in the virtual environment.

    Nothing is expanded in it, so that no secret of the environment can get onto a command line.
    """
    program, _sep, rest = command.strip().partition(" ")
    if not program.startswith("/"):
        program = f"{base}/{program}" if "/" in program else f"{base}/.venv/bin/{program}"
    return f"{program} {rest}".strip().replace("%", "%%").replace("$", "$$")


def server_command(app: dict[str, Any]) -> str:
    """The server on the socket that systemd hands over; only nginx can connect there, so its headers are trusted."""
    if app["command"]:
        return str(app["command"])
    options = " ".join(app["server_options"])
    drain = int(app["stop_timeout_seconds"])
    if app["server"] == "gunicorn":
        line = f"gunicorn {app['module']} --workers {app['workers']} --graceful-timeout {drain} --forwarded-allow-ips=*"
    else:
        line = (
            f"uvicorn {app['module']} --fd 3 --workers {app['workers']} --timeout-graceful-shutdown {drain} "
            "--proxy-headers --forwarded-allow-ips=*"
        )
    return f"{line} {options}".strip()


def process(app: dict[str, Any], link: str) -> dict[str, Any]:
    """What the server, its candidate and the migration have in common."""
    name, root = app["name"], f"/srv/{app['name']}"
    memory = int(app["memory_mb"])
    return {
        "User": name,
        "Group": name,
        "WorkingDirectory": f"{root}/{link}",
        "Environment": "PYTHONUNBUFFERED=1",
        "EnvironmentFile": f"/etc/{name}/environment",
        "ReadWritePaths": [f"{root}/shared", f"/var/log/{name}"],
        # A library that asks for a call it may not use gets an error, as it would without privileges.
        "SystemCallErrorNumber": "EPERM",
        "MemoryHigh": f"{memory * 9 // 10}M",
        "MemoryMax": f"{memory}M",
        "CPUWeight": int(app["cpu_weight"]),
        "KillMode": "mixed",
    }


def server_units(app: dict[str, Any], unit: str, link: str, socket: str) -> list[dict[str, Any]]:
    """The socket, which outlives every restart and keeps connections waiting, and its service."""
    name = app["name"]
    return [
        {
            "name": f"{unit}.socket",
            "sections": {
                "Unit": {"Description": f"Socket of {unit}"},
                "Socket": {
                    "ListenStream": f"/run/{name}/{socket}",
                    "SocketUser": name,
                    "SocketGroup": "www-data",
                    "SocketMode": "0660",
                    "Backlog": 2048,
                },
            },
        },
        {
            "name": f"{unit}.service",
            "sections": {
                "Unit": {
                    "Description": f"{name}: {link} release",
                    "Requires": f"{unit}.socket",
                    "After": f"{unit}.socket network-online.target postgresql.service",
                    "Wants": "network-online.target",
                    # A database that is away for an hour must not end in a service that is off.
                    "StartLimitIntervalSec": 0,
                },
                "Service": {
                    "Type": "notify" if app["server"] == "gunicorn" and not app["command"] else "exec",
                    "ExecStart": command_line(server_command(app), f"/srv/{name}/{link}"),
                    **process(app, link),
                    "TimeoutStopSec": int(app["stop_timeout_seconds"]) + 10,
                },
            },
        },
    ]


def web_app_units(app: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit): the server, or its absence from a host that serves nothing."""
    name = app["name"]
    unit = f"{name}-web"
    if not app["serve"]:
        units = (f"{unit}.socket", f"{unit}.service", f"{name}-candidate.socket", f"{name}-candidate.service")
        return [{"name": one, "state": "absent"} for one in units]
    socket, service = server_units(app, unit, "current", "web.sock")
    socket["sections"]["Install"] = {"WantedBy": "sockets.target"}
    service["sections"]["Service"].update({"Restart": "always", "RestartSec": 1})
    service["sections"]["Install"] = {"WantedBy": "multi-user.target"}
    service["restart_on"] = [f"/srv/{name}/current", f"/etc/{name}/environment"]
    return [{**one, "enabled": True, "state": "started"} for one in (socket, service)]


def web_app_unit_lines(app: dict[str, Any]) -> list[str]:
    """Lines of the unit, by which a host can tell whether the service is going to restart."""
    if not app["serve"]:
        return []
    values = web_app_units(app)[1]["sections"]["Service"].items()
    return [f"{key}={one}" for key, value in values for one in (value if isinstance(value, list) else [value])]


def web_app_trial_units(app: dict[str, Any]) -> list[dict[str, Any]]:
    """The units that try a release before it is the current one: its migration, and its server on a side socket."""
    name = app["name"]
    units = server_units(app, f"{name}-candidate", "candidate", "candidate.sock") if app["serve"] else []
    if app["migration_command"]:
        migration = {
            "Type": "oneshot",
            "ExecStart": command_line(app["migration_command"], f"/srv/{name}/candidate"),
            **process(app, "candidate"),
            "TimeoutStartSec": int(app["migration_timeout_seconds"]),
        }
        units.append(
            {
                "name": f"{name}-migrate.service",
                "sections": {
                    "Unit": {"Description": f"{name}: migration", "After": "network-online.target postgresql.service"},
                    "Service": migration,
                },
            }
        )
    return units
