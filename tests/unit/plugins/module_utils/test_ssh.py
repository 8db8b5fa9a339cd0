"""How a module was reached."""

from __future__ import annotations

from plugins.module_utils import _ssh


def test_connection_of_this_run(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "fe80::1%eth0 50000 fe80::2 22")
    assert _ssh.connection() == ("fe80::1", "22")
    assert _ssh.parse_connection("") is None
