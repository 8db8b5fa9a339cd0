# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The base of a host from data: accounts, SSH, firewall, kernel parameters. See sshd_config(5) and sudoers(5)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Any

KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
# Each with the OpenSSH release that brought it; the order is the order of preference.
KEX = (
    ("mlkem768x25519-sha256", (9, 9)),
    ("sntrup761x25519-sha512", (9, 9)),
    ("sntrup761x25519-sha512@openssh.com", (8, 5)),
    ("curve25519-sha256", (7, 4)),
    ("curve25519-sha256@libssh.org", (6, 5)),
    ("diffie-hellman-group18-sha512", (7, 3)),
    ("diffie-hellman-group16-sha512", (7, 3)),
)
QUANTUM_SAFE = "quantum-safe"
CIPHERS = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"
MACS = "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,umac-128-etm@openssh.com"
# What must hold once all files of sshd have been read, whatever another drop-in says.
SSH_ASSERTED = (
    "Port",
    "PermitRootLogin",
    "PasswordAuthentication",
    "KbdInteractiveAuthentication",
    "PubkeyAuthentication",
    "PermitEmptyPasswords",
    "HostKeyAlgorithms",
    "KexAlgorithms",
    "Ciphers",
    "MACs",
)
# What a host cannot do without, whatever it may connect to: names, time, its own address.
EGRESS_ALWAYS = (
    {"port": "53", "proto": "udp", "name": "DNS"},
    {"port": "53", "proto": "tcp", "name": "DNS"},
    {"port": "123", "proto": "udp", "name": "NTP"},
    {"port": "67", "proto": "udp", "name": "DHCP"},
    {"port": "547", "proto": "udp", "name": "DHCP"},
)


def openssh_version(package: str) -> tuple[int, int]:
    """Major and minor from a package version such as V(1:9.2p1-2+deb12u7); 8.9 where it is not known yet."""
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)", package or "")
    return (int(found.group(1)), int(found.group(2))) if found else (8, 9)


def base_hardening_ssh_settings(
    port: int, root_login: Any, package: str, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The settings of the drop-in, which comes first and therefore wins; C(extra) wins over ours.

    C(quantum-safe) as key exchange stands for those that a quantum computer cannot break.
    """
    version = openssh_version(package)
    kex = [name for name, since in KEX if since <= version]
    more = dict(extra or {})
    if more.get("KexAlgorithms") == QUANTUM_SAFE:
        more["KexAlgorithms"] = ",".join(name for name in kex if name.startswith(("mlkem", "sntrup")))
    return {
        "Port": int(port),
        "PermitRootLogin": yes_no(root_login),
        "PubkeyAuthentication": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitEmptyPasswords": "no",
        "X11Forwarding": "no",
        "LoginGraceTime": 30,
        "MaxStartups": "10:30:60",
        "LogLevel": "VERBOSE",
        "KexAlgorithms": ",".join(kex),
        "Ciphers": CIPHERS,
        "MACs": MACS,
        **more,
    }


def yes_no(value: Any) -> str:
    """YAML reads a bare C(no) as a boolean."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def base_hardening_ssh_lines(settings: dict[str, Any]) -> str:
    lines = ["# Managed by Ansible (bulwark.stack.base_hardening)."]
    for key, value in settings.items():
        lines += [f"{key} {yes_no(item)}" for item in (value if isinstance(value, list) else [value])]
    return "\n".join(lines) + "\n"


def base_hardening_ssh_drift(effective: str, settings: dict[str, Any]) -> list[str]:
    """One sentence for each setting that C(sshd -T) shows with another value."""
    shown: dict[str, list[str]] = {}
    for line in effective.splitlines():
        key, _sep, value = line.partition(" ")
        shown.setdefault(key, []).append(value)
    problems = []
    for key in filter(settings.__contains__, SSH_ASSERTED):
        wanted = yes_no(settings[key]).lower()
        found = ", ".join(shown.get(key.lower(), [])).replace("without-password", "prohibit-password")
        if found.lower() != wanted:
            problems.append(f"{key} is {found or 'not set'} and should be {wanted}.")
    return problems


def admins(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The users that are to exist, with all their values."""
    return [
        {
            "name": user["name"],
            "keys": [key.strip() for key in user.get("keys") or []],
            "sudo": user.get("sudo", "nopasswd"),
            "password_hash": user.get("password_hash") or "",
            "home": user.get("home") or f"/home/{user['name']}",
        }
        for user in users
        if user.get("state", "present") == "present"
    ]


def base_hardening_logins(users: list[dict[str, Any]], root_login: Any, others: list[str]) -> list[str]:
    """Who may log in where only those named may."""
    root = [] if yes_no(root_login) == "no" else ["root"]
    return list(dict.fromkeys([*(user["name"] for user in admins(users)), *root, *filter(None, others)]))


def base_hardening_account_changes(
    users: list[dict[str, Any]], known: dict[str, int], passwords: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """The accounts that the user module has to look at: absent ones, leaving ones, and those with another password.

    @param passwords: account to the digest of the hash of its password, see host_facts
    """
    found = passwords or {}
    done: list[dict[str, Any]] = []
    for user in admins(users):
        digest = hashlib.sha256(user["password_hash"].encode()).hexdigest()
        if user["name"] not in known or (user["password_hash"] and found.get(user["name"]) != digest):
            done.append({**user, "state": "present"})
    gone = [user for user in users if user.get("state") == "absent" and user["name"] in known]
    return done + [{"name": u["name"], "state": "absent", "home": u.get("home") or f"/home/{u['name']}"} for u in gone]


def sudoers(users: list[dict[str, Any]]) -> str:
    lines = ["# Managed by Ansible (bulwark.stack.base_hardening)."]
    for user in admins(users):
        lines.append(f"{user['name']} ALL=(ALL:ALL) {'NOPASSWD: ' if user['sudo'] == 'nopasswd' else ''}ALL")
    return "\n".join(lines) + "\n"


def base_hardening_account_files(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for the module C(files): what each admin may do, and the keys, which are exactly the declared ones."""
    files: list[dict[str, Any]] = [
        {
            "path": "/etc/sudoers.d/bulwark",
            "content": sudoers(users),
            "mode": "0440",
            "validate": "/usr/sbin/visudo -cf %s",
        }
    ]
    for user in admins(users):
        owner = {"owner": user["name"], "group": user["name"]}
        ssh = f"{user['home']}/.ssh"
        files += [
            {"path": ssh, "state": "directory", "mode": "0700", **owner},
            {
                "path": f"{ssh}/authorized_keys",
                "content": "".join(f"{key}\n" for key in user["keys"]),
                "mode": "0600",
                **owner,
            },
        ]
    return files


def base_hardening_user_problems(users: list[dict[str, Any]]) -> list[str]:
    """One sentence for each account that could not come in or would come in too easily."""
    where = "base_hardening_admin_users"
    problems = []
    for user in admins(users):
        name = user["name"]
        if name == "root" or not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", name):
            problems.append(
                f"{where}: '{name}' cannot be the name of an admin user; use a-z, 0-9, _ and -, and not root."
            )
        for key in user["keys"]:
            if "PRIVATE KEY" in key:
                problems.append(
                    f"{where}: a private key is among the keys of '{name}'; give the public one (*.pub), "
                    "and make a new pair."
                )
            elif "\n" in key or not any(f"{kind} AAAA" in key for kind in KEY_TYPES):
                problems.append(
                    f"{where}: '{key[:40]}' of '{name}' is not a public key; a key is one line like "
                    "'ssh-ed25519 AAAA…'."
                )
        if user["sudo"] == "password" and not user["password_hash"]:
            problems.append(
                f"{where}: '{name}' has sudo: password and no password_hash, so sudo would refuse; make a hash with "
                "'openssl passwd -6', or use sudo: nopasswd."
            )
        if user["password_hash"] and not user["password_hash"].startswith("$"):
            problems.append(f"{where}: password_hash of '{name}' is not a hash; make one with 'openssl passwd -6'.")
    names = [user["name"] for user in users]
    problems += [f"{where}: '{name}' is there twice." for name in sorted(set(names)) if names.count(name) > 1]
    if not any(user["keys"] for user in admins(users)):
        problems.append(
            f"{where}: no admin user with a key would remain, and password logins are switched off, so nobody could "
            "come in; give at least one user a name and keys (bulwark_admin_users sets it for all hosts)."
        )
    return problems


def base_hardening_login_problems(user: str, root_login: Any, users: list[dict[str, Any]]) -> list[str]:
    """Why the user of this very run could not come in again."""
    mine = [one for one in admins(users) if one["name"] == user]
    if user == "root" and yes_no(root_login) == "no":
        return [
            "ansible_user is root and base_hardening_ssh_root_login is no, so the next run could not come in; set "
            "ansible_user to one of base_hardening_admin_users, or base_hardening_ssh_root_login: prohibit-password."
        ]
    if mine and not mine[0]["keys"]:
        return [
            f"base_hardening_admin_users: '{user}', the user of this run, has no keys, so the next run could not "
            "come in."
        ]
    return []


def base_hardening_networks(texts: list[str], groups: dict[str, list[str]]) -> list[str]:
    """Addresses and networks, with the addresses of an inventory group in place of C(group:NAME)."""
    found = [one for text in texts for one in (groups.get(text[6:], [text]) if text.startswith("group:") else [text])]
    return list(dict.fromkeys(found))


def base_hardening_resolved(rules: list[dict[str, Any]], groups: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The rules with addresses in place of groups."""
    keys = ("from", "to")
    return [
        {key: base_hardening_networks(value or [], groups) if key in keys else value for key, value in rule.items()}
        for rule in rules
    ]


def network_problem(text: str) -> str:
    """Why this is no peer of a rule, empty when it is one."""
    if text.startswith("group:"):
        return f"there is no inventory group '{text[6:]}', or the playbook does not hand groups over as site.yml does"
    if text.startswith("host:"):
        return f"the address of {text[5:]} is not known; give that host bulwark_addresses, a list"
    try:
        ipaddress.ip_network(text if text != "any" else "::/0", strict=False)
    except ValueError:
        return f"'{text}' is not an address, a network like 10.0.0.0/8, group:NAME, or any"
    return ""


def base_hardening_rule_problems(
    rules: list[dict[str, Any]], ssh_port: int, ssh_from: list[str], egress: list[dict[str, Any]] | None = None
) -> list[str]:
    """One sentence for each firewall rule that UFW could not take."""
    problems = []
    if not ssh_from:
        problems.append("base_hardening_ssh_allow_from is empty, so nobody could come in; name networks, or any.")
    ssh = {"port": ssh_port, "from": ssh_from, "name": "ssh"}
    for rule in [ssh, *rules, *(egress or [])]:
        where = f"firewall rule '{rule.get('name') or '?'}'"
        port = str(rule.get("port"))
        if not re.fullmatch(r"\d{1,5}(:\d{1,5})?", port) or not all(0 < int(one) < 65536 for one in port.split(":")):
            problems.append(f"{where}: '{port}' is not a port (1 to 65535) or a range like 30000:32767.")
        elif int(port.split(":", maxsplit=1)[0]) > int(port.rsplit(":", maxsplit=1)[-1]):
            problems.append(f"{where}: the range {port} ends before it begins.")
        if rule in rules and port == str(ssh_port) and rule.get("proto", "tcp") == "tcp":
            problems.append(f"{where}: port {ssh_port} is the SSH port; use base_hardening_ssh_allow_from for it.")
        if rule.get("proto", "tcp") not in ("tcp", "udp"):
            problems.append(f"{where}: proto is '{rule['proto']}'; it is tcp or udp.")
        peers = [*(rule.get("from") or []), *(rule.get("to") or [])]
        problems += [f"{where}: {said}." for said in map(network_problem, peers) if said]
    return problems


def base_hardening_rules(
    ssh_port: int, ssh_from: list[str], ssh_limited: bool, rules: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Entries for the module C(ufw_rules): SSH first, then what others asked for; loopback-only ports need no rule."""
    ssh = {
        "port": str(ssh_port),
        "from": ssh_from,
        "name": "ssh",
        "proto": "tcp",
        "action": "limit" if ssh_limited else "allow",
    }
    rest = [
        {"port": str(rule["port"]), "proto": rule.get("proto", "tcp"), "from": rule["from"], "name": rule["name"]}
        for rule in rules
        if rule.get("from")
    ]
    return [ssh, *rest]


def base_hardening_egress(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for the module C(ufw_rules): what a host cannot do without, and what was declared."""
    return [
        {
            "port": str(rule["port"]),
            "proto": rule.get("proto", "tcp"),
            "to": rule.get("to") or ["any"],
            "name": rule["name"],
        }
        for rule in [*EGRESS_ALWAYS, *rules]
    ]


def base_hardening_swap_mb(memory_mb: int, container: bool) -> int:
    """Half of the memory, between 1 and 4 GiB; none in a container, which shares the swap of its host."""
    return 0 if container else min(max(int(memory_mb) // 2, 1024), 4096)


def base_hardening_host_name(name: str) -> str:
    """A name that a host can carry, or nothing: not every name in an inventory is one."""
    if re.fullmatch(r"[0-9.]+|.*:.*|localhost", name):
        return ""
    labels = name.split(".")
    return name if all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels) else ""


def base_hardening_ssh_units(port: int) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit). Where a socket accepts for sshd, the socket decides on the port.

    Whether it does stays as it is: SSH is running, or we would not be here.
    """
    socket: dict[str, Any] = {"name": "ssh.socket", "drop_in": "bulwark", "state": "absent"}
    if int(port) != 22:
        # Empty first: lists add up. Without an address the socket takes IPv4 and IPv6, whichever the kernel has.
        sections = {"Socket": {"ListenStream": ["", str(port)], "BindIPv6Only": "both"}}
        socket = {"name": "ssh.socket", "drop_in": "bulwark", "sections": sections}
    return [socket, {"name": "ssh.service", "reload_on": ["/etc/ssh/sshd_config.d/00-bulwark.conf"]}]


def base_hardening_contact_problem(result: dict[str, Any], host: str, user: str) -> str:
    """One sentence on why a host that answers cannot be worked on."""
    text = " ".join(str(result.get(key) or "") for key in ("msg", "module_stderr", "module_stdout"))
    if re.search(r"not in the sudoers|may not run sudo|not allowed to (execute|run)", text):
        return (
            f"{host}: {user} may not use sudo; log in as another user and allow it, or set ansible_user to one who may."
        )
    if re.search(r"[Ii]ncorrect sudo password|Sorry, try again", text):
        return f"{host}: sudo refuses the password of {user}; correct it, or run with --ask-become-pass."
    if re.search(r"[Mm]issing sudo password|password is required|Timeout .* become|privilege escalation prompt", text):
        return (
            f"{host}: sudo asks {user} for a password and none was given; run with --ask-become-pass, set "
            "ansible_become_password, or give the user sudo: nopasswd."
        )
    if re.search(r"sudo: (command )?not found|no such file.*sudo", text, re.IGNORECASE):
        return f"{host}: sudo is not installed; set ansible_user to root for the first run, or install it."
    return f"{host}: {text.strip()}" if text.strip() else ""
