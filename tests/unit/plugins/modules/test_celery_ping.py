"""The gate against a host whose units and workers do what a script says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from plugins.modules import celery_ping

A, B, BEAT = "celery-worker@a.service", "celery-worker@b.service", "celery-beat.service"
WORKERS = [{"unit": A, "node": "a@h"}, {"unit": B, "node": "b@h"}, {"unit": BEAT}]
UP = {"ActiveState": "active", "SubState": "running", "Job": "0", "NRestarts": "0"}


class Host:
    """One entry of C(script) for each turn, the last one for ever: states that differ from UP, and who answers."""

    def __init__(self) -> None:
        self.script: list[tuple[dict[str, dict[str, str]], list[str]]] = [({}, ["a@h", "b@h"])]
        self.turn, self.now, self.ping = 0, 0.0, (0, "")
        self.pings: list[list[str]] = []

    def scene(self) -> tuple[dict[str, dict[str, str]], list[str]]:
        return self.script[min(self.turn, len(self.script) - 1)]

    def run(self, command: list[str]) -> tuple[int, str, str]:
        if command[0] == "journalctl":
            return 0, f"journal of {command[-1]}", ""
        if command[0] == "systemctl":
            states = self.scene()[0]
            blocks = [{**UP, **states.get(unit, {})} for unit in command[4:]]
            return 0, "\n\n".join("\n".join(f"{k}={v}" for k, v in block.items()) for block in blocks) + "\n", ""
        self.pings.append(command)
        answers = {node: {"ok": "pong"} for node in self.scene()[1]}
        return self.ping[0] or (0 if answers else 69), "loading\n" + json.dumps(answers) + "\n", self.ping[1]

    def sleep(self, seconds: float) -> None:
        self.turn += 1
        self.now += seconds


@pytest.fixture
def host(monkeypatch):
    fake = Host()
    monkeypatch.setattr(AnsibleModule, "run_command", lambda self, command, **_: fake.run(command))
    monkeypatch.setattr(celery_ping.time, "sleep", fake.sleep)
    monkeypatch.setattr(celery_ping.time, "monotonic", lambda: fake.now)
    monkeypatch.setattr(celery_ping.os.path, "exists", lambda path: True)
    return fake


@pytest.fixture
def gate(run_module):
    def _gate(**more: Any) -> Any:
        args = {
            "workers": WORKERS,
            "command": ["/venv/bin/celery", "--app", "app.tasks"],
            "user": "app",
            "directory": "/srv/app/current",
            "environment_file": "/etc/app/environment",
            "timeout_seconds": 30,
        }
        return run_module(celery_ping, **{**args, **more})

    return _gate


def test_all_answer(gate, host):
    result = gate()
    assert not result.failed
    assert not result["changed"]
    assert result["draining"] == []
    assert host.pings[0][-2:] == ["--destination", "a@h,b@h"]


def test_check_mode_asks_nobody(gate, host):
    assert not gate(check=True).failed
    assert host.pings == []


def test_the_answer_of_a_worker_that_is_about_to_restart_does_not_count(gate, host):
    host.script = [
        ({A: {"Job": "77"}}, ["a@h", "b@h"]),
        ({A: {"ActiveState": "deactivating"}}, ["b@h"]),
        ({}, ["a@h", "b@h"]),
    ]
    assert gate()["draining"] == []
    assert host.turn == 2


def test_one_that_drains_is_named_and_not_waited_for(gate, host):
    host.script = [({A: {"ActiveState": "deactivating", "Job": "77"}}, ["b@h"])]
    result = gate()
    assert result["draining"] == [A]
    assert host.now < 30


def test_one_that_stays_silent(gate, host):
    host.script = [({}, ["a@h"])]
    result = gate()
    assert result.failed
    assert f"{B} did not answer within 30 seconds." in result["msg"]
    assert "journal of" in result["msg"]
    assert A not in result["msg"].split("\n")[0]


def test_beat_has_to_stay_up(gate, host):
    crash = {"ActiveState": "activating", "SubState": "auto-restart"}
    host.script = [({BEAT: {**crash, "NRestarts": str(n)}}, ["a@h", "b@h"]) for n in range(4)]
    result = gate()
    assert result.failed
    assert f"{BEAT} ends as soon as it has started." in result["msg"]


def test_an_application_that_cannot_be_loaded_fails_at_once(gate, host):
    host.ping = (
        2,
        "Usage: celery\n\nError: \nUnable to load celery application.\nThe module app.tasks was not found.\n",
    )
    result = gate()
    assert result.failed
    assert (
        "Celery cannot load the application: Unable to load celery application. The module app.tasks" in result["msg"]
    )
    assert host.turn == 0


def test_no_release(gate, host, monkeypatch):
    monkeypatch.setattr(celery_ping.os.path, "exists", lambda path: False)
    result = gate()
    assert result.failed
    assert "/venv/bin/celery does not exist" in result["msg"]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ('{"a@h": {"ok": "pong"}, "b@h": {"error": "no"}}', {"a@h"}),
        ('hello\n{"a": 1\n{"a@h": {"ok": "pong"}}\n', {"a@h"}),
        ("[]", set()),
        ("", set()),
    ],
)
def test_pongs(text, nodes):
    assert celery_ping.pongs(text) == nodes
