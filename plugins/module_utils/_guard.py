# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keeps how a host was, and puts it back: when nobody confirms a change of its doors, or when somebody asks for it.

Private to this collection. It is also a program: this very file lies on the host, where systemd runs it when the time
is up or after a restart. So it imports the standard library alone, and needs neither Ansible nor the controller.

- C(first): each file, unit and kernel parameter as it was before the first change ever; for unhardening.
- C(armed): the doors, as they were before a change that nobody has confirmed yet. The oldest state counts.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import inspect
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

ROOT = "/var/lib/bulwark-guard"
ETC = "/etc/systemd/system"
NAME = "bulwark-guard"
# See lckpwdf(3).
ACCOUNTS_LOCK = "/etc/.pwd.lock"
# What decides who comes in and may do what. A change below these is armed.
DOORS = (
    "/etc/ssh/",
    "/etc/ufw/",
    "/etc/default/ufw",
    "/etc/sudoers",
    "/etc/pam.d/",
    "/etc/security/",
    "/etc/systemd/system/ssh.",
)
KEYS = re.compile(r"/\.ssh(/|$)")
DOOR_UNITS = ("ssh.service", "ssh.socket", "ufw.service")
# A wrong one of these drops packets; those of the kernel let in whom they let in before.
DOOR_SYSCTLS = "net."
# Kept whole before the first change, whoever makes it.
TREES = ("/etc/ssh", "/etc/ufw", "/etc/pam.d", "/etc/security", "/etc/sudoers.d", f"{ETC}/ssh.service.d")
SINGLE = ("/etc/sudoers", "/etc/default/ufw", f"{ETC}/ssh.socket.d")
# What is new in these goes when the old state comes back; elsewhere a package may have placed it meanwhile.
CLOSED_TREES = ("/etc/ssh/sshd_config.d", "/etc/sudoers.d", f"{ETC}/ssh.service.d", f"{ETC}/ssh.socket.d")
ACCOUNTS = tuple(f"/etc/{name}" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"))
# Of these, lines with this beginning alone are ours to put back.
LINES = {"/etc/fstab": "/swapfile ", "/etc/hosts": "127.0.1.1"}
RESTARTED = {"/etc/systemd/journald.conf.d/": "systemd-journald.service", "/etc/fail2ban/": "fail2ban.service"}
# Chains in the kernel beside those of UFW, and the files that load them.
CHAIN = "bulwark-"
AFTER = {"iptables": "/etc/ufw/after.rules", "ip6tables": "/etc/ufw/after6.rules"}
LARGE = 262_144
SERVICE = """# Managed by Ansible (bulwark.stack).
[Unit]
Description=Put back SSH, accounts and firewall as they were before a change that nobody confirmed
ConditionPathExists={root}/armed/state.json
After=ssh.service ssh.socket ufw.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={python} -I {root}/guard.py
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
TIMER = """# Managed by Ansible (bulwark.stack).
[Unit]
Description=Time to confirm a change of SSH, accounts or firewall
# Each step of a run begins the time anew.
StartLimitIntervalSec=0

[Timer]
OnActiveSec={seconds}
AccuracySec=1
"""


class GuardError(Exception):
    """The way back cannot be prepared, or a step of it failed; the text says why."""


# -- small things


def call(*words: str) -> str:
    """Runs a program and gives its output.

    @raises GuardError: it failed or is not there
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    except OSError as exc:
        raise GuardError(f"{words[0]}: {exc.strerror}") from exc
    if done.returncode:
        raise GuardError(f"'{' '.join(words)}' failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as handle:
            return handle.read()
    except OSError:
        return ""


def write(path: str, data: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Replaces a file in one step that survives a loss of power."""
    temporary = f"{path}.bulwark-new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    if os.geteuid() == 0:
        os.chown(temporary, uid, gid)
    os.chmod(temporary, mode)
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """What was placed in a folder is there after a loss of power, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """Changes with each start of the host; a container shares the number of the kernel, and not that of its init."""
    started = read("/proc/1/stat").rpartition(")")[2].split()
    return read("/proc/sys/kernel/random/boot_id").strip() + (f" {started[19]}" if len(started) > 19 else "")


def sysctl_path(key: str) -> str:
    return "/proc/sys/" + key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def is_door(path: str) -> bool:
    return path.startswith(DOORS) or KEYS.search(path) is not None


def inside(top: str) -> list[str]:
    return [os.path.join(at, name) for at, folders, names in os.walk(top) for name in folders + names]


def unit_states(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Unit to what systemd says of it: C(load), C(file) and C(active)."""
    wanted = list(names)
    if not wanted:
        return {}
    out = call("systemctl", "show", "-p", "LoadState,UnitFileState,ActiveState", *wanted)
    states = {}
    for name, block in zip(wanted, out.split("\n\n")):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        states[name] = {
            "load": shown.get("LoadState", ""),
            "file": shown.get("UnitFileState", ""),
            "active": shown.get("ActiveState", ""),
        }
    return states


def by_name(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        found.setdefault(line.partition(":")[0], []).append(line)
    return found


def merge_accounts(before: str, now: str, ours: set[str]) -> str:
    """An account file with its old lines; new names stay, unless they are ours: a package may have added some."""
    old, new = by_name(before), by_name(now)
    kept = {name: lines for name, lines in new.items() if name in old or name not in ours}
    return "".join(
        line + "\n" for name in [*kept, *(n for n in old if n not in kept)] for line in old.get(name) or new[name]
    )


def merge_lines(before: str, now: str, prefix: str) -> str:
    """The text of today with the lines of this beginning as they were; they keep the place of the first of today's."""
    old = [line for line in before.splitlines(True) if line.startswith(prefix)]
    lines: list[str] = []
    for line in now.splitlines(True):
        if line.startswith(prefix):
            lines += old
            old = []
        else:
            lines.append(line)
    return "".join(lines + old)


# -- what was


class Kept:
    """States as they were, in one file for root alone: it is written in one step, and waits for the disk once."""

    def __init__(self, folder: str) -> None:
        self.folder = f"{ROOT}/{folder}"
        text = read(f"{self.folder}/state.json")
        self.exists = bool(text)
        self.data: dict[str, Any] = {"paths": {}, "units": {}, "sysctls": {}, "users": [], "homes": [], "packages": []}
        self.data.update(json.loads(text) if text else {})

    def save(self) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        write(f"{self.folder}/state.json", json.dumps(self.data).encode(), 0o600)
        self.exists = True

    def drop(self) -> None:
        """Forgets it. The one rename decides, also for somebody who is killed right after it."""
        gone = f"{self.folder}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        if os.path.isdir(self.folder):
            os.rename(self.folder, gone)
        shutil.rmtree(gone, ignore_errors=True)
        self.exists = False

    def path(self, path: str) -> None:
        """Keeps what is at a path, and that the folders above it are not there yet; the first look counts."""
        path = os.path.normpath(path)
        if path in self.data["paths"]:
            return
        if not os.path.lexists(path):
            self.data["paths"][path] = None
            if os.path.dirname(path) != path:
                self.missing_parent(os.path.dirname(path))
            return
        info = os.lstat(path)
        entry: dict[str, Any] = {"mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid}
        if stat.S_ISLNK(info.st_mode):
            entry["link"] = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as handle:
                entry.update(text=base64.b64encode(handle.read()).decode(), time=info.st_mtime_ns)
        elif not stat.S_ISDIR(info.st_mode):
            return
        self.data["paths"][path] = entry

    def missing_parent(self, path: str) -> None:
        if not os.path.lexists(path):
            self.path(path)

    def tree(self, top: str) -> None:
        self.path(top)
        for folder, folders, names in os.walk(top):
            for name in sorted(folders + names):
                path = os.path.join(folder, name)
                # Host keys never change here, and moduli are half a megabyte.
                if not name.startswith("ssh_host_") and os.lstat(path).st_size <= LARGE:
                    self.path(path)

    def units(self, names: Iterable[str]) -> None:
        self.data["units"].update(unit_states(name for name in names if name not in self.data["units"]))

    def sysctl(self, key: str) -> None:
        if key not in self.data["sysctls"] and os.path.exists(sysctl_path(key)):
            self.data["sysctls"][key] = " ".join(read(sysctl_path(key)).split())

    def add(self, paths: Iterable[str] = (), units: Iterable[str] = (), sysctls: Iterable[str] = ()) -> None:
        """Keeps what is not known yet, on disk."""
        for path in paths:
            self.path(path)
        self.units(units)
        for key in sysctls:
            self.sysctl(key)
        self.save()

    def doors(self) -> None:
        """Keeps all that decides who comes in."""
        for top in TREES:
            self.tree(top)
        for path in (*SINGLE, *ACCOUNTS):
            self.path(path)
        for line in read(ACCOUNTS[0]).splitlines():
            words = line.split(":")
            if len(words) == 7 and words[5].startswith("/") and not words[6].endswith(("nologin", "false", "sync")):
                for name in ("", "/.ssh", "/.ssh/authorized_keys"):
                    self.path(words[5] + name)
        self.units(DOOR_UNITS)


# -- the way back


class Return:
    """Brings a host back to what was kept. Goes on after a step that fails: half a way may be enough to come in."""

    def __init__(self, kept: Kept, left: Iterable[str] = ()) -> None:
        self.kept = kept
        self.left = set(left)
        self.changed: list[str] = []
        self.problems: list[str] = []

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, GuardError, ValueError) as exc:
            self.problems.append(f"{what}: {getattr(exc, 'strerror', None) or exc}")

    def run(self) -> None:
        paths = {path: entry for path, entry in self.kept.data["paths"].items() if path not in self.left}
        for path in sorted(paths):
            if paths[path] is not None and path not in ACCOUNTS:
                with self.step(path):
                    self.put(path, paths[path])
        self.accounts(paths)
        absent = [path for path, entry in paths.items() if entry is None] + self.strangers(paths)
        for path in sorted(absent, reverse=True):
            with self.step(path):
                self.remove(path)
        with self.step("systemd"):
            call("systemctl", "daemon-reload")
        with self.step("firewall"):
            self.firewall()
        # After UFW, which sets some of its own.
        for key, value in sorted(self.kept.data["sysctls"].items(), key=lambda item: "forward" not in item[0]):
            with self.step(key):
                self.sysctl(key, value)
        with self.step("units"):
            self.units()
        with self.step("ssh"):
            self.ssh()

    def touched(self, *beginnings: str) -> bool:
        return any(path.startswith(beginnings) for path in self.changed)

    def put(self, path: str, entry: dict[str, Any]) -> None:
        """A file, a link or a folder as it was; time stamps too, because units compare them."""
        owner = (entry["mode"], entry["uid"], entry["gid"])
        info = os.lstat(path) if os.path.lexists(path) else None
        same = info is not None and (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == owner
        if "link" in entry:
            if info is not None and stat.S_ISLNK(info.st_mode) and os.readlink(path) == entry["link"]:
                return
            temporary = f"{path}.bulwark-new"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(entry["link"], temporary)
            os.replace(temporary, path)
        elif "text" in entry:
            data = base64.b64decode(entry["text"])
            now = (
                read(path).encode(errors="surrogateescape") if info is not None and stat.S_ISREG(info.st_mode) else None
            )
            if path in LINES and now is not None:
                data = merge_lines(data.decode(errors="surrogateescape"), read(path), LINES[path]).encode(
                    errors="surrogateescape"
                )
            if same and now == data:
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write(path, data, *owner)
            os.utime(path, ns=(entry["time"], entry["time"]))
        else:
            if same and info is not None and stat.S_ISDIR(info.st_mode):
                return
            os.makedirs(path, exist_ok=True)
            os.chown(path, entry["uid"], entry["gid"])
            os.chmod(path, entry["mode"])
        self.changed.append(path)
        if path == "/etc/hostname":
            call("hostname", "-F", path)

    def strangers(self, paths: dict[str, Any]) -> list[str]:
        """What is new in folders where everything that was there is known."""
        found = []
        for top in CLOSED_TREES:
            if self.kept.data.get("doors") and os.path.isdir(top):
                found += [f"{top}/{name}" for name in os.listdir(top) if f"{top}/{name}" not in paths]
        return [path for path in found if path not in self.left]

    def remove(self, path: str) -> None:
        if not os.path.lexists(path):
            return
        if os.path.isdir(path) and not os.path.islink(path):
            if path in self.kept.data["homes"]:
                shutil.rmtree(path)
            elif os.listdir(path):
                return
            else:
                os.rmdir(path)
        else:
            if path == "/swapfile" and f"{path} " in read("/proc/swaps"):
                call("swapoff", path)
            os.unlink(path)
        self.changed.append(path)

    def accounts(self, paths: dict[str, Any]) -> None:
        """The account files line by line: whom a package created meanwhile stays."""
        ours = set(self.kept.data["users"])
        if not ours:
            return
        with self.step("accounts"), open(ACCOUNTS_LOCK, "w", encoding="utf-8") as lock_file:
            fcntl.lockf(lock_file, fcntl.LOCK_EX)
            for path in ACCOUNTS:
                entry, now = paths.get(path), read(path)
                if not entry or "text" not in entry:
                    continue
                before = base64.b64decode(entry["text"]).decode(errors="surrogateescape")
                text = merge_accounts(before, now, ours)
                if by_name(text) != by_name(now):
                    data = text.encode(errors="surrogateescape")
                    write(path, data, entry["mode"], entry["uid"], entry["gid"])
                    self.changed.append(path)

    def sysctl(self, key: str, value: str) -> None:
        if read(sysctl_path(key)).split() != value.split():
            with open(sysctl_path(key), "w", encoding="utf-8") as handle:
                handle.write(value)
            self.changed.append(key)

    def firewall(self) -> None:
        loaded = self.kept.data.get("firewall") or self.touched("/etc/ufw/", "/etc/default/ufw")
        if loaded and shutil.which("ufw"):
            enabled = re.search(r"^ENABLED=yes$", read("/etc/ufw/ufw.conf"), re.MULTILINE | re.IGNORECASE)
            call("ufw", *(("reload",) if enabled else ("--force", "disable")))
            for program, path in AFTER.items():
                if CHAIN not in read(path):
                    self.drop_chains(program)

    def drop_chains(self, program: str) -> None:
        """Takes away the chains for what Docker publishes; UFW only knows those of its own name."""
        rules = [shlex.split(line) for line in call(program, "-S").splitlines()]
        for words in rules:
            if words[0] == "-A" and not words[1].startswith(CHAIN) and words[-1].startswith(CHAIN):
                call(program, "-D", *words[1:])
        chains = [words[1] for words in rules if words[0] == "-N" and words[1].startswith(CHAIN)]
        for verb in ("-F", "-X"):
            for chain in chains:
                call(program, verb, chain)
        # Docker makes this one again when it starts; where it uses it now, the kernel keeps it.
        with contextlib.suppress(GuardError):
            call(program, "-X", "DOCKER-USER")

    def units(self) -> None:
        """Enabled or not, running or not, as they were; what was not there is switched off. First, who has to stop."""
        kept, now = dict(self.kept.data["units"]), unit_states(self.kept.data["units"])
        if kept.get("ssh.socket", {}).get("active") == "active":
            # A socket starts its service at the first connection.
            kept.pop("ssh.service", None)
        for name, was in kept.items():
            absent = was["load"] in ("not-found", "")
            if (absent or was["file"] == "disabled") and now[name]["file"] in ("enabled", "enabled-runtime"):
                self.unit("disable", name)
            if (absent or was["active"] in ("inactive", "failed")) and now[name]["active"] in ("active", "activating"):
                self.unit("stop", name)
        for name, was in kept.items():
            if was["file"] in ("enabled", "enabled-runtime") and now[name]["file"] == "disabled":
                self.unit("enable", name)
            if was["active"] == "active" and now[name]["active"] not in ("active", "activating", "reloading"):
                self.unit("start", name)
        for beginning, name in RESTARTED.items():
            if self.touched(beginning):
                with self.step(name):
                    call("systemctl", "try-restart", name)

    def unit(self, verb: str, name: str) -> None:
        with self.step(name):
            call("systemctl", verb, name)
            self.changed.append(name)

    def ssh(self) -> None:
        if not self.touched("/etc/ssh/", f"{ETC}/ssh."):
            return
        if unit_states(["ssh.socket"])["ssh.socket"]["active"] == "active":
            # A socket does not move while its service runs; connections stay, they are processes of their own.
            call("systemctl", "stop", "ssh.service", "ssh.socket")
            call("systemctl", "start", "ssh.socket")
        else:
            call("systemctl", "reload-or-restart", "ssh.service")


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Who changes, confirms or puts back does it alone."""
    os.makedirs(ROOT, mode=0o700, exist_ok=True)
    with open(f"{ROOT}/lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def arm(seconds: int) -> Kept:
    """Prepares the way back from now on, or gives more time to the one that is prepared already.

    @raises GuardError: the host could not come back by itself
    """
    kept = Kept("armed")
    new = not kept.exists
    if new:
        kept.data.update(doors=True, boot=boot_id(), since=int(time.time()))
        kept.doors()
    kept.data["seconds"] = seconds
    kept.save()
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    write(f"{ROOT}/guard.py", inspect.getsource(sys.modules[__name__]).encode(), 0o600)
    write(f"{ETC}/{NAME}.service", SERVICE.format(root=ROOT, python=python).encode(), 0o644)
    write(f"{ETC}/{NAME}.timer", TIMER.format(seconds=seconds).encode(), 0o644)
    try:
        call("systemctl", "enable", f"{NAME}.service")
        call("systemctl", "daemon-reload")
        call("systemctl", "restart", f"{NAME}.timer")
    except GuardError:
        # What was armed before stays so, and its time runs on.
        if new:
            kept.drop()
        with contextlib.suppress(GuardError):
            call("systemctl", "reset-failed", f"{NAME}.timer")
            call("systemctl", "start", f"{NAME}.timer")
        raise
    sync_folder(f"{ETC}/multi-user.target.wants")
    return kept


def disarm() -> None:
    Kept("armed").drop()
    call("systemctl", "stop", f"{NAME}.timer")
    call("systemctl", "disable", f"{NAME}.service")


def put_back(why: str = "") -> dict[str, Any]:
    """Brings the armed state back and writes down what was done; an empty dictionary when nothing is armed."""
    with locked():
        kept = Kept("armed")
        if not kept.exists:
            return {}
        if not why:
            rebooted = kept.data.get("boot") != boot_id()
            why = (
                "the host restarted before the change was confirmed"
                if rebooted
                else f"nobody confirmed the change within {kept.data['seconds']} s"
            )
        back = Return(kept)
        back.run()
        report = {"time": int(time.time()), "why": why, "changed": back.changed, "problems": back.problems}
        write(f"{ROOT}/put_back.json", json.dumps(report, indent=1).encode(), 0o600)
        disarm()
        return report


def sentence(report: dict[str, Any]) -> str:
    """What a rollback did, for people."""
    if not report:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report["time"]))
    text = f"At {when} the host put back SSH, accounts and firewall as they were, because {report['why']}."
    if report["changed"]:
        text += f" Put back: {', '.join(report['changed'])}."
    if report["problems"]:
        text += f" Not possible: {'; '.join(report['problems'])}."
    return text


def last_report() -> dict[str, Any]:
    return json.loads(read(f"{ROOT}/put_back.json") or "{}")


def status() -> dict[str, Any]:
    """Whether a change waits for its confirmation, and what the last rollback did, until a run was told."""
    report = last_report()
    return {
        "armed": os.path.exists(f"{ROOT}/armed/state.json"),
        "put_back": sentence(report),
        "put_back_paths": report.get("changed", []),
    }


def confirm() -> bool:
    """Keeps the change for good; False when the host has put it back already."""
    with locked():
        if not Kept("armed").exists:
            return False
        disarm()
        forget_report()
        return True


def stays(path: str) -> bool:
    """Whether a path belongs to the accounts: whoever asks for unhardening comes in as one of the admin users."""
    return KEYS.search(path) is not None or path.startswith("/etc/sudoers")


def unharden(seconds: int) -> dict[str, Any]:
    """Brings back the first state of all that was ever changed; what is now returns unless that is confirmed."""
    with locked():
        first = Kept("first")
        known = first.data["paths"]
        left = sorted(path for path in known if stays(path))
        armed = arm(seconds)
        armed.add([path for path in known if path not in left], first.data["units"], first.data["sysctls"])
        back = Return(first, left)
        back.run()
    return {"changed_paths": back.changed, "problems": back.problems, "left": left, "packages": first.data["packages"]}


def foretell() -> dict[str, Any]:
    """What C(unharden) would look at."""
    data = Kept("first").data
    left = [path for path in data["paths"] if stays(path)]
    names = [*(path for path in data["paths"] if path not in left), *data["sysctls"], *data["units"]]
    return {"changed_paths": names, "problems": [], "left": sorted(left), "packages": data["packages"], "port": 0}


def forget_report() -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{ROOT}/put_back.json")


def forget() -> None:
    """Leaves nothing of this on the host."""
    with locked():
        for kind in ("service", "timer"):
            if os.path.exists(f"{ETC}/{NAME}.{kind}"):
                os.unlink(f"{ETC}/{NAME}.{kind}")
        call("systemctl", "daemon-reload")
    shutil.rmtree(ROOT, ignore_errors=True)


class Guard:
    """What a module calls right before each change. Without C(seconds), or in check mode, it does nothing."""

    def __init__(self, module: Any, seconds: int) -> None:
        self.module = module
        self.seconds = 0 if module.check_mode else seconds
        self.armed = self.mine = False
        if self.seconds and os.path.exists(f"{ROOT}/armed/state.json"):
            # A sign of life: the time counts from the last step of the run.
            self.keep(True)

    def before(self, *paths: str) -> None:
        """Keeps these paths; arms when one of them decides who comes in."""
        self.keep(any(is_door(path) for path in paths), paths=paths)

    def before_tree(self, top: str) -> None:
        """The same for a whole folder."""
        self.before(top, *inside(top))

    def before_firewall(self, top: str, *paths: str) -> None:
        """Before rules change, in files or in the kernel: going back loads them again, whichever was first."""
        keys = re.findall(r"^\s*(net/[\w/-]+)\s*=", read(f"{top}/sysctl.conf"), re.MULTILINE)
        sysctls = [key.replace("/", ".") for key in keys]
        self.keep(True, paths=[top, *inside(top), *paths], sysctls=sysctls, firewall=True)

    def before_unit(self, name: str, *paths: str) -> None:
        self.keep(name in DOOR_UNITS, paths=paths, units=[name])

    def before_sysctls(self, keys: Iterable[str]) -> None:
        names = list(keys)
        self.keep(any(key.startswith(DOOR_SYSCTLS) for key in names), sysctls=names)

    def before_users(self, names: Iterable[str], homes: Iterable[str] = ()) -> None:
        """Before accounts come or go. A home that is not there yet goes again with its account."""
        self.keep(True, users=list(names), homes=[home for home in homes if not os.path.exists(home)])

    def keep(
        self,
        door: bool,
        paths: Iterable[str] = (),
        units: Iterable[str] = (),
        sysctls: Iterable[str] = (),
        users: Iterable[str] = (),
        homes: Iterable[str] = (),
        firewall: bool = False,
    ) -> None:
        if not self.seconds:
            return
        try:
            with locked():
                if door and not self.armed:
                    self.mine = not os.path.exists(f"{ROOT}/armed/state.json")
                    arm(self.seconds)
                    self.armed = True
                for kept in (Kept("first"), *([Kept("armed")] if self.armed else [])):
                    kept.add(paths, units, sysctls)
                if self.armed and (users or firewall):
                    # Accounts are nothing to unharden: whoever asks for that comes in with one of them.
                    kept = Kept("armed")
                    kept.data["firewall"] = kept.data.get("firewall", False) or firewall
                    kept.data["users"] = sorted({*kept.data["users"], *users})
                    kept.data["homes"] = sorted({*kept.data["homes"], *homes})
                    kept.add(homes)
        except (GuardError, OSError, ValueError) as exc:
            self.module.fail_json(
                msg=f"The way back could not be prepared, so nothing that decides who comes in was changed: {exc}."
            )

    def take_back(self) -> None:
        """The module itself has undone what it armed for."""
        if self.mine and self.armed:
            with locked(), contextlib.suppress(GuardError):
                disarm()
            self.armed = False


def main() -> None:
    sys.stdout.write((sentence(put_back()) or "Nothing waits for a confirmation.") + "\n")


if __name__ == "__main__":
    main()
