"""Checks of the rules of CIS level 1 on the host that it runs on; prints JSON: rule to pass, fail or none.

The names are those of ComplianceAsCode; what each checks is our own reading of the rule. None means that the rule is
about something that the host does not have. Kernel, mounts and boot belong to the machine of a container.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable

Check = Callable[[re.Match[str]], "bool | None"]


def read(*patterns: str) -> str:
    """The text of all files that match, without comments."""
    found = []
    for path in sorted(path for pattern in patterns for path in glob.glob(pattern)):
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as handle:
                found += [line for line in handle.read().splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(found)


def run(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def has(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.MULTILINE) is not None


PACKAGES = set(run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n").replace("ii ", "").split())
SSHD = dict(line.split(" ", 1) for line in run("/usr/sbin/sshd", "-T").splitlines() if " " in line)
AUTH, PASSWORD, ACCOUNT = (read(f"/etc/pam.d/common-{name}") for name in ("auth", "password", "account"))
QUALITY = read("/etc/security/pwquality.conf", "/etc/security/pwquality.conf.d/*.conf")
FAILLOCK = read("/etc/security/faillock.conf")
DEFS = read("/etc/login.defs")
SUDO = read("/etc/sudoers", "/etc/sudoers.d/*")
MODPROBE = read("/etc/modprobe.d/*.conf", "/usr/lib/modprobe.d/*.conf")
JOURNALD = read(
    "/etc/systemd/journald.conf", "/etc/systemd/journald.conf.d/*.conf", "/usr/lib/systemd/journald.conf.d/*"
)
COREDUMP = read("/etc/systemd/coredump.conf", "/etc/systemd/coredump.conf.d/*.conf")
PROFILE = read("/etc/profile", "/etc/profile.d/*.sh")
SYSCTL = read("/etc/sysctl.conf", "/etc/sysctl.d/*.conf", "/usr/lib/sysctl.d/*.conf", "/run/sysctl.d/*.conf")
SHADOW = [line.split(":") for line in read("/etc/shadow").splitlines()]
USERS = pwd.getpwall()
PEOPLE = [user for user in USERS if user.pw_uid >= 1000 and user.pw_name != "nobody" and "nologin" not in user.pw_shell]
NOT_REMOVABLE = {"openldap-clients": "ldap-utils", "openldap-servers": "slapd", "httpd": "apache2", "bind": "bind9",
                 "net-snmp": "snmp", "tftp-server": "tftpd-hpa", "rsh": "rsh-client", "dovecot": "dovecot-core",
                 "avahi": "avahi-daemon", "kea": "kea", "rsync": "rsync"}  # fmt: skip
NAMES = {"pam_modules": "libpam-modules", "pam_pwquality": "libpam-pwquality", "pam_runtime": "libpam-runtime",
         "timesyncd": "systemd-timesyncd"}  # fmt: skip
WANTED_KERNEL = {
    "kernel.dmesg_restrict": "1", "kernel.kptr_restrict": "1|2", "kernel.randomize_va_space": "2",
    "kernel.yama.ptrace_scope": "1|2|3", "fs.suid_dumpable": "0", "fs.protected_hardlinks": "1",
    "net.ipv4.conf.all.log_martians": "1", "net.ipv4.conf.default.log_martians": "1",
    "net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.default.rp_filter": "1",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.icmp_ignore_bogus_error_responses": "1", "net.ipv4.tcp_syncookies": "1",
}  # fmt: skip
# Path of a rule's name to the loosest mode; the group, where it is not root's.
MODES = {
    "etc_issue": ("/etc/issue", 0o644), "etc_issue_net": ("/etc/issue.net", 0o644), "etc_motd": ("/etc/motd", 0o644),
    "etc_group": ("/etc/group", 0o644), "etc_gshadow": ("/etc/gshadow", 0o640), "etc_passwd": ("/etc/passwd", 0o644),
    "etc_shadow": ("/etc/shadow", 0o640), "etc_shells": ("/etc/shells", 0o644),
    "etc_security_opasswd": ("/etc/security/opasswd", 0o600),
    "etc_security_opasswd_old": ("/etc/security/opasswd.old", 0o600),
    "backup_etc_group": ("/etc/group-", 0o644), "backup_etc_gshadow": ("/etc/gshadow-", 0o640),
    "backup_etc_passwd": ("/etc/passwd-", 0o644), "backup_etc_shadow": ("/etc/shadow-", 0o640),
    "grub2_cfg": ("/boot/grub/grub.cfg", 0o600), "crontab": ("/etc/crontab", 0o600),
    **{f"cron_{n}": (f"/etc/cron.{n}", 0o700) for n in ("d", "daily", "hourly", "monthly", "weekly", "yearly")},
    "cron_allow": ("/etc/cron.allow", 0o640), "at_allow": ("/etc/at.allow", 0o640), "at_deny": ("/etc/at.deny", 0o640),
    "sshd_config": ("/etc/ssh/sshd_config", 0o600), "sshd_private_key": ("/etc/ssh/*_key", 0o600),
    "sshd_pub_key": ("/etc/ssh/*.pub", 0o644), "var_log_auth": ("/var/log/auth.log*", 0o640),
    "var_log_cloud_init": ("/var/log/cloud-init*.log", 0o644),
    "var_log_cloud-init": ("/var/log/cloud-init*.log", 0o644),
    "var_log_journal": ("/var/log/journal/*/*.journal", 0o640), "var_log_lastlog": ("/var/log/lastlog", 0o664),
    "var_log_localmessages": ("/var/log/localmessages*", 0o640), "var_log_messages": ("/var/log/messages*", 0o640),
    "var_log_secure": ("/var/log/secure*", 0o640), "var_log_syslog": ("/var/log/syslog*", 0o640),
    "var_log_waagent": ("/var/log/waagent.log*", 0o640), "var_log_wbtmp": ("/var/log/[bw]tmp*", 0o664),
    "var_log": ("/var/log", 0o755), "var_log_apt": ("/var/log/apt/*", 0o644), "var_log_gdm": ("/var/log/gdm/*", 0o640),
    "var_log_gdm3": ("/var/log/gdm3/*", 0o640), "var_log_landscape": ("/var/log/landscape/*", 0o640),
    "var_log_sssd": ("/var/log/sssd/*", 0o640),
}  # fmt: skip
GROUPS = {"root", "shadow", "adm", "utmp", "crontab", "daemon", "systemd-journal", "syslog", "_ssh", "ssh_keys"}


def permissions(kind: str, name: str) -> bool | None:
    if name not in MODES:
        return None
    pattern, loosest = MODES[name]
    infos = [os.stat(path) for path in glob.glob(pattern)]
    if kind == "owner":
        return all(info.st_uid == 0 for info in infos)
    if kind == "groupowner":
        return all(grp.getgrgid(info.st_gid).gr_name in GROUPS for info in infos)
    return all(not stat.S_IMODE(info.st_mode) & ~loosest for info in infos)


def sysctl(name: str) -> bool | None:
    """Both what the files say and what the kernel does; a container's kernel is asked for its network alone."""
    key = next((k for k in KEYS if k.replace(".", "_") == name), "")
    if not key.startswith("net."):
        return None
    wanted = WANTED_KERNEL.get(key, "0")
    with open("/proc/sys/" + key.replace(".", "/"), encoding="ascii") as handle:
        now = handle.read().strip()
    return has(rf"^\s*{re.escape(key)}\s*=\s*({wanted})\s*$", SYSCTL) and re.fullmatch(wanted, now) is not None


def keys() -> Iterable[str]:
    for top in ("net/ipv4", "net/ipv6", "kernel", "fs"):
        for folder, _folders, files in os.walk("/proc/sys/" + top):
            yield from (os.path.join(folder, name)[10:].replace("/", ".") for name in files)


KEYS = set(keys())


def enabled(unit: str) -> bool:
    return run("systemctl", "is-enabled", unit).strip() in ("enabled", "static", "alias")


def module_blocked(name: str) -> bool:
    words = name.replace("_", "[-_]")
    return has(rf"^install {words} /bin/(true|false)", MODPROBE) and has(rf"^blacklist {words}$", MODPROBE)


def number(name: str, low: int, high: int) -> bool:
    return low <= int(SSHD.get(name, "-1").split(":")[0]) <= high


def value(pattern: str, text: str, good: Callable[[int], bool]) -> bool:
    found = re.findall(pattern + r"\s*=\s*(-?\d+)", text, re.MULTILINE)
    return bool(found) and good(int(found[-1]))


def homes(check: Callable[[pwd.struct_passwd], bool]) -> bool:
    return all(check(user) for user in PEOPLE)


def dot_files_owned(user: pwd.struct_passwd, group: bool) -> bool:
    infos = [os.lstat(path) for path in glob.glob(f"{user.pw_dir}/.*") if os.path.basename(path) not in (".", "..")]
    return all((i.st_gid if group else i.st_uid) == (user.pw_gid if group else user.pw_uid) for i in infos)


def init_files(user: pwd.struct_passwd) -> bool:
    paths = [path for path in glob.glob(f"{user.pw_dir}/.*") if os.path.isfile(path)]
    return all(not stat.S_IMODE(os.stat(path).st_mode) & 0o037 for path in paths)


def unique(items: Iterable[object]) -> bool:
    found = list(items)
    return len(found) == len(set(found))


def no_banner_escape(path: str) -> bool:
    text = read(path)
    return not has(r"\\[mrsv]", text)


def owned() -> bool:
    out = run(
        "find", "/", "-xdev", "(", "-nouser", "-o", "-nogroup", ")", "-not", "-path", "/proc/*", "-print", "-quit"
    )
    return out == ""


def world_writable() -> bool:
    return (
        run("find", "/", "-xdev", "-type", "f", "-perm", "-0002", "-not", "-path", "/proc/*", "-print", "-quit") == ""
    )


WHEEL = re.search(r"^auth\s+required\s+pam_wheel\.so.*\bgroup=(\S+)", read("/etc/pam.d/su"), re.MULTILINE)
SYSTEM = [u for u in USERS if 0 < u.pw_uid < 1000 and u.pw_name not in ("sync", "halt", "shutdown")]
ROOT_PATH = [d for d in os.environ.get("PATH", "").split(":") if os.path.isdir(d)]
# The rule to its check. A rule whose whole point is the machine, or whose program is not there, has none.
RULES: dict[str, Callable[[], bool | None]] = {
    "package_aide_installed": lambda: "aide" in PACKAGES,
    "aide_build_database": lambda: bool(glob.glob("/var/lib/aide/aide.db*")),
    "aide_periodic_checking_systemd_timer": lambda: enabled("dailyaidecheck.timer") if "aide" in PACKAGES else None,
    "disable_prelink": lambda: "prelink" not in PACKAGES,
    "sudo_add_use_pty": lambda: has(r"^Defaults\s+use_pty", SUDO),
    "sudo_custom_logfile": lambda: has(r"^Defaults\s+logfile=", SUDO),
    "sudo_remove_no_authenticate": lambda: not has(r"!authenticate", SUDO),
    "sudo_require_reauthentication": lambda: value(r"timestamp_timeout", SUDO, lambda n: 0 <= n <= 15),
    "banner_etc_issue_cis": lambda: no_banner_escape("/etc/issue"),
    "banner_etc_issue_net_cis": lambda: no_banner_escape("/etc/issue.net"),
    "banner_etc_motd_cis": lambda: no_banner_escape("/etc/motd"),
    "accounts_password_pam_unix_enabled": lambda: has(r"pam_unix\.so", AUTH) and has(r"pam_unix\.so", PASSWORD),
    "accounts_password_pam_unix_authtok": lambda: has(r"pam_unix\.so.*use_authtok", PASSWORD),
    "accounts_password_pam_unix_no_remember": lambda: not has(r"pam_unix\.so.*remember=", PASSWORD),
    "accounts_password_pam_pwhistory_enabled": lambda: has(r"pam_pwhistory\.so", PASSWORD),
    "accounts_password_pam_pwhistory_enforce_root": lambda: has(r"pam_pwhistory\.so.*enforce_for_root", PASSWORD),
    "accounts_password_pam_pwhistory_remember": lambda: has(r"pam_pwhistory\.so.*remember=(2[4-9]|[3-9]\d)", PASSWORD),
    "accounts_password_pam_pwhistory_use_authtok": lambda: has(r"pam_pwhistory\.so.*use_authtok", PASSWORD),
    "accounts_passwords_pam_faillock_enabled": lambda: (
        has(r"pam_faillock\.so preauth", AUTH)
        and has(r"pam_faillock\.so authfail", AUTH)
        and has(r"pam_faillock\.so", ACCOUNT)
    ),
    "accounts_passwords_pam_faillock_deny": lambda: value(r"^\s*deny", FAILLOCK, lambda n: 0 < n <= 5),
    "accounts_passwords_pam_faillock_unlock_time": lambda: value(r"^\s*unlock_time", FAILLOCK, lambda n: n >= 900),
    "accounts_password_pam_dictcheck": lambda: (
        not has(r"^\s*dictcheck\s*=\s*0", QUALITY) and "libpam-pwquality" in PACKAGES
    ),
    "accounts_password_pam_difok": lambda: value(r"^\s*difok", QUALITY, lambda n: n >= 2),
    "accounts_password_pam_enforce_root": lambda: has(r"^\s*enforce_for_root", QUALITY),
    "accounts_password_pam_enforcing": lambda: (
        not has(r"^\s*enforcing\s*=\s*0", QUALITY) and "libpam-pwquality" in PACKAGES
    ),
    "accounts_password_pam_maxrepeat": lambda: value(r"^\s*maxrepeat", QUALITY, lambda n: 0 < n <= 3),
    "accounts_password_pam_maxsequence": lambda: value(r"^\s*maxsequence", QUALITY, lambda n: 0 < n <= 3),
    "accounts_password_pam_minclass": lambda: value(r"^\s*minclass", QUALITY, lambda n: n >= 4),
    "accounts_password_pam_minlen": lambda: value(r"^\s*minlen", QUALITY, lambda n: n >= 14),
    "accounts_password_pam_pwquality_enabled": lambda: has(r"pam_pwquality\.so", PASSWORD),
    **{
        f"accounts_password_pam_{name}": lambda name=name: value(rf"^\s*{name}", QUALITY, lambda n: n <= -1)
        for name in ("dcredit", "lcredit", "ocredit", "ucredit")
    },
    "set_password_hashing_algorithm_logindefs": lambda: has(r"^ENCRYPT_METHOD\s+(YESCRYPT|SHA512)", DEFS),
    "set_password_hashing_algorithm_systemauth": lambda: has(r"pam_unix\.so.*(yescrypt|sha512)", PASSWORD),
    "account_unique_id": lambda: unique(u.pw_uid for u in USERS),
    "account_unique_name": lambda: unique(u.pw_name for u in USERS),
    "group_unique_id": lambda: unique(g.gr_gid for g in grp.getgrall()),
    "group_unique_name": lambda: unique(g.gr_name for g in grp.getgrall()),
    "account_disable_post_pw_expiration": lambda: has(
        r"^INACTIVE=([1-9]|[1-3]\d|4[0-5])$", read("/etc/default/useradd")
    ),
    "ensure_shadow_group_empty": lambda: not grp.getgrnam("shadow").gr_mem,
    "accounts_maximum_age_login_defs": lambda: has(r"^PASS_MAX_DAYS\s+([1-9]\d?|[12]\d\d|3[0-5]\d|36[0-5])$", DEFS),
    "accounts_password_set_max_life_existing": lambda: all(
        len(w[1]) < 3 or (w[4].isdigit() and int(w[4]) <= 365) for w in SHADOW
    ),
    "accounts_password_warn_age_login_defs": lambda: has(r"^PASS_WARN_AGE\s+([7-9]|\d\d)", DEFS),
    "accounts_set_post_pw_existing": lambda: all(len(w[1]) < 3 or w[6] != "" for w in SHADOW),
    "accounts_password_all_shadowed": lambda: all(u.pw_passwd == "x" for u in USERS),
    "accounts_password_last_change_is_in_past": lambda: all(int(w[2] or 0) < 40000 for w in SHADOW),
    "gid_passwd_group_same": lambda: all(u.pw_gid in {g.gr_gid for g in grp.getgrall()} for u in USERS),
    "no_empty_passwords_etc_shadow": lambda: all(w[1] != "" for w in SHADOW),
    "no_empty_passwords_unix": lambda: not has(r"pam_unix\.so.*nullok", AUTH + PASSWORD),
    "no_forward_files": lambda: homes(lambda u: not os.path.exists(f"{u.pw_dir}/.forward")),
    "no_netrc_files": lambda: homes(lambda u: not os.path.exists(f"{u.pw_dir}/.netrc")),
    "accounts_no_uid_except_zero": lambda: [u.pw_name for u in USERS if u.pw_uid == 0] == ["root"],
    "accounts_root_gid_zero": lambda: pwd.getpwnam("root").pw_gid == 0,
    "groups_no_zero_gid_except_root": lambda: [g.gr_name for g in grp.getgrall() if g.gr_gid == 0] == ["root"],
    "ensure_pam_wheel_group_empty": lambda: WHEEL is not None and not grp.getgrnam(WHEEL.group(1)).gr_mem,
    "use_pam_wheel_group_for_su": lambda: WHEEL is not None,
    "ensure_root_access_controlled": lambda: next(w[1] for w in SHADOW if w[0] == "root") != "",
    "no_invalid_shell_accounts_unlocked": lambda: all(
        w[1][:1] in "!*" for w in SHADOW if "nologin" in pwd.getpwnam(w[0]).pw_shell
    ),
    "no_shelllogin_for_systemaccounts": lambda: all(re.search(r"nologin|/false$", u.pw_shell) for u in SYSTEM),
    "accounts_tmout": lambda: has(r"TMOUT=([1-9]\d?|[1-8]\d\d|900)$", PROFILE),
    "accounts_user_dot_group_ownership": lambda: homes(lambda u: dot_files_owned(u, True)),
    "accounts_user_dot_user_ownership": lambda: homes(lambda u: dot_files_owned(u, False)),
    "accounts_user_interactive_home_directory_exists": lambda: homes(lambda u: os.path.isdir(u.pw_dir)),
    "file_groupownership_home_directories": lambda: homes(lambda u: os.stat(u.pw_dir).st_gid == u.pw_gid),
    "file_ownership_home_directories": lambda: homes(lambda u: os.stat(u.pw_dir).st_uid == u.pw_uid),
    "file_permissions_home_directories": lambda: homes(lambda u: not stat.S_IMODE(os.stat(u.pw_dir).st_mode) & 0o027),
    "file_permission_user_bash_history": lambda: homes(
        lambda u: all(not os.stat(p).st_mode & 0o077 for p in glob.glob(f"{u.pw_dir}/.bash_history"))
    ),
    "file_permission_user_init_files": lambda: homes(init_files),
    "accounts_root_path_dirs_no_write": lambda: all(not os.stat(d).st_mode & 0o022 for d in ROOT_PATH),
    "no_dirs_unowned_by_root": lambda: all(os.stat(d).st_uid == 0 for d in ROOT_PATH),
    "root_path_all_dirs": lambda: "" not in os.environ.get("PATH", "").split(":"),
    "root_path_no_dot": lambda: "." not in os.environ.get("PATH", "").split(":"),
    "accounts_umask_etc_bashrc": lambda: has(r"^\s*umask 0?[0-7]?[2367]7$", read("/etc/bash.bashrc")),
    "accounts_umask_etc_login_defs": lambda: has(r"^UMASK\s+0?[0-7]?[2367]7$", DEFS),
    "accounts_umask_etc_profile": lambda: has(r"^\s*umask 0?[0-7]?[2367]7$", PROFILE),
    "accounts_umask_root": lambda: not has(r"^\s*umask\s+0?[01]?[0145]", read("/root/.bashrc", "/root/.profile")),
    "package_apparmor-utils_installed": lambda: "apparmor-utils" in PACKAGES,
    "journald_compress": lambda: has(r"^Compress=yes", JOURNALD),
    "journald_disable_forward_to_syslog": lambda: has(r"^ForwardToSyslog=no", JOURNALD),
    "journald_storage": lambda: has(r"^Storage=persistent", JOURNALD),
    "service_systemd-journald_enabled": lambda: enabled("systemd-journald.service"),
    "socket_systemd-journal-remote_disabled": lambda: not enabled("systemd-journal-remote.socket"),
    "rsyslog_nolisten": lambda: not has(r"imtcp|imudp", read("/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf")),
    "service_ufw_enabled": lambda: enabled("ufw.service"),
    "check_ufw_active": lambda: has(r"^ENABLED=yes", read("/etc/ufw/ufw.conf")),
    "ufw_default_incoming_rule": lambda: has(r'^DEFAULT_INPUT_POLICY="(DROP|REJECT)"', read("/etc/default/ufw")),
    "ufw_disabled_routed": lambda: has(r'^DEFAULT_FORWARD_POLICY="(DROP|REJECT)"', read("/etc/default/ufw")),
    "no_files_unowned_by_user": owned,
    "file_permissions_ungroupowned": owned,
    "file_permissions_unauthorized_world_writable": world_writable,
    "coredump_disable_backtraces": lambda: has(r"^ProcessSizeMax=0", COREDUMP),
    "coredump_disable_storage": lambda: has(r"^Storage=none", COREDUMP),
    "disable_users_coredumps": lambda: has(
        r"^\*\s+hard\s+core\s+0$", read("/etc/security/limits.conf", "/etc/security/limits.d/*.conf")
    ),
    "package_cron_installed": lambda: None,
    "service_cron_enabled": lambda: enabled("cron.service") if "cron" in PACKAGES else None,
    "file_at_allow_exists": lambda: os.path.exists("/etc/at.allow"),
    "file_cron_allow_exists": lambda: os.path.exists("/etc/cron.allow"),
    "file_cron_deny_not_exist": lambda: not os.path.exists("/etc/cron.deny"),
    "has_nonlocal_mta": lambda: not has(r"(0\.0\.0\.0|\[::\]|\*):(25|465|587)\s", run("ss", "-ltn")),
    "service_timesyncd_enabled": lambda: enabled("systemd-timesyncd.service") or enabled("chrony.service"),
    "ntp_single_service_active": lambda: enabled("systemd-timesyncd.service") != enabled("chrony.service"),
    "package_timesyncd_installed": lambda: bool({"systemd-timesyncd", "chrony"} & PACKAGES),
    "sshd_set_keepalive": lambda: number("clientalivecountmax", 1, 3),
    "sshd_set_idle_timeout": lambda: number("clientaliveinterval", 1, 300),
    "disable_host_auth": lambda: SSHD["hostbasedauthentication"] == "no",
    "sshd_disable_empty_passwords": lambda: SSHD["permitemptypasswords"] == "no",
    "sshd_disable_rhosts": lambda: SSHD["ignorerhosts"] == "yes",
    "sshd_disable_root_login": lambda: SSHD["permitrootlogin"] == "no",
    "sshd_do_not_permit_user_env": lambda: SSHD["permituserenvironment"] == "no",
    "sshd_enable_pam": lambda: SSHD["usepam"] == "yes",
    "sshd_enable_warning_banner_net": lambda: SSHD["banner"] == "/etc/issue.net",
    "sshd_limit_user_access": lambda: bool({"allowusers", "allowgroups", "denyusers", "denygroups"} & set(SSHD)),
    "sshd_set_login_grace_time": lambda: number("logingracetime", 1, 60),
    "sshd_set_loglevel_info": lambda: SSHD["loglevel"] in ("INFO", "VERBOSE"),
    "sshd_set_max_auth_tries": lambda: number("maxauthtries", 1, 4),
    "sshd_set_max_sessions": lambda: number("maxsessions", 1, 10),
    "sshd_set_maxstartups": lambda: number("maxstartups", 1, 10),
    "sshd_use_strong_ciphers": lambda: not has(r"cbc|3des|arcfour", SSHD["ciphers"]),
    "sshd_use_strong_kex": lambda: not has(r"sha1|group1-|group-exchange", SSHD["kexalgorithms"]),
    "sshd_use_strong_macs": lambda: not has(r"md5|ripemd|sha1|umac-64|-96", SSHD["macs"]),
}
# Families of rules; the first that matches counts, unless the rule has a check of its own.
FAMILIES: tuple[tuple[str, Check], ...] = (
    (r"file_(owner|groupowner|permissions)_(.*)", lambda m: permissions(m[1], m[2])),
    (r"file_(owner|groupowner)ships_(.*)", lambda m: permissions(m[1], m[2])),
    (r"sysctl_(.*)", lambda m: sysctl(m[1])),
    (r"kernel_module_(.*)_disabled", lambda m: module_blocked(m[1])),
    (r"package_(.*)_removed", lambda m: NOT_REMOVABLE.get(m[1], m[1]) not in PACKAGES),
    (r"package_(.*)_installed", lambda m: NAMES.get(m[1], m[1]) in PACKAGES),
    (r"service_(.*)_disabled", lambda m: not enabled(m[1].replace("_", "-") + ".service")),
)
# One of two that exclude each other is enough, and this host has the other one; or it is the machine's.
ALTERNATIVES = {
    "package_chrony_installed", "package_rsyslog_installed", "service_timesyncd_disabled", "service_chronyd_disabled",
    "package_systemd-journal-remote_installed",
}  # fmt: skip


def check(rule: str) -> str:
    found: bool | None = None
    if rule in RULES:
        found = RULES[rule]()
    elif rule not in ALTERNATIVES:
        hits = [(test, re.fullmatch(pattern, rule)) for pattern, test in FAMILIES]
        found = next((test(match) for test, match in hits if match), None)
    return "none" if found is None else "pass" if found else "fail"


if __name__ == "__main__":
    json.dump({rule: check(rule) for rule in sys.stdin.read().split()}, sys.stdout)
