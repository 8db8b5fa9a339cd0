# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hardening does, as a table: each rule with its profile, its CIS number, its reason and what it sets.

The numbers are those of the CIS Debian Linux 12 Benchmark 1.1.0. docs/hardening.md is made from this table.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

PROFILES = ("baseline", "cis_level1", "cis_level2")
MARK = "# Managed by Ansible (bulwark.stack.base_hardening).\n"
WARNING = (
    "This system is private. Use is monitored; unauthorized use is prohibited and will be reported by its owner.\n"
)


class Host(NamedTuple):
    """What the rules decide by."""

    packages: dict[str, str] = {}
    services: list[str] = []
    modules: list[str] = []
    container: bool = False
    efi: bool = False
    forwarding: bool = False
    router_advertisements: bool = False
    quantum_safe_client: bool = True
    logins: list[str] = []


class Rule(NamedTuple):
    name: str
    profile: str
    cis: str
    why: str
    # Setting of sshd to value; "{logins}" stands for who may log in.
    ssh: dict[str, Any] = {}
    sysctls: dict[str, Any] = {}
    modules: tuple[str, ...] = ()
    # Entries for the module files.
    files: tuple[dict[str, Any], ...] = ()
    packages: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    # What the unit bulwark-hardening.service runs, once the files are there.
    commands: tuple[str, ...] = ()
    # Why a host does without this rule; empty when it does not.
    unless: Callable[[Host], str] = lambda host: ""


def directory(path: str, mode: str = "0755") -> dict[str, Any]:
    return {"path": path, "state": "directory", "mode": mode}


def text(path: str, content: str, mode: str = "0644", **more: Any) -> dict[str, Any]:
    return {"path": path, "content": content, "mode": mode, **more}


def lines(path: str, *wanted: tuple[str, str], add: bool = True, mode: str = "0644") -> dict[str, Any]:
    """Single lines of a file that a package owns: a pattern, and the line that stands for it."""
    edits = [{"match": match, "line": line, "add": add} for match, line in wanted]
    return {"path": path, "lines": edits, "optional": True, "mode": mode}


def permissions(path: str, mode: str, state: str = "file") -> dict[str, Any]:
    return {"path": path, "state": state, "mode": mode, "optional": True}


def only_on_a_machine(host: Host) -> str:
    return "a container has none of its own" if host.container else ""


def both(name: str, value: Any) -> dict[str, Any]:
    """A parameter of the network for all interfaces, and for those to come."""
    return {f"net.ipv4.conf.{scope}.{name}": value for scope in ("all", "default")}


def pam(name: str, title: str, priority: int, **stacks: str) -> dict[str, Any]:
    """A profile for pam-auth-update(8): stack to its line, C(Password_Initial) for where it comes first."""
    body = f"Name: {title} (bulwark.stack)\nDefault: yes\nPriority: {priority}\n"
    for stack, line in stacks.items():
        kind = "" if stack.endswith("_Initial") else f"{stack}-Type: Primary\n"
        body += f"{kind}{stack.replace('_', '-')}:\n\t{line}\n"
    return text(f"/usr/share/pam-configs/bulwark-{name}", body)


HISTORY = "requisite pam_pwhistory.so remember=24 enforce_for_root try_first_pass"
RULES = (
    # -- SSH
    Rule(
        "ssh_host_keys",
        "baseline",
        "",
        "Keys on the curves of NIST are refused; ed25519 and RSA stay.",
        ssh={
            "HostKey": ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"],
            "HostKeyAlgorithms": "ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
        },
    ),
    Rule(
        "ssh_quantum_safe",
        "baseline",
        "5.1.12",
        "What is recorded today cannot be read by a quantum computer later. Clients need OpenSSH 9.0 or the like.",
        # The names depend on the version; see base_hardening_ssh_settings.
        ssh={"KexAlgorithms": "quantum-safe"},
        unless=lambda host: "" if host.quantum_safe_client else "the SSH client of this run offers none",
    ),
    Rule(
        "ssh_sessions",
        "baseline",
        "5.1.7, 5.1.17",
        "A client that is gone is noticed within ten minutes; one connection carries ten sessions at most.",
        ssh={"ClientAliveInterval": 300, "ClientAliveCountMax": 2, "TCPKeepAlive": "no", "MaxSessions": 10},
    ),
    Rule(
        "ssh_trust",
        "baseline",
        "5.1.10, 5.1.11, 5.1.21, 5.1.22",
        "No login by the word of another host, no environment from the client, no version of the distribution shown.",
        ssh={
            "HostbasedAuthentication": "no",
            "IgnoreRhosts": "yes",
            "PermitUserEnvironment": "no",
            "UsePAM": "yes",
            "GSSAPIAuthentication": "no",
            "DebianBanner": "no",
            "Compression": "no",
        },
    ),
    Rule(
        "ssh_auth_tries",
        "cis_level1",
        "5.1.16",
        "Four tries for each connection; an agent with more than four keys needs IdentitiesOnly.",
        ssh={"MaxAuthTries": 4},
    ),
    Rule(
        "ssh_users",
        "cis_level1",
        "5.1.4",
        "Only the admin users, the user of the run and base_hardening_ssh_users may log in.",
        ssh={"AllowUsers": "{logins}"},
        unless=lambda host: "" if host.logins else "there is nobody whom it could name",
    ),
    Rule(
        "ssh_banner",
        "cis_level1",
        "5.1.5",
        "Whoever connects is told that this is not a public system.",
        ssh={"Banner": "/etc/issue.net"},
        files=(text("/etc/issue.net", WARNING),),
    ),
    Rule(
        "ssh_files",
        "baseline",
        "5.1.1",
        "Only root reads what sshd is told.",
        files=(permissions("/etc/ssh/sshd_config", "0600"),),
    ),
    # -- kernel
    Rule(
        "kernel_secrets",
        "baseline",
        "1.5.1, 1.5.2",
        "No addresses and messages of the kernel for users, no look into the memory of other processes.",
        sysctls={
            "kernel.dmesg_restrict": 1,
            "kernel.kptr_restrict": 2,
            "kernel.randomize_va_space": 2,
            "kernel.yama.ptrace_scope": 1,
        },
    ),
    Rule(
        "kernel_bpf",
        "baseline",
        "",
        "No programs of users inside the kernel.",
        sysctls={"kernel.unprivileged_bpf_disabled": 2, "net.core.bpf_jit_harden": 2},
    ),
    Rule(
        "kernel_surface",
        "baseline",
        "",
        "Old line disciplines are not loaded for users; cores carry their process.",
        sysctls={"dev.tty.ldisc_autoload": 0, "kernel.core_uses_pid": 1},
    ),
    Rule(
        "kernel_rescue_keys",
        "cis_level1",
        "",
        "The console gives no orders to the kernel, and no other kernel is started without a boot.",
        sysctls={"kernel.sysrq": 0, "kernel.kexec_load_disabled": 1},
        unless=lambda host: "kdump needs kexec" if "kdump-tools" in host.packages else "",
    ),
    Rule(
        "kernel_user_namespaces",
        "cis_level2",
        "",
        "Users make no namespaces, through which most holes of the kernel were reached.",
        sysctls={"user.max_user_namespaces": 0},
        unless=lambda host: (
            "containers need them"
            if {"docker.io", "docker-ce", "podman", "snapd"} & set(host.packages) or host.forwarding
            else ""
        ),
    ),
    Rule(
        "filesystem_links",
        "baseline",
        "",
        "Links and pipes in shared directories cannot be used as traps.",
        sysctls={
            "fs.protected_fifos": 1,
            "fs.protected_hardlinks": 1,
            "fs.protected_regular": 2,
            "fs.protected_symlinks": 1,
        },
    ),
    Rule(
        "core_dumps",
        "baseline",
        "1.5.3",
        "The memory of a crashed process may hold secrets and is not written to the disk.",
        sysctls={"fs.suid_dumpable": 0},
        files=(
            directory("/etc/security/limits.d"),
            text("/etc/security/limits.d/60-bulwark.conf", f"{MARK}*     hard   core    0\n"),
            directory("/etc/systemd/coredump.conf.d"),
            text("/etc/systemd/coredump.conf.d/60-bulwark.conf", f"{MARK}[Coredump]\nStorage=none\nProcessSizeMax=0\n"),
        ),
    ),
    Rule(
        "modules_filesystems",
        "baseline",
        "1.1.1.1-1.1.1.5",
        "File systems that no server mounts. Those in use stay; overlay, squashfs and vfat always do.",
        modules=("cramfs", "freevxfs", "hfs", "hfsplus", "jffs2"),
    ),
    Rule(
        "modules_network",
        "baseline",
        "3.2.1-3.2.4",
        "Protocols and buses that no server here speaks and whose code had many holes. Those in use stay.",
        modules=("atm", "can", "dccp", "firewire-core", "rds", "sctp", "tipc"),
        unless=lambda host: "clusters may speak SCTP" if "kubernetes" in host.services else "",
    ),
    Rule(
        "modules_usb_storage",
        "cis_level1",
        "1.1.1.9",
        "No disks over USB. One that is in use now stays.",
        modules=("usb-storage",),
    ),
    # -- network
    Rule(
        "network_redirects",
        "baseline",
        "3.3.5, 3.3.6",
        "Nobody but the host decides on its routes.",
        sysctls={
            **both("accept_redirects", 0),
            **both("secure_redirects", 0),
            **both("accept_source_route", 0),
            "net.ipv6.conf.all.accept_redirects": 0,
            "net.ipv6.conf.default.accept_redirects": 0,
            "net.ipv6.conf.all.accept_source_route": 0,
            "net.ipv6.conf.default.accept_source_route": 0,
        },
    ),
    Rule(
        "network_floods",
        "baseline",
        "3.3.3, 3.3.4, 3.3.10",
        "Answers that attackers multiply are not given; half-open connections cost nothing.",
        sysctls={
            "net.ipv4.icmp_echo_ignore_broadcasts": 1,
            "net.ipv4.icmp_ignore_bogus_error_responses": 1,
            "net.ipv4.tcp_syncookies": 1,
            "net.ipv4.tcp_rfc1337": 1,
        },
    ),
    Rule(
        "network_no_router",
        "baseline",
        "3.3.1, 3.3.2, 3.3.7",
        "The host passes nothing on and takes nothing from where it cannot have come.",
        sysctls={
            "net.ipv4.ip_forward": 0,
            **both("forwarding", 0),
            **both("send_redirects", 0),
            **both("rp_filter", 1),
        },
        # Whoever forwards sets these; a container engine sets them the other way round.
        unless=lambda host: "the host forwards for containers" if host.forwarding else "",
    ),
    Rule(
        "network_no_router_ipv6",
        "cis_level1",
        "3.3.1",
        "The same over IPv6.",
        sysctls={"net.ipv6.conf.all.forwarding": 0, "net.ipv6.conf.default.forwarding": 0},
        unless=lambda host: "the host forwards for containers" if host.forwarding else "",
    ),
    Rule(
        "network_martians",
        "cis_level1",
        "3.3.9",
        "Packets from where they cannot have come are in the journal.",
        sysctls=both("log_martians", 1),
        # UFW sets them when it starts, from a file of its own.
        files=(
            lines(
                "/etc/ufw/sysctl.conf",
                (r"#?net/ipv4/conf/all/log_martians=", "net/ipv4/conf/all/log_martians=1"),
                (r"#?net/ipv4/conf/default/log_martians=", "net/ipv4/conf/default/log_martians=1"),
            ),
        ),
    ),
    Rule(
        "network_router_advertisements",
        "cis_level1",
        "3.3.11",
        "No neighbour becomes the router of the host.",
        sysctls={"net.ipv6.conf.all.accept_ra": 0, "net.ipv6.conf.default.accept_ra": 0},
        unless=lambda host: "the host has its IPv6 route from them" if host.router_advertisements else "",
    ),
    # -- accounts
    Rule(
        "sudo_pty",
        "baseline",
        "5.2.2, 5.2.6",
        "A program run by sudo keeps no hold of the terminal; the password counts for five minutes.",
        files=(
            text(
                "/etc/sudoers.d/bulwark-hardening",
                f"{MARK}Defaults use_pty\nDefaults timestamp_timeout=5\n",
                mode="0440",
                validate="/usr/sbin/visudo -cf %s",
            ),
        ),
    ),
    Rule(
        "sudo_log",
        "cis_level1",
        "5.2.3",
        "What was done with sudo stands in a file of its own, beside the journal.",
        files=(
            text(
                "/etc/sudoers.d/bulwark-log",
                f'{MARK}Defaults logfile="/var/log/sudo.log"\n',
                mode="0440",
                validate="/usr/sbin/visudo -cf %s",
            ),
            text(
                "/etc/logrotate.d/bulwark-sudo",
                "/var/log/sudo.log {\n  weekly\n  rotate 8\n  maxsize 50M\n  compress\n  missingok\n  notifempty\n}\n",
            ),
        ),
        packages=("logrotate",),
    ),
    Rule(
        "su_restricted",
        "cis_level1",
        "5.2.7",
        "Only root uses su; people have sudo, which tells who did what.",
        files=(
            directory("/etc/sysusers.d"),
            text("/etc/sysusers.d/bulwark.conf", f"{MARK}g bulwark-su -\n"),
            lines(
                "/etc/pam.d/su",
                (
                    r"#?\s*auth\s+required\s+pam_wheel\.so(?! deny)",
                    "auth required pam_wheel.so use_uid group=bulwark-su",
                ),
                add=False,
            ),
        ),
        commands=("/usr/bin/systemd-sysusers /etc/sysusers.d/bulwark.conf",),
    ),
    Rule(
        "password_lockout",
        "cis_level1",
        "5.3.3.1",
        "Five wrong passwords lock the password of an account for 15 minutes. Keys are not passwords.",
        files=(
            pam("faillock", "Count wrong passwords", 0, Auth="[default=die] pam_faillock.so authfail"),
            pam(
                "faillock-notify",
                "Refuse whoever gave too many",
                1024,
                Auth="requisite pam_faillock.so preauth",
                Account="required pam_faillock.so",
            ),
            lines(
                "/etc/security/faillock.conf",
                (r"#?\s*deny\s*=", "deny = 5"),
                (r"#?\s*unlock_time\s*=", "unlock_time = 900"),
            ),
        ),
        commands=("/usr/sbin/pam-auth-update --enable bulwark-faillock bulwark-faillock-notify",),
    ),
    Rule(
        "password_quality",
        "cis_level1",
        "5.3.3.2",
        "Passwords that people give themselves have 14 characters of four kinds and are in no dictionary.",
        packages=("libpam-pwquality", "cracklib-runtime"),
        files=(
            directory("/etc/security/pwquality.conf.d"),
            text(
                "/etc/security/pwquality.conf.d/60-bulwark.conf",
                f"{MARK}minlen = 14\nminclass = 4\ndcredit = -1\nucredit = -1\nlcredit = -1\nocredit = -1\ndifok = 2\n"
                "maxrepeat = 3\nmaxsequence = 3\ndictcheck = 1\nenforcing = 1\nenforce_for_root\n",
            ),
        ),
    ),
    Rule(
        "password_history",
        "cis_level1",
        "5.3.3.3",
        "None of the last 24 passwords again.",
        files=(
            pam(
                "pwhistory",
                "Remember old passwords",
                1023,
                Password=f"{HISTORY} use_authtok",
                Password_Initial=HISTORY,
            ),
        ),
        commands=("/usr/sbin/pam-auth-update --enable bulwark-pwhistory",),
    ),
    Rule(
        "password_never_empty",
        "cis_level1",
        "5.3.3.4.1",
        "An account without a password lets nobody in.",
        files=(
            lines(
                "/usr/share/pam-configs/unix",
                (
                    r"\t\[success=end default=ignore\]\tpam_unix\.so( nullok)? try_first_pass$",
                    "\t[success=end default=ignore]\tpam_unix.so try_first_pass",
                ),
                (
                    r"\t\[success=end default=ignore\]\tpam_unix\.so( nullok)?$",
                    "\t[success=end default=ignore]\tpam_unix.so",
                ),
                add=False,
            ),
        ),
        commands=("/usr/sbin/pam-auth-update --package",),
    ),
    Rule(
        "password_inactive",
        "cis_level1",
        "5.4.1.5",
        "An account whose password has expired is closed after 45 days. None expires by our doing, so keys are safe.",
        files=(lines("/etc/default/useradd", (r"#?\s*INACTIVE=", "INACTIVE=45")),),
    ),
    Rule(
        "umask",
        "cis_level1",
        "5.4.3.3",
        "What people make is not readable by everybody.",
        files=(
            lines("/etc/login.defs", (r"UMASK\s", "UMASK\t\t027")),
            lines("/etc/bash.bashrc", (r"umask ", "umask 027")),
            text("/etc/profile.d/60-bulwark-umask.sh", f"{MARK}umask 027\n"),
            # What becomes root over SSH to set up the host keeps the modes that it counts on.
            text(
                "/etc/sudoers.d/bulwark-umask",
                f"{MARK}Defaults umask=0022\nDefaults umask_override\n",
                mode="0440",
                validate="/usr/sbin/visudo -cf %s",
            ),
        ),
    ),
    Rule(
        "shell_timeout",
        "cis_level1",
        "5.4.3.2",
        "A shell that nobody uses ends after 15 minutes.",
        files=(
            text(
                "/etc/profile.d/60-bulwark-tmout.sh",
                f'{MARK}if [ -n "$BASH_VERSION" ] && [ "${{TMOUT-}}" != 900 ]; then\ndeclare -xr TMOUT=900\nfi\n',
            ),
        ),
    ),
    # -- the rest
    Rule(
        "cron_files",
        "baseline",
        "2.4.1.2-2.4.1.7",
        "Only root sees what runs when.",
        files=(
            permissions("/etc/crontab", "0600"),
            *(
                permissions(f"/etc/cron.{name}", "0700", "directory")
                for name in ("d", "hourly", "daily", "weekly", "monthly", "yearly")
            ),
        ),
    ),
    Rule(
        "cron_users",
        "cis_level1",
        "2.4.1.8, 2.4.2.1",
        "Only root and the admin users make jobs of their own; those that exist go on.",
        files=(
            # The groups of crontab(1) and at(1), which read them.
            text("/etc/cron.allow", "{logins}", mode="0640", group="crontab"),
            text("/etc/at.allow", "{logins}", mode="0640", group="daemon"),
            {"path": "/etc/cron.deny", "state": "absent"},
        ),
    ),
    Rule(
        "banners",
        "cis_level1",
        "1.6.1-1.6.3",
        "Whoever logs in is told that this is not a public system, and not what it runs.",
        files=(text("/etc/issue", WARNING), text("/etc/motd", WARNING)),
    ),
    Rule(
        "apparmor",
        "baseline",
        "1.3.1.1",
        "The tools by which profiles of programs are loaded and looked at.",
        packages=("apparmor", "apparmor-utils"),
        unless=only_on_a_machine,
    ),
    Rule(
        "old_clients",
        "cis_level1",
        "2.2.1-2.2.6",
        "Programs that send passwords in the clear.",
        unwanted=(
            "ftp", "inetutils-telnet", "nis", "rsh-client", "rsh-redone-client", "talk", "inetutils-talk", "telnet",
            "tftp", "tftp-hpa", "tnftp",
        ),
    ),
)  # fmt: skip
UNIT = "bulwark-hardening.service"


def active(profile: str, off: dict[str, str], host: Host) -> tuple[list[Rule], dict[str, str]]:
    """The rules that count for a host, and why each other one does not."""
    on, left_out = [], {}
    for rule in RULES:
        if PROFILES.index(rule.profile) > PROFILES.index(profile):
            left_out[rule.name] = f"belongs to {rule.profile}"
        elif rule.name in off:
            left_out[rule.name] = off[rule.name]
        elif rule.unless(host):
            left_out[rule.name] = rule.unless(host)
        else:
            on.append(rule)
    return on, left_out


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def modprobe(names: list[str]) -> str:
    """An install line alone would let an alias load it; a blacklist line alone would let a name."""
    return MARK + "".join(f"install {name} /bin/false\nblacklist {name}\n" for name in names)


def base_hardening_plan(
    profile: str, off: dict[str, str], host: dict[str, Any], more: dict[str, Any]
) -> dict[str, Any]:
    """What the rules of a profile come to on a host.

    @param host: as host_facts gives it
    @param more: the fields of Host that are no facts
    """
    facts = {key: host[key] for key in ("packages", "container", "efi", "modules", "router_advertisements")}
    where = Host(**facts, **more)
    on, left_out = active(profile, off, where)
    loaded = {name.replace("_", "-") for name in where.modules}
    blocked = sorted({name for rule in on for name in rule.modules} - loaded)
    sysctls = merged([rule.sysctls for rule in on])
    if {"postgres", "redis"} & set(where.services):
        # These hold their data in memory; the kernel should not trade it for page cache.
        sysctls["vm.swappiness"] = 10
    if where.container:
        # Only the network is a container's own.
        sysctls = {key: value for key, value in sysctls.items() if key.startswith("net.")}
    ssh = {
        key: " ".join(where.logins) if value == "{logins}" else value
        for key, value in merged([r.ssh for r in on]).items()
    }
    files = [filled(entry, where) for rule in on for entry in rule.files]
    kept = {entry["path"] for entry in files}
    # What a rule that is off has left behind; only files that are ours by their name.
    stale = [entry["path"] for rule in RULES for entry in rule.files if ours(entry) and entry["path"] not in kept]
    commands = list(dict.fromkeys(command for rule in on for command in rule.commands))
    return {
        "ssh": ssh,
        "sysctls": sysctls,
        "files": [
            *files,
            *({"path": path, "state": "absent"} for path in stale),
            directory("/etc/modprobe.d"),
            text("/etc/modprobe.d/bulwark.conf", modprobe(blocked)),
            directory("/var/lib/bulwark"),
            text("/var/lib/bulwark/hardening.json", report(profile, on, left_out)),
        ],
        "packages": sorted({name for rule in on for name in rule.packages}),
        "unwanted": sorted({name for rule in on for name in rule.unwanted} & set(where.packages)),
        "units": [unit(commands, sorted(kept))],
    }


def filled(entry: dict[str, Any], host: Host) -> dict[str, Any]:
    """An entry of the table with what only the host decides."""
    done = dict(entry)
    if done.get("content") == "{logins}":
        done["content"] = "".join(f"{name}\n" for name in sorted({"root", *host.logins}))
    if done.get("group") == "crontab" and "cron" not in host.packages:
        done["group"] = "root"
    return done


def ours(entry: dict[str, Any]) -> bool:
    """Profiles of PAM stay where they are: without their file, the package of PAM could not take them out."""
    return "bulwark" in entry["path"] and "content" in entry and "/pam-configs/" not in entry["path"]


def unit(commands: list[str], paths: list[str]) -> dict[str, Any]:
    """What files alone do not bring about, as a service: a run that is killed before it is finished by the next."""
    if not commands:
        return {"name": UNIT, "state": "absent"}
    return {
        "name": UNIT,
        "enabled": True,
        "state": "started",
        "restart_on": [path for path in paths if path.startswith(("/usr/share/pam-configs/", "/etc/sysusers.d/"))],
        "sandbox": True,
        "sections": {
            "Unit": {"Description": "Bring hardening into effect", "After": "local-fs.target"},
            "Service": {
                "Type": "oneshot",
                "RemainAfterExit": True,
                "ExecStart": commands,
                "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER",
                "PrivateNetwork": True,
                "Environment": "DEBIAN_FRONTEND=noninteractive",
                "ReadWritePaths": ["/etc", "/var/cache/debconf", "/var/lib/pam"],
                "SystemCallFilter": "@system-service",
                "UMask": "0022",
            },
            "Install": {"WantedBy": "multi-user.target"},
        },
    }


def report(profile: str, on: list[Rule], left_out: dict[str, str]) -> str:
    """What counts on this host, for whoever looks later."""
    rules = {rule.name: {"on": rule.name not in left_out, "cis": rule.cis} for rule in RULES}
    for name, reason in left_out.items():
        rules[name]["reason"] = reason
    return json.dumps({"profile": profile, "rules": rules}, indent=1) + "\n"


def base_hardening_profile_problems(profile: str, off: dict[str, Any]) -> list[str]:
    """One sentence for each rule that cannot be switched off like this."""
    problems = []
    if profile not in PROFILES:
        problems.append(f"base_hardening_profile is '{profile}'; it is one of {', '.join(PROFILES)}.")
    names = [rule.name for rule in RULES]
    for name, reason in off.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else "docs/hardening.md lists them."
            problems.append(f"base_hardening_rules_off: there is no rule '{name}'; {hint}")
        elif not str(reason or "").strip():
            problems.append(f"base_hardening_rules_off: give a reason for {name}; it stands in the report.")
    return problems
