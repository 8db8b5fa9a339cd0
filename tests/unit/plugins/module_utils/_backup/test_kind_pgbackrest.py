"""pgBackRest: which type is due, what may be expired, what the manifest keeps."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import kind_pgbackrest
from plugins.module_utils._backup.errors import BackupError

NOW = datetime(2026, 11, 20, 16, 0, 0, tzinfo=timezone.utc)


def made(kind: str, hours: float, **more: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": {"start": (NOW - timedelta(hours=hours)).timestamp()}, **more}


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], "full"),
        ([made("full", 2)], "incr"),
        ([made("full", 24)], "diff"),
        ([made("full", 23.2)], "diff"),
        ([made("full", 50), made("incr", 2)], "diff"),
        ([made("full", 50), made("diff", 2)], "incr"),
        ([made("full", 167.5), made("diff", 2)], "full"),
        # A week in which nothing ran.
        ([made("full", 400)], "full"),
        # One with damaged pages is none to build on.
        ([made("full", 200), made("full", 2, error=True)], "full"),
    ],
)
def test_the_type_goes_by_the_age_of_what_is_there(present: list[dict[str, Any]], expected: str) -> None:
    assert kind_pgbackrest.next_type(present, 7, NOW) == expected


def chain(*labels: str) -> list[dict[str, Any]]:
    """Backups by pgBackRest's own labels: C(1F), C(1F_2D), C(1F_3I); each I builds on the one before."""
    kinds = {"F": "full", "D": "diff", "I": "incr"}
    found: list[dict[str, Any]] = []
    for label in labels:
        kind = kinds[label[-1]]
        full = label.split("_")[0]
        prior = None if kind == "full" else full if kind == "diff" else found[-1]["label"]
        found.append({"label": label, "type": kind, "prior": prior, "reference": [prior] if prior else None})
    return found


@pytest.mark.parametrize(
    ("unwanted", "gone"),
    [
        ({"1F_2D"}, ["1F_2D"]),
        ({"1F"}, []),
        ({"1F", "1F_2D", "1F_3I"}, ["1F_2D"]),
        ({"1F", "1F_2D", "1F_3I", "1F_4I"}, ["1F_4I", "1F_3I", "1F_2D", "1F"]),
        ({"5F", "unknown"}, ["5F"]),
    ],
)
def test_only_what_nothing_builds_on_is_expired(unwanted: set[str], gone: list[str]) -> None:
    present = chain("1F", "1F_2D")
    present += [
        {"label": "1F_3I", "type": "incr", "prior": "1F", "reference": ["1F"]},
        {"label": "1F_4I", "type": "incr", "prior": "1F_3I", "reference": ["1F", "1F_3I"]},
        *chain("5F"),
    ]
    assert kind_pgbackrest.expirable(present, unwanted) == gone


def test_the_last_full_backup_stays() -> None:
    assert kind_pgbackrest.expirable(chain("1F", "1F_2D"), {"1F", "1F_2D"}) == ["1F_2D"]


def test_an_entry_of_info_is_what_the_manifest_keeps() -> None:
    entry = json.loads(
        '{"archive":{"start":"A4","stop":"A6"},"error":false,"info":{"delta":8457,"repository":{"delta":384,'
        '"size":8532103},"size":69826000},"label":"20261120-165237F_20261120-165245I","lsn":{"start":"0/5","stop":"0/6"},'
        '"prior":"20261120-165237F","timestamp":{"start":1795193565,"stop":1795193567},"type":"incr"}'
    )
    found = kind_pgbackrest.described("main", entry)
    assert found["plain_bytes"] == 69826000
    assert found["stored_bytes"] == 384
    assert found["started"] == "2026-11-20T16:52:45+00:00"
    assert json.loads(json.dumps(found)) == found


def test_two_directories_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was_{name}").touch()
    kind_pgbackrest.swap(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/was_b").exists()
    assert (tmp_path / "b/was_a").exists()
    with pytest.raises(BackupError, match="could not change places: No such file"):
        kind_pgbackrest.swap(tmp_path / "a", tmp_path / "c")
