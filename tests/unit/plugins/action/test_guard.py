"""guard: only a connection of its own confirms, and one that does not come in has everything put back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure

from plugins.action import guard

ARGS = "-o ControlMaster=auto -o ControlPersist=60s"
REFUSED = AnsibleConnectionFailure("Warning: Permanently added 'a'.\ndeploy@a: Permission denied (publickey).")


class Ssh:
    """A connection that remembers with which options each call went out."""

    transport = "ssh"

    def __init__(self) -> None:
        self._shell = MagicMock()
        self.options: dict[str, Any] = {"ssh_args": ARGS, "port": 22, "timeout": 10, "reconnection_retries": 0}

    def get_option(self, name: str) -> Any:
        return self.options.get(name)

    def set_option(self, name: str, value: Any) -> None:
        self.options[name] = value


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(guard, "PAUSE_SECONDS", 0)

    def _act(*answers: Any, check: bool = False, connection: Any = None, **args: Any) -> SimpleNamespace:
        """Each call takes the next answer, the last one for all that follow; an exception is raised."""
        link = connection or Ssh()
        task = MagicMock(args={"state": "confirmed", **args}, check_mode=check, async_val=0)
        plugin = guard.ActionModule(task, link, MagicMock(), MagicMock(), MagicMock(), MagicMock())
        left, sent = list(answers), []

        def _execute(name: str, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
            sent.append((module_args["state"], dict(getattr(link, "options", {})), module_args))
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        monkeypatch.setattr(plugin, "_execute_module", _execute)
        return SimpleNamespace(result=plugin.run(task_vars={"inventory_hostname": "web1"}), sent=sent, link=link)

    return _act


CONFIRMED = {"changed": True, "confirmed": True, "armed": False, "put_back": ""}
BACK = {"changed": False, "armed": False, "put_back": "At noon the host put back a file."}


def test_the_connection_is_its_own(act: Any) -> None:
    done = act(CONFIRMED, port=2222)
    assert done.result["confirmed"]
    assert not done.result.get("failed")
    state, options, args = done.sent[0]
    assert (state, options["port"], options["timeout"]) == ("confirmed", 2222, guard.CONNECT_SECONDS)
    assert options["ssh_args"].startswith("-o ControlMaster=no -o ControlPath=none")
    assert options["ssh_args"].endswith(ARGS)
    assert "port" not in args
    assert done.link.options == Ssh().options


def test_sshd_may_take_a_moment(act: Any) -> None:
    assert act(REFUSED, CONFIRMED).result["confirmed"]


def test_what_does_not_come_in_is_no_confirmation(act: Any) -> None:
    done = act(REFUSED, port=2222)
    assert [state for state, _options, _args in done.sent] == ["confirmed"] * 3
    assert done.result["failed"]
    assert done.result["msg"] == (
        "web1: after the change no new connection came in over port 2222: deploy@a: Permission denied (publickey)."
    )


def test_the_connection_of_the_run_has_it_put_back(act: Any) -> None:
    done = act(BACK, state="restored", reason="why")
    assert [(state, options) for state, options, _args in done.sent] == [("restored", Ssh().options)]
    assert done.result["put_back"] == BACK["put_back"]


@pytest.mark.parametrize("answer", [REFUSED, {"failed": True, "msg": "Missing sudo password"}])
def test_the_host_needs_nobody_to_go_back(act: Any, answer: Any) -> None:
    """The connection of the run is dead or sudo is broken; the host answers once its own time is up."""
    done = act(answer, answer, {**BACK, "armed": True}, BACK, state="restored", reason="why")
    assert [state for state, _options, _args in done.sent] == ["restored", "read", "read", "read"]
    assert done.result["changed"]
    assert "At noon" in done.result["put_back"]


def test_a_host_that_stays_away_is_told(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE_SECONDS", 0)
    done = act(REFUSED, state="restored", seconds=0)
    assert "journalctl -u bulwark-guard" in done.result["msg"]


def test_becoming_root_is_part_of_the_proof(act: Any) -> None:
    refused = {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required\n"}
    done = act(refused, refused, refused, BACK)
    assert done.result["failed"]
    assert "a password is required" in done.result["msg"]


def test_a_host_that_has_gone_back_already_is_no_success(act: Any) -> None:
    done = act({**BACK, "confirmed": False})
    assert done.result["failed"]
    assert "the change came to nothing. At noon" in done.result["msg"]


def test_other_states_and_check_mode_are_plain_calls(act: Any) -> None:
    assert act(BACK, state="read").sent[0][1] == Ssh().options
    assert act(BACK, check=True).sent[0][1] == Ssh().options


def test_a_connection_that_is_not_ssh(act: Any) -> None:
    assert act(CONFIRMED, connection=SimpleNamespace(transport="local", _shell=MagicMock())).result["confirmed"]
