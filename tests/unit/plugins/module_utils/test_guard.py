"""The way back: what is kept, what comes back, and who decides, below a temporary directory and without systemd."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.module_utils import _guard

PASSWD = "root:x:0:0::/nowhere:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"


class Box:
    """A host below a directory, with a systemctl that writes down what it is told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.units: dict[str, dict[str, str]] = {}
        self.broken: set[str] = set()

    def path(self, name: str, text: str | None = None, mode: int = 0o644) -> str:
        path = self.root / name
        if text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
        return str(path)

    def call(self, *words: str) -> str:
        self.calls.append(" ".join(words))
        if words[1] in self.broken:
            raise _guard.GuardError(f"'{' '.join(words)}' failed")
        return ""

    def states(self, names: Any) -> dict[str, dict[str, str]]:
        missing = {"load": "not-found", "file": "", "active": "inactive"}
        return {name: dict(self.units.get(name, missing)) for name in names}

    def guard(self, seconds: int = 10, check: bool = False) -> _guard.Guard:
        def fail_json(msg: str) -> None:
            raise SystemExit(msg)

        return _guard.Guard(SimpleNamespace(check_mode=check, fail_json=fail_json), seconds)

    @property
    def armed(self) -> bool:
        return bool(_guard.status()["armed"])


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box(tmp_path)
    etc = str(tmp_path / "etc")
    (tmp_path / "etc/systemd/multi-user.target.wants").mkdir(parents=True)
    monkeypatch.setattr(_guard, "ROOT", str(tmp_path / "guard"))
    monkeypatch.setattr(_guard, "ETC", f"{etc}/systemd")
    monkeypatch.setattr(_guard, "DOORS", (f"{etc}/ssh/", f"{etc}/ufw/", f"{etc}/sudoers"))
    monkeypatch.setattr(_guard, "TREES", (f"{etc}/ssh", f"{etc}/sudoers.d"))
    monkeypatch.setattr(_guard, "CLOSED_TREES", (f"{etc}/sudoers.d",))
    monkeypatch.setattr(_guard, "SINGLE", (f"{etc}/sudoers",))
    monkeypatch.setattr(_guard, "ACCOUNTS", (f"{etc}/passwd", f"{etc}/group"))
    monkeypatch.setattr(_guard, "ACCOUNTS_LOCK", f"{etc}/.pwd.lock")
    monkeypatch.setattr(_guard, "LINES", {f"{etc}/fstab": "/swapfile "})
    monkeypatch.setattr(_guard, "sysctl_path", lambda key: f"{tmp_path}/proc/{key}")
    monkeypatch.setattr(_guard, "call", box.call)
    monkeypatch.setattr(_guard, "unit_states", box.states)
    box.path("etc/passwd", PASSWD)
    box.path("etc/group", "root:x:0:\n")
    box.path("etc/sudoers", "root ALL=(ALL:ALL) ALL\n", 0o440)
    box.path("etc/ssh/sshd_config", "Port 22\n")
    return box


def look(top: Path) -> dict[str, Any]:
    return {
        str(p): (oct(p.lstat().st_mode), os.readlink(p) if p.is_symlink() else p.read_text() if p.is_file() else None)
        for p in sorted(top.rglob("*"))
        if "bulwark-guard" not in p.name and ".pwd.lock" not in p.name
    }


# -- what is kept comes back


def test_everything_comes_back(box: Box) -> None:
    config = box.path("etc/ssh/sshd_config")
    os.symlink("sshd_config", box.path("etc/ssh/link"))
    os.utime(config, (1, 1))
    before = look(box.root / "etc")
    guard = box.guard()
    guard.before(config, box.path("etc/ssh/new.d/a.conf"))
    assert guard.armed
    assert box.armed
    Path(config).write_text("Port 2222\n")
    os.chmod(config, 0o600)
    os.unlink(box.path("etc/ssh/link"))
    box.path("etc/ssh/new.d/a.conf", "x")
    # Nobody has told the guard of these: all of the doors was kept anyway.
    os.unlink(box.path("etc/sudoers"))
    box.path("etc/sudoers.d/stranger", "x")
    report = _guard.put_back()
    assert look(box.root / "etc") == before
    assert os.stat(config).st_mtime == 1
    assert not report["problems"]
    assert config in report["changed"]
    assert "nobody confirmed the change within 10 s" in report["why"]
    assert not box.armed
    assert "systemctl reload-or-restart ssh.service" not in box.calls


def test_ssh_and_firewall_take_the_old_files_over(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard.shutil, "which", lambda name: name)
    back = _guard.Return(_guard.Kept("armed"))
    back.changed = ["/etc/ssh/sshd_config", "/etc/ufw/user.rules"]
    back.ssh()
    assert box.calls[-1] == "systemctl reload-or-restart ssh.service"
    box.units["ssh.socket"] = {"load": "loaded", "file": "enabled", "active": "active"}
    back.ssh()
    assert box.calls[-2:] == ["systemctl stop ssh.service ssh.socket", "systemctl start ssh.socket"]
    monkeypatch.setattr(_guard, "read", lambda path: "ENABLED=no\n")
    back.firewall()
    assert "ufw --force disable" in box.calls
    monkeypatch.setattr(_guard, "read", lambda path: "ENABLED=yes\n")
    back.firewall()
    assert "ufw reload" in box.calls


def test_chains_that_ufw_does_not_know_go(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (
        "-P FORWARD DROP\n-N DOCKER-USER\n-N bulwark-docker\n-N bulwark-egress\n-A DOCKER-USER -j bulwark-docker\n"
        "-A bulwark-docker -i docker+ -g bulwark-egress\n-A FORWARD -j DOCKER-USER\n"
    )
    monkeypatch.setattr(_guard, "call", lambda *words: box.call(*words) or rules)
    _guard.Return(_guard.Kept("armed")).drop_chains("iptables")
    assert box.calls[1:] == [
        "iptables -D DOCKER-USER -j bulwark-docker",
        "iptables -F bulwark-docker",
        "iptables -F bulwark-egress",
        "iptables -X bulwark-docker",
        "iptables -X bulwark-egress",
        "iptables -X DOCKER-USER",
    ]


def test_units_come_back_as_they_were(box: Box) -> None:
    was = {
        "new.service": {"load": "not-found", "file": "", "active": "inactive"},
        "off.service": {"load": "loaded", "file": "enabled", "active": "active"},
        "same.service": {"load": "loaded", "file": "enabled", "active": "active"},
    }
    box.units = {name: {"load": "loaded", "file": "enabled", "active": "active"} for name in was}
    box.units["off.service"].update(file="disabled", active="inactive")
    kept = _guard.Kept("armed")
    kept.data["units"] = was
    back = _guard.Return(kept)
    back.units()
    assert box.calls == [
        "systemctl disable new.service",
        "systemctl stop new.service",
        "systemctl enable off.service",
        "systemctl start off.service",
    ]


def test_a_step_that_fails_does_not_keep_the_others_from_being_done(box: Box) -> None:
    config = box.path("etc/ssh/sshd_config")
    box.guard().before(config)
    Path(config).write_text("Port 2222\n")
    box.broken = {"daemon-reload"}
    report = _guard.put_back()
    assert Path(config).read_text() == "Port 22\n"
    assert "systemd: 'systemctl daemon-reload' failed" in report["problems"]
    assert "Not possible: systemd" in _guard.status()["put_back"]


def test_accounts_that_a_package_made_meanwhile_stay(box: Box) -> None:
    passwd = box.path("etc/passwd")
    home = box.path("home/deploy")
    box.guard().before_users(["deploy"], [home])
    with open(passwd, "a") as handle:
        handle.write(f"postgres:x:110:110::/var/lib/postgresql:/bin/bash\ndeploy:x:1000:1000::{home}:/bin/bash\n")
    box.path("home/deploy/.ssh/authorized_keys", "key")
    _guard.put_back()
    assert Path(passwd).read_text() == PASSWD + "postgres:x:110:110::/var/lib/postgresql:/bin/bash\n"
    assert not os.path.exists(home)


def test_a_removed_account_comes_back(box: Box) -> None:
    box.guard().before_users(["root"], [])
    Path(box.path("etc/passwd")).write_text(PASSWD.split("\n", 1)[1])
    _guard.put_back()
    assert sorted(Path(box.path("etc/passwd")).read_text().splitlines()) == sorted(PASSWD.splitlines())


def test_a_folder_with_something_in_it_stays(box: Box) -> None:
    folder = box.path("etc/ssh/new.d")
    box.guard().before(folder)
    box.path("etc/ssh/new.d/of-somebody", "x")
    _guard.put_back()
    assert os.path.exists(folder)


def test_lines_of_shared_files_alone_are_ours(box: Box) -> None:
    fstab = box.path("etc/fstab", "/dev/sda1 / ext4\n")
    _guard.Kept("first").add([fstab])
    Path(fstab).write_text("/dev/sda1 / ext4\n/swapfile none swap sw 0 0\n/dev/sdb1 /srv ext4\n")
    _guard.Return(_guard.Kept("first")).run()
    assert Path(fstab).read_text() == "/dev/sda1 / ext4\n/dev/sdb1 /srv ext4\n"
    assert _guard.merge_lines("a 1\nb\n", "b\na 2\nc\n", "a ") == "b\na 1\nc\n"


def test_kernel_parameters_come_back(box: Box) -> None:
    box.path("proc/net.ipv4.conf.all.rp_filter", "0\n")
    guard = box.guard()
    guard.before_sysctls(["net.ipv4.conf.all.rp_filter", "net.of.another.kernel"])
    assert guard.armed
    box.path("proc/net.ipv4.conf.all.rp_filter", "1\n")
    _guard.put_back()
    assert Path(box.path("proc/net.ipv4.conf.all.rp_filter")).read_text().strip() == "0"


def test_what_ufw_sets_itself_comes_back(box: Box) -> None:
    box.path("proc/net.ipv4.conf.all.accept_redirects", "1\n")
    box.path("etc/ufw/sysctl.conf", "#net/ipv4/ip_forward=1\nnet/ipv4/conf/all/accept_redirects=0\n")
    box.guard().before_firewall(box.path("etc/ufw"))
    assert _guard.Kept("first").data["sysctls"] == {"net.ipv4.conf.all.accept_redirects": "1"}
    assert _guard.Kept("armed").data["firewall"]


def test_a_restart_of_the_host_is_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.guard().before(box.path("etc/ssh/sshd_config"))
    monkeypatch.setattr(_guard, "boot_id", lambda: "another")
    assert "the host restarted before" in _guard.put_back()["why"]


# -- who decides


def test_the_oldest_state_counts(box: Box) -> None:
    config = box.path("etc/ssh/sshd_config")
    for port in (2222, 3333):
        box.guard().before(config)
        Path(config).write_text(f"Port {port}\n")
    _guard.put_back()
    assert Path(config).read_text() == "Port 22\n"


def test_a_confirmed_change_stays(box: Box) -> None:
    config = box.path("etc/ssh/sshd_config")
    box.guard().before(config)
    Path(config).write_text("Port 2222\n")
    assert _guard.confirm()
    assert not box.armed
    assert _guard.put_back() == {}
    assert Path(config).read_text() == "Port 2222\n"


def test_a_confirmation_that_comes_too_late_is_none(box: Box) -> None:
    box.guard().before(box.path("etc/ssh/sshd_config"))
    _guard.put_back()
    assert not _guard.confirm()
    assert "the host put back" in _guard.status()["put_back"]
    _guard.forget_report()
    assert _guard.status()["put_back"] == ""


def test_other_files_are_kept_and_not_armed(box: Box) -> None:
    guard = box.guard()
    guard.before(box.path("etc/timezone", "UTC\n"))
    guard.before_unit("fail2ban.service")
    assert not guard.armed
    assert not box.armed
    assert set(_guard.Kept("first").data["paths"]) == {box.path("etc/timezone")}
    assert "fail2ban.service" in _guard.Kept("first").data["units"]


def test_units_of_the_doors_are_armed(box: Box) -> None:
    guard = box.guard()
    guard.before_unit("ssh.service")
    assert guard.armed


def test_nothing_happens_without_the_option_and_in_check_mode(box: Box) -> None:
    for guard in (box.guard(0), box.guard(10, check=True)):
        guard.before(box.path("etc/ssh/sshd_config"))
        guard.before_users(["a"])
    assert not os.path.exists(_guard.ROOT)
    assert not box.calls


def test_no_change_without_a_way_back(box: Box) -> None:
    box.broken = {"restart"}
    with pytest.raises(SystemExit, match="nothing that decides who comes in was changed"):
        box.guard().before(box.path("etc/ssh/sshd_config"))
    assert not box.armed


def test_a_timer_that_does_not_start_again_leaves_the_old_way_back(box: Box) -> None:
    config = box.path("etc/ssh/sshd_config")
    box.guard().before(config)
    Path(config).write_text("Port 2222\n")
    box.broken = {"restart"}
    with pytest.raises(SystemExit, match="could not be prepared"):
        box.guard()
    assert box.armed
    _guard.put_back()
    assert Path(config).read_text() == "Port 22\n"


def test_a_module_that_undid_its_change_disarms(box: Box) -> None:
    first, second = box.guard(), box.guard()
    first.before(box.path("etc/ssh/sshd_config"))
    second.before(box.path("etc/ssh/sshd_config"))
    second.take_back()
    assert box.armed
    first.take_back()
    assert not box.armed


def test_records_are_for_root_alone(box: Box) -> None:
    box.guard().before(box.path("etc/sudoers"))
    for path in (Path(_guard.ROOT), *Path(_guard.ROOT).rglob("*")):
        assert path.name == "lock" or not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_timer_and_service_are_written(box: Box) -> None:
    box.guard(45).before(box.path("etc/ssh/sshd_config"))
    assert "OnActiveSec=45\n" in Path(box.path("etc/systemd/bulwark-guard.timer")).read_text()
    assert f"{_guard.ROOT}/guard.py" in Path(box.path("etc/systemd/bulwark-guard.service")).read_text()
    assert box.calls[-1] == "systemctl restart bulwark-guard.timer"


def test_the_program_needs_python_alone(box: Box) -> None:
    """As systemd runs it: without this collection and without anything that is not Python's own."""
    box.guard().before(box.path("etc/ssh/sshd_config"))
    program = Path(_guard.ROOT) / "guard.py"
    code = f"import runpy; runpy.run_path('{program}')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- unhardening


def test_unhardening_brings_the_first_state_back_and_is_armed_itself(box: Box) -> None:
    config, keys = box.path("etc/ssh/sshd_config"), box.path("home/deploy/.ssh/authorized_keys", "old")
    zone = box.path("etc/timezone", "CET\n")
    for text in ("first", "second"):
        guard = box.guard()
        guard.before(config, keys, zone)
        for path in (config, keys, zone):
            Path(path).write_text(text)
        _guard.confirm()
    assert _guard.foretell()["left"] == [keys]
    done = _guard.unharden(10)
    assert (Path(config).read_text(), Path(zone).read_text()) == ("Port 22\n", "CET\n")
    assert Path(keys).read_text() == "second"
    assert done["left"] == [keys]
    assert box.armed
    _guard.put_back()
    assert (Path(config).read_text(), Path(zone).read_text()) == ("second", "second")
    _guard.unharden(10)
    assert _guard.confirm()
    _guard.forget()
    assert not os.path.exists(_guard.ROOT)
    assert not list(Path(_guard.ETC).glob("bulwark-guard.*"))


def test_the_report_says_when_what_and_why(box: Box) -> None:
    report = {"time": 0, "why": "nobody came", "changed": ["/etc/a"], "problems": []}
    assert _guard.sentence(report) == (
        "At 1970-01-01 00:00:00 UTC the host put back SSH, accounts and firewall as they were, because nobody came. "
        "Put back: /etc/a."
    )
