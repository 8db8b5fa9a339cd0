"""host_facts: a host that lets nobody in is an answer where one is asked for, else an error."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from plugins.action import host_facts

CLOSED = AnsibleConnectionFailure("Permission denied (publickey).")


def test_the_module_answers(act: Any) -> None:
    done = act(host_facts, contact_required=False)
    assert done.result["packages"] == {"a": "1"}
    assert "no_contact" not in done.result
    assert done.sent == [("bulwark.stack.host_facts", {})]


def test_no_contact_is_an_answer(act: Any) -> None:
    assert "Permission denied" in act(host_facts, error=CLOSED, contact_required=False).result["no_contact"]


def test_no_contact_is_an_error_otherwise(act: Any) -> None:
    with pytest.raises(AnsibleConnectionFailure):
        act(host_facts, error=CLOSED)
