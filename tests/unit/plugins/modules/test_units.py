"""units against a systemctl that keeps state as systemd does, and real unit files below a temporary directory."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from plugins.modules import units

NOW_US = 1_000_000


class Systemd:
    """Answers ``systemctl show`` and does the verbs; unknown units do not exist until their file does."""

    def __init__(self, etc: str) -> None:
        self.etc = etc
        self.calls: list[list[str]] = []
        self.units: dict[str, dict[str, str]] = {}
        self.broken: set[str] = set()

    def add(
        self, name: str, active: str = "inactive", enabled: str = "disabled", age: float = 100, **more: str
    ) -> None:
        monotonic = int((time.clock_gettime(time.CLOCK_MONOTONIC) - age) * NOW_US)
        self.units[name] = {
            "LoadState": "loaded",
            "ActiveState": active,
            "SubState": "running" if active == "active" else "dead",
            "UnitFileState": enabled,
            "NeedDaemonReload": "no",
            "InactiveExitTimestampMonotonic": str(monotonic if active == "active" else 0),
            "Job": "",
            **more,
        }

    def run(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        if command[0] == "journalctl":
            return 0, f"journal of {command[-1]}", ""
        words = [word for word in command[1:] if word != "--no-block"]
        self.calls.append(command[1:])
        return getattr(self, "do_" + words[0].replace("-", "_"))(words[1:])

    def do_show(self, words: list[str]) -> tuple[int, str, str]:
        names = words[2:]
        if any("@." in name for name in names):
            return 1, "", "neither a valid invocation ID nor unit name"
        missing = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "UnitFileState": ""}
        blocks = ["".join(f"{k}={v}\n" for k, v in self.units.get(name, missing).items()) for name in names]
        return 0, "\n".join(blocks), ""

    def do_daemon_reload(self, words: list[str]) -> tuple[int, str, str]:
        for name in os.listdir(self.etc):
            if not name.endswith(".d") and name not in self.units:
                self.add(name)
        for name in list(self.units):
            self.units[name]["NeedDaemonReload"] = "no"
            if not self.units[name].get("package") and not os.path.exists(f"{self.etc}/{name}"):
                if self.units[name]["ActiveState"] == "failed":
                    self.units[name]["LoadState"] = "not-found"
                else:
                    del self.units[name]
        return 0, "", ""

    def do_enable(self, words: list[str]) -> tuple[int, str, str]:
        for name in words:
            self.units[name]["UnitFileState"] = "enabled"
        return 0, "", ""

    def do_disable(self, words: list[str]) -> tuple[int, str, str]:
        for name in words:
            self.units[name]["UnitFileState"] = "disabled"
        return 0, "", ""

    def do_start(self, words: list[str]) -> tuple[int, str, str]:
        for name in words:
            if name in self.broken:
                self.units[name].update(ActiveState="activating", SubState="auto-restart")
                continue
            now = int(time.clock_gettime(time.CLOCK_MONOTONIC) * NOW_US)
            self.units[name].update(ActiveState="active", SubState="running", InactiveExitTimestampMonotonic=str(now))
        return 0, "", ""

    do_restart = do_start

    def do_stop(self, words: list[str]) -> tuple[int, str, str]:
        for name in words:
            self.units[name].update(ActiveState="failed" if name in self.broken else "inactive", SubState="dead")
        return 0, "", ""

    def do_reload(self, words: list[str]) -> tuple[int, str, str]:
        return (1, "", "Job failed.") if self.broken.intersection(words) else (0, "", "")

    def do_reset_failed(self, words: list[str]) -> tuple[int, str, str]:
        for name in words:
            if self.units[name]["LoadState"] == "not-found":
                del self.units[name]
            else:
                self.units[name]["ActiveState"] = "inactive"
        return 0, "", ""

    def verbs(self) -> list[str]:
        return [" ".join(call) for call in self.calls if call[0] != "show"]


@pytest.fixture
def systemd(monkeypatch, tmp_path):
    etc, stamps = tmp_path / "system", tmp_path / "stamps"
    etc.mkdir()
    fake = Systemd(str(etc))
    monkeypatch.setattr(units, "ETC", str(etc))
    monkeypatch.setattr(units, "STAMPS", str(stamps))
    monkeypatch.setattr(units, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(AnsibleModule, "run_command", lambda self, command, **more: fake.run(command, **more))
    return fake


@pytest.fixture
def apply(run_module):
    return lambda *entries, **more: run_module(units, units=list(entries), **more)


@pytest.fixture
def thrice(apply, systemd):
    """Check → real → again; check mode calls nothing but ``show``."""

    def _thrice(*entries: dict[str, Any]) -> Any:
        systemd.calls.clear()
        foretold = apply(*entries, check=True)
        assert systemd.verbs() == []
        real = apply(*entries)
        assert not real.failed, real
        assert {k: foretold[k] for k in ("changed", *KINDS)} == {k: real[k] for k in ("changed", *KINDS)}
        calls = len(systemd.verbs())
        again = apply(*entries)
        assert not again["changed"], again
        assert len(systemd.verbs()) == calls
        return real

    return _thrice


KINDS = ("started", "stopped", "restarted", "reloaded")
SERVICE = "[Service]\nExecStart=/bin/true\n"


def test_no_units(thrice):
    assert not thrice()["changed"]


def test_a_new_service(thrice, systemd):
    result = thrice({"name": "app.service", "content": SERVICE, "enabled": True, "state": "started"})
    assert result["started"] == ["app.service"]
    assert systemd.verbs() == ["daemon-reload", "enable app.service", "start app.service"]
    path = f"{systemd.etc}/app.service"
    with open(path, encoding="utf-8") as handle:
        assert handle.read() == SERVICE
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_new_text_restarts_a_running_service(thrice, systemd):
    with open(f"{systemd.etc}/app.service", "w", encoding="utf-8") as handle:
        handle.write("old")
    os.utime(f"{systemd.etc}/app.service", (1, 1))
    systemd.add("app.service", "active", "enabled")
    result = thrice({"name": "app.service", "content": SERVICE, "enabled": True, "state": "started"})
    assert result["restarted"] == ["app.service"]
    assert systemd.verbs() == ["daemon-reload", "restart app.service"]


def test_a_killed_run_is_finished_by_the_next(apply, systemd):
    """The file was written and the run died: nothing differs any more but the time stamps."""
    path = f"{systemd.etc}/app.service"
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(SERVICE)
    systemd.add("app.service", "active", "enabled", NeedDaemonReload="yes")
    result = apply({"name": "app.service", "content": SERVICE, "state": "started"})
    assert result["restarted"] == ["app.service"]
    assert systemd.verbs() == ["daemon-reload", "restart app.service"]


def test_a_newer_file_restarts(thrice, systemd, tmp_path):
    (tmp_path / "app.conf").write_text("x")
    systemd.add("app.service", "active", "enabled", package="yes")
    entry = {"name": "app.service", "state": "started", "restart_on": [str(tmp_path / "app.conf"), "/no/such/file"]}
    assert thrice(entry)["restarted"] == ["app.service"]


def test_an_older_file_does_not(thrice, systemd, tmp_path):
    (tmp_path / "app.conf").write_text("x")
    os.utime(tmp_path / "app.conf", (1, 1))
    systemd.add("app.service", "active", "enabled", package="yes")
    entry = {"name": "app.service", "state": "started", "restart_on": [str(tmp_path / "app.conf")]}
    assert not thrice(entry)["changed"]


def test_a_link_counts_by_its_own_time(thrice, systemd, tmp_path):
    """A release is old, the link that points at it is new."""
    (tmp_path / "release").mkdir()
    os.utime(tmp_path / "release", (1, 1))
    (tmp_path / "current").symlink_to("release")
    systemd.add("app.service", "active", "enabled", package="yes")
    entry = {"name": "app.service", "state": "started", "restart_on": [str(tmp_path / "current")]}
    assert thrice(entry)["restarted"] == ["app.service"]
    os.utime(tmp_path / "current", (1, 1), follow_symlinks=False)
    assert not thrice(entry)["changed"]


def test_a_reload_happens_once(thrice, systemd, tmp_path):
    (tmp_path / "app.conf").write_text("x")
    systemd.add("app.service", "active", "enabled", package="yes")
    entry = {"name": "app.service", "state": "started", "reload_on": [str(tmp_path / "app.conf")]}
    assert thrice(entry)["reloaded"] == ["app.service"]
    os.utime(tmp_path / "app.conf", (time.time(), time.time()))
    assert thrice(entry)["reloaded"] == ["app.service"]


def test_a_restart_makes_the_reload_needless(thrice, systemd, tmp_path):
    (tmp_path / "app.conf").write_text("x")
    systemd.add("app.service", "active", "enabled", package="yes")
    path = str(tmp_path / "app.conf")
    result = thrice({"name": "app.service", "state": "started", "restart_on": [path], "reload_on": [path]})
    assert (result["restarted"], result["reloaded"]) == (["app.service"], [])


def test_a_service_behind_a_socket_is_restarted_instead(thrice, systemd, tmp_path):
    (tmp_path / "app.conf").write_text("x")
    systemd.add("app.socket", "active", "enabled", package="yes")
    systemd.add("app.service", "active", "enabled", package="yes", TriggeredBy="app.socket")
    service = {"name": "app.service", "reload_on": [str(tmp_path / "app.conf")]}
    result = thrice({"name": "app.socket"}, service)
    assert (result["restarted"], result["reloaded"]) == (["app.service"], [])
    # Nobody accepts for it if the socket is off, or not ours to look at.
    systemd.units["app.socket"]["ActiveState"] = "inactive"
    os.utime(tmp_path / "app.conf", (time.time(), time.time()))
    assert thrice({"name": "app.socket"}, service)["reloaded"] == ["app.service"]


def test_a_failed_reload_is_tried_again(apply, systemd, tmp_path):
    (tmp_path / "app.conf").write_text("x")
    systemd.add("app.service", "active", "enabled", package="yes")
    systemd.broken.add("app.service")
    entry = {"name": "app.service", "state": "started", "reload_on": [str(tmp_path / "app.conf")]}
    result = apply(entry)
    assert "Job failed." in result["msg"]
    assert "journal of app.service" in result["msg"]
    systemd.broken.clear()
    assert apply(entry)["reloaded"] == ["app.service"]


def test_a_drop_in(thrice, systemd):
    systemd.add("docker.service", "active", "enabled", package="yes")
    result = thrice(
        {"name": "docker.service", "drop_in": "bulwark", "content": "[Service]\nLimitCORE=0\n"},
        {"name": "docker.service", "enabled": True, "state": "started"},
    )
    assert result["restarted"] == ["docker.service"]
    assert os.path.exists(f"{systemd.etc}/docker.service.d/bulwark.conf")
    assert systemd.verbs() == ["daemon-reload", "restart docker.service"]


def test_a_drop_in_for_a_unit_that_does_not_run(thrice, systemd):
    systemd.add("docker.service", package="yes")
    result = thrice({"name": "docker.service", "drop_in": "bulwark", "content": "[Service]\nLimitCORE=0\n"})
    assert (result["started"], result["restarted"]) == ([], [])


def test_a_live_drop_in_restarts_nothing(thrice, systemd):
    systemd.add("postgresql.service", "active", "enabled", package="yes")
    limits = {"drop_in": "bulwark", "content": "[Service]\nMemoryMax=1G\n", "live": True}
    result = thrice({"name": "postgresql.service", "state": "started", **limits})
    assert (result["changed"], result["restarted"]) == (True, [])
    assert systemd.verbs() == ["daemon-reload"]


def test_a_drop_in_that_goes_leaves_the_unit_running(thrice, systemd):
    systemd.add("docker.service", "active", "enabled", package="yes")
    folder = f"{systemd.etc}/docker.service.d"
    os.mkdir(folder)
    with open(f"{folder}/bulwark.conf", "w", encoding="utf-8") as handle:
        handle.write("x")
    os.utime(folder, (1, 1))
    result = thrice({"name": "docker.service", "drop_in": "bulwark", "state": "absent"})
    assert (result["stopped"], result["restarted"]) == ([], ["docker.service"])
    assert not os.path.exists(f"{folder}/bulwark.conf")
    assert systemd.units["docker.service"]["UnitFileState"] == "enabled"


def test_a_unit_that_goes(thrice, systemd):
    path = f"{systemd.etc}/app.service"
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("x")
    systemd.add("app.service", "active", "enabled")
    assert thrice({"name": "app.service", "state": "absent"})["stopped"] == ["app.service"]
    assert not os.path.exists(path)
    assert systemd.verbs() == ["stop app.service", "disable app.service", "daemon-reload"]


def test_a_unit_that_goes_badly_is_forgotten(thrice, systemd):
    with open(f"{systemd.etc}/app.service", "w", encoding="utf-8") as handle:
        handle.write("x")
    systemd.add("app.service", "active", "enabled")
    systemd.broken.add("app.service")
    thrice({"name": "app.service", "state": "absent"})
    assert "app.service" not in systemd.units


def test_a_unit_that_was_never_there(thrice):
    assert not thrice({"name": "app.service", "state": "absent"})["changed"]


def test_stopped_and_disabled(thrice, systemd):
    systemd.add("redis-server.service", "active", "enabled", package="yes")
    result = thrice({"name": "redis-server.service", "enabled": False, "state": "stopped"})
    assert result["stopped"] == ["redis-server.service"]
    assert systemd.verbs() == ["disable redis-server.service", "stop redis-server.service"]


@pytest.mark.parametrize("state", ["static", "masked", "generated", "indirect"])
def test_what_cannot_be_enabled_is_left_alone(thrice, systemd, state):
    systemd.add("app.service", "active", state, package="yes")
    assert not thrice({"name": "app.service", "enabled": True})["changed"]


def test_a_template_and_its_instance(thrice, systemd):
    result = thrice(
        {"name": "worker@.service", "content": SERVICE},
        {
            "name": "worker@a.service",
            "content": SERVICE,
            "enabled": True,
            "state": "started",
            "restart_on": [f"{systemd.etc}/worker@.service"],
        },
    )
    assert result["started"] == ["worker@a.service"]


def test_the_order_of_starts_is_the_order_of_the_list(thrice, systemd):
    names = ["z.service", "a.socket", "m.timer"]
    result = thrice(*({"name": name, "content": "x\n", "state": "started"} for name in names))
    assert result["started"] == names


def test_the_same_unit_twice_starts_once(thrice, systemd):
    systemd.add("app.service", package="yes")
    result = thrice(
        {"name": "app.service", "state": "started"}, {"name": "app.service", "enabled": True, "state": "started"}
    )
    assert result["started"] == ["app.service"]


def test_a_failed_unit_gets_a_new_chance(thrice, systemd):
    systemd.add("app.service", "failed", package="yes")
    thrice({"name": "app.service", "state": "started"})
    assert systemd.verbs() == ["reset-failed app.service", "start app.service"]


def test_a_service_that_falls_over_at_once(apply, systemd):
    systemd.add("app.service", package="yes")
    systemd.broken.add("app.service")
    result = apply({"name": "app.service", "state": "started"})
    assert result.failed
    assert "failed right after the start" in result["msg"]
    assert "journal of app.service" in result["msg"]


def test_without_waiting(apply, systemd, tmp_path):
    (tmp_path / "current").write_text("x")
    systemd.add("worker.service", "active", package="yes")
    entry = {"name": "worker.service", "state": "started", "restart_on": [str(tmp_path / "current")], "wait": False}
    assert apply(entry)["restarted"] == ["worker.service"]
    assert systemd.verbs() == ["--no-block restart worker.service"]
    # It still drains: the next run sees the queued job and leaves it alone.
    systemd.units["worker.service"].update(ActiveState="deactivating", Job="17")
    assert not apply(entry)["changed"]


def test_a_unit_that_does_not_exist(apply, systemd):
    assert "does not exist on this host" in apply({"name": "app.service", "state": "started"})["msg"]
    assert not apply({"name": "app.service", "state": "started"}, check=True).failed


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "app"}, "full name"),
        ({"name": "../app.service"}, "full name"),
        ({"name": "worker@.service", "content": "x", "enabled": True}, "is a template"),
        ({"name": "worker@.service", "state": "started"}, "is a template"),
        ({"name": "app.service", "drop_in": "bulwark"}, "has no content"),
    ],
)
def test_nonsense_is_refused_first(apply, systemd, entry, words):
    result = apply({"name": "other.service", "content": SERVICE}, entry)
    assert words in result["msg"]
    assert os.listdir(systemd.etc) == []


def test_a_masked_unit_gets_its_file(apply, systemd):
    os.symlink("/dev/null", f"{systemd.etc}/app.service")
    systemd.add("app.service", enabled="masked")
    apply({"name": "app.service", "content": SERVICE})
    assert not os.path.islink(f"{systemd.etc}/app.service")


def test_a_file_that_is_no_text(apply, systemd):
    with open(f"{systemd.etc}/app.service", "wb") as handle:
        handle.write(b"\xff\xfe")
    assert apply({"name": "app.service", "content": SERVICE})["changed"]


def test_parse_show():
    text = "Id=a\nEnvironment=X=1 Y=2\n\nId=b\nJob=\n"
    assert units.parse_show(text, ["a.service", "b.service"]) == {
        "a.service": {"Id": "a", "Environment": "X=1 Y=2"},
        "b.service": {"Id": "b", "Job": ""},
    }
    assert units.parse_show("", []) == {}


def test_changed_at(tmp_path):
    assert units.changed_at([]) == 0.0
    assert units.changed_at([str(tmp_path / "none")]) == 0.0
    (tmp_path / "a").write_text("x")
    os.utime(tmp_path / "a", (5, 5))
    assert units.changed_at([str(tmp_path / "none"), str(tmp_path / "a")]) == 5.0


OURS = "# Managed by Ansible (bulwark.stack).\n" + SERVICE


def place(systemd, name, text=OURS):
    with open(f"{systemd.etc}/{name}", "w", encoding="utf-8") as handle:
        handle.write(text)


def test_purge_takes_what_nobody_asks_for(apply, systemd):
    for name in ("w@one.service", "w@two.service", "other@two.service"):
        place(systemd, name)
        systemd.add(name, "active", "enabled")
    place(systemd, "w@theirs.service", "[Service]\n")
    entry = {"name": "w@one.service", "content": OURS, "state": "started"}
    os.utime(f"{systemd.etc}/w@one.service", (1, 1))
    foretold = apply(entry, purge=["w@*.service"], check=True)
    assert systemd.verbs() == []
    result = apply(entry, purge=["w@*.service"])
    assert result["stopped"] == foretold["stopped"] == ["w@two.service"]
    assert systemd.verbs() == ["--no-block stop w@two.service", "disable w@two.service", "daemon-reload"]
    assert sorted(os.listdir(systemd.etc)) == ["other@two.service", "w@one.service", "w@theirs.service"]
    assert not apply(entry, purge=["w@*.service"])["changed"]


def test_purge_leaves_the_file_of_one_that_drains(apply, systemd, monkeypatch):
    """Without its file systemd would give it 90 seconds instead of its own stop timeout."""
    place(systemd, "w@old.service")
    systemd.add("w@old.service", "active", "enabled")
    monkeypatch.setattr(units, "DRAIN_SECONDS", 0)
    monkeypatch.setattr(
        systemd, "do_stop", lambda words: (systemd.units[words[0]].update(ActiveState="deactivating"), (0, "", ""))[1]
    )
    result = apply(purge=["w@*.service"])
    assert result["stopped"] == result["draining"] == ["w@old.service"]
    assert os.listdir(systemd.etc) == ["w@old.service"]
    again = apply(purge=["w@*.service"])
    assert again["draining"] == ["w@old.service"]
    assert not again["changed"]
    systemd.units["w@old.service"]["ActiveState"] = "inactive"
    assert apply(purge=["w@*.service"])["changed"]
    assert os.listdir(systemd.etc) == []


def test_one_that_keeps_crashing_is_started_again(apply, systemd):
    place(systemd, "w@one.service")
    systemd.add("w@one.service", "activating", "enabled", SubState="auto-restart")
    assert apply({"name": "w@one.service", "content": OURS, "state": "started", "wait": False})["started"] == [
        "w@one.service"
    ]
