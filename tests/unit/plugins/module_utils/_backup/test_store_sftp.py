"""What ssh says and what becomes of it. How the store behaves is in tests/stores, against a real server."""

from __future__ import annotations

import struct
from datetime import datetime, timezone

import pytest

from plugins.module_utils._backup import store_sftp
from plugins.module_utils._backup.errors import DeniedError, StoreError
from plugins.module_utils._backup.settings import StoreSettings

SETTINGS = StoreSettings(
    kind="sftp", host="box", port=23, user="u1", path="/home", key_file="/key", known_hosts_file="/known"
)


@pytest.mark.parametrize(
    ("line", "kind", "transient", "said"),
    [
        ("ssh: connect to host box port 23: Connection refused", StoreError, True, "cannot be reached"),
        ("ssh: Could not resolve hostname box: Temporary failure", StoreError, True, "cannot be reached"),
        ("client_loop: send disconnect: Broken pipe", StoreError, True, "cut the connection"),
        ("", StoreError, True, "it was closed"),
        ("u1@box: Permission denied (publickey).", DeniedError, False, "does not take the key /key for u1"),
        ('Load key "/key": invalid format', DeniedError, False, "does not take the key /key"),
        ("Host key verification failed.", StoreError, False, "The host key of u1@box:/home (port 23) is not in /known"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", StoreError, False, "is not the one in /known"),
        ("subsystem request failed on channel 0", StoreError, False, "has no SFTP for u1"),
    ],
)
def test_refusals(line, kind, transient, said):
    error = store_sftp.refusal(SETTINGS, [line] if line else [])
    assert type(error) is kind
    assert error.transient is transient
    assert said in str(error)


def test_nothing_of_the_hosts_own_settings_counts():
    command = store_sftp.ssh_command(SETTINGS)
    assert command[:3] == ["ssh", "-F", "none"]
    assert command[-7:] == ["-s", "-p", "23", "-l", "u1", "box", "sftp"]
    for option in ("StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes", "UserKnownHostsFile=/known"):
        assert option in command


def test_attributes_of_all_forms():
    moment = datetime(2026, 11, 20, tzinfo=timezone.utc)
    seconds = int(moment.timestamp())
    extended = struct.pack(">I", 1) + store_sftp.text("a") + store_sftp.text("b")
    whole = struct.pack(">IQIIIII", 0x8000000F, 7, 1, 2, 0o100600, seconds - 9, seconds) + extended
    reader = store_sftp.Reader(whole + b"rest")
    assert reader.attributes() == store_sftp.Attributes(7, 0o100600, moment)
    assert reader.left() == 4
    assert store_sftp.Reader(struct.pack(">I", 0)).attributes().size == 0
