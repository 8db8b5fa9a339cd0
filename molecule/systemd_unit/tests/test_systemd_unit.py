"""Units on a real systemd: they run, they are closed, and what restarts them is the state of their files."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def units(host):
    """Calls the module; gives its result."""

    def _units(*entries, ok=True):
        result = host.ansible("bulwark.stack.units", json.dumps({"units": entries}), check=False)
        # Testinfra drops the word "failed"; a call that went well says what it started.
        assert ("started" in result) is ok, result
        return result

    return _units


def pid(run, unit):
    return int(run(f"systemctl show -p MainPID --value {unit}"))


def test_service_runs_and_is_closed(running, exposure):
    running("probe.service")
    assert exposure("probe.service") <= 2.0


def test_it_comes_back_when_it_is_killed(run, running):
    before = pid(run, "probe.service")
    run("systemctl kill -s KILL probe.service; sleep 2")
    running("probe.service")
    assert pid(run, "probe.service") not in (0, before)


def test_an_instance_of_a_template(run):
    assert run("systemctl is-active probe@one.service").strip() == "active"


def test_the_timer_is_scheduled(run, running):
    running("probe-tick.timer")
    assert "probe-tick.timer" in run("systemctl list-timers --no-pager probe-tick.timer")


def test_the_drop_in_is_in_effect(run):
    assert run("systemctl show -p Nice --value cron.service").strip() == "5"
    assert run("ps -o ni= -p $(systemctl show -p MainPID --value cron.service)").strip() == "5"


def test_a_changed_file_restarts_once(run, units):
    entry = {"name": "probe.service", "state": "started", "restart_on": ["/run/probe.conf"]}
    before = pid(run, "probe.service")
    run("touch /run/probe.conf")
    assert units(entry)["restarted"] == ["probe.service"]
    assert pid(run, "probe.service") != before
    assert not units(entry)["changed"]


def test_a_drop_in_goes_and_the_unit_goes_on(run, units):
    entry = {"name": "probe.service", "drop_in": "extra", "content": "[Service]\nNice=7\n"}
    assert units(entry)["restarted"] == ["probe.service"]
    assert run("systemctl show -p Nice --value probe.service").strip() == "7"
    gone = {"name": "probe.service", "drop_in": "extra", "state": "absent"}
    assert units(gone)["restarted"] == ["probe.service"]
    assert run("systemctl show -p Nice --value probe.service").strip() == "0"
    assert not units(gone)["changed"]


def test_a_service_that_falls_over_shows_its_journal(units):
    text = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the disk is upside down; exit 1'\n"
    result = units({"name": "probe-bad.service", "content": text, "state": "started"}, ok=False)
    assert "probe-bad.service" in result["msg"]
    assert "the disk is upside down" in result["msg"]


def test_a_unit_that_goes_leaves_nothing(run, units):
    assert units({"name": "probe-bad.service", "state": "absent"})["changed"]
    assert "probe-bad" not in run("systemctl list-units --all --no-pager; systemctl list-unit-files --no-pager")


def test_reload_leaves_the_process(run, units):
    run("touch /run/cron.conf")
    text = "[Service]\nExecReload=/bin/true\n"
    units({"name": "cron.service", "drop_in": "reload", "content": text})
    before = pid(run, "cron.service")
    run("touch /run/cron.conf")
    entry = {"name": "cron.service", "state": "started", "reload_on": ["/run/cron.conf"]}
    assert units(entry)["reloaded"] == ["cron.service"]
    assert not units(entry)["changed"]
    assert pid(run, "cron.service") == before
