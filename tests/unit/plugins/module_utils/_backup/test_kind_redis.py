from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils._backup import kind_redis
from plugins.module_utils._backup.errors import DrillError, SettingsError, SourceError
from plugins.module_utils._backup.kinds import Command

WANTED = {**kind_redis.OPTIONS, "user": "backup", "password": "quite-secret"}


def test_the_password_is_in_the_environment_alone() -> None:
    command = kind_redis.client({**WANTED, "tls": True, "ca_file": "/ca.pem"}, "--rdb", "-")
    assert command.argv == (
        *(
            "redis-cli",
            "-h",
            "127.0.0.1",
            "-p",
            "6379",
            "--tls",
            "--cacert",
            "/ca.pem",
            "--user",
            "backup",
            "--rdb",
            "-",
        ),
    )
    assert command.env == {"REDISCLI_AUTH": "quite-secret"}


def test_a_socket_takes_the_place_of_the_address() -> None:
    assert kind_redis.client({**WANTED, "socket": "/run/r.sock"}).argv[1:3] == ("-s", "/run/r.sock")


def test_what_is_not_the_answer_of_info_is_the_reason() -> None:
    with pytest.raises(SourceError, match="NOAUTH"):
        kind_redis.info(Command(("echo", "NOAUTH Authentication required.")))


def test_keys_of_all_databases() -> None:
    assert kind_redis.keys({"db0": "keys=4,expires=0,avg_ttl=0", "db12": "keys=3,expires=1", "db_size": "keys=9"}) == 7


@pytest.mark.parametrize(("there", "ok"), [(100, True), (95, True), (94, False), (101, False)])
def test_only_what_expires_may_be_missing(there: int, ok: bool) -> None:
    found = {"db0": f"keys={there},expires=0"}
    assert kind_redis.check_loaded({"read": 100, "expires": 5}, found).ok is ok


@pytest.mark.parametrize(
    ("read", "before_and_after", "commands", "ok"),
    [
        (100, [100, 100], 0, True),
        (0, [100, 100], 0, False),
        (5000, [100, 100], 0, False),
        # Whatever happened meanwhile explains it.
        (0, [2000, 2000], 4000, True),
        (50, [0, 100], 3, True),
    ],
)
def test_a_drill_does_not_cry_wolf(read: int, before_and_after: list[int], commands: int, ok: bool) -> None:
    assert kind_redis.check_bounds(read, {"keys": before_and_after, "commands": commands}).ok is ok


def test_the_last_line_of_a_setting_counts(tmp_path: Path) -> None:
    conf = tmp_path / "redis.conf"
    conf.write_text('# dir /no\nappendonly no\ndir "/var/lib/redis/broker"\nAppendOnly yes\n')
    assert kind_redis.settings_of(str(conf)) == {
        "dir": "/var/lib/redis/broker",
        "dbfilename": "dump.rdb",
        "appendonly": "yes",
    }
    conf.write_text("port 1\n")
    with pytest.raises(SettingsError, match="no absolute 'dir'"):
        kind_redis.settings_of(str(conf))


def test_counts_of_the_checker() -> None:
    assert kind_redis.count_of("[info] 5 keys read\n[info] 1 expires\n[info] 0 already expired", "expires") == 1
    with pytest.raises(DrillError):
        kind_redis.count_of("", "keys read")
