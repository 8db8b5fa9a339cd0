"""What is refused before an account is asked. The rest is tried on the four APIs, see tests/cloud/test_provision.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugins.modules import cloud_servers

SERVER = {"name": "web1", "provider": "hetzner", "region": "fsn1", "plan": "cpx22"}
RULE = {"port": "22", "from": ["any"], "name": "ssh"}


def test_bad_input_is_refused_at_once(run_module: Callable[..., Any]):
    result = run_module(cloud_servers, servers=[{**SERVER, "name": "Not a name", "firewall_rules": [RULE]}])
    assert result.failed
    assert "cannot be a name" in result["msg"]
    assert "nobody with a key" in result["msg"]
    assert result["msg"].endswith("Nothing was changed.")


def test_a_provider_that_we_do_not_know(run_module: Callable[..., Any]):
    result = run_module(cloud_servers, servers=[{**SERVER, "provider": "acme"}])
    assert "hetzner" in result["msg"]


def test_a_misspelt_word(run_module: Callable[..., Any]):
    assert "role" in run_module(cloud_servers, servers=[{**SERVER, "role": "web"}])["msg"]


def test_nothing_declared_is_nothing_done(run_module: Callable[..., Any]):
    result = run_module(cloud_servers)
    assert not result["changed"]
    assert result["table"] == ["Nothing is declared."]
