"""host_facts asks the host once."""

from __future__ import annotations

from plugins.action import host_facts


def test_the_first_call_asks_the_host(act):
    done = act(host_facts, known={})
    assert [name for name, _ in done.sent] == ["bulwark.stack.host_facts"]
    assert done.result["packages"] == {"a": "1"}
    assert "invocation" not in done.result


def test_what_is_known_is_not_asked_again(act):
    done = act(host_facts, known={"packages": {"b": "2"}, "changed": True})
    assert done.sent == []
    assert done.result == {"packages": {"b": "2"}, "changed": False}


def test_a_failed_look_is_not_knowledge(act):
    """The registered result of a call that failed has no packages."""
    assert len(act(host_facts, known={"failed": True, "msg": "unreachable"}).sent) == 1
