"""The options of jobs: each kind says what it knows, and of which type it is."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from plugins.module_utils._backup.errors import SettingsError
from plugins.module_utils._backup.kinds import KINDS, kind_of, options, target_of
from plugins.module_utils._backup.settings import Job, from_dict


def job(kind: str, **values: Any) -> Job:
    return from_dict(Job, {"name": "one", "kind": kind, **values}, "jobs")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_what_the_flow_calls(name: str) -> None:
    kind = importlib.import_module(f"plugins.module_utils._backup.{KINDS[name]}")
    assert set(kind.REQUIRED) <= set(kind.OPTIONS)
    assert hasattr(kind, "streams") != (hasattr(kind, "snapshot") and hasattr(kind, "forget"))
    assert all(callable(getattr(kind, word)) for word in ("needed_bytes", "drill", "restore", "tools"))
    assert not set(kind.OPTIONS) & set(Job.__dataclass_fields__), "A job's own fields hide options of the same name."


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "redi"}, "did you mean 'redis'"),
        ({"kind": "redis", "adress": "x"}, "did you mean 'address'"),
        ({"kind": "redis", "port": "6379"}, "port must be of type int"),
        ({"kind": "files"}, "needs paths"),
        ({"kind": "files", "paths": []}, "needs paths"),
    ],
)
def test_what_a_job_cannot_say(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        kind_of(job(**values))


def test_defaults_complete_a_job() -> None:
    found = options(job("redis", port=6380))
    assert (found["port"], found["address"]) == (6380, "127.0.0.1")


def test_a_target_that_the_kind_does_not_know() -> None:
    assert target_of(job("files", paths=["/srv"]), {"only": "/srv/a"}) == {"only": "/srv/a"}
    with pytest.raises(SettingsError, match="did you mean 'path'"):
        target_of(job("files", paths=["/srv"]), {"paht": "/srv"})
