"""Settings: each mistake is one sentence that names the place; secrets are in none."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils._backup.errors import SettingsError
from plugins.module_utils._backup.settings import Job, Settings, checked, from_dict, of_host

GOOD: dict[str, Any] = {
    "host": "web1",
    "store": {"kind": "local", "path": "/backups"},
    "jobs": [{"name": "etc", "kind": "files", "paths": ["/etc"], "keep": {"daily": 3}}],
}


def test_options_of_a_kind_stand_beside_the_fields_of_a_job() -> None:
    job = from_dict(Settings, GOOD, "settings").job("etc")
    assert job.options == {"paths": ["/etc"]}
    assert job.keep
    assert job.keep.daily == 3


def test_a_job_without_numbers_of_its_own_keeps_as_all_do() -> None:
    settings = from_dict(Settings, {**GOOD, "jobs": [{"name": "a", "kind": "files"}], "keep": {"weekly": 9}}, "s")
    assert settings.keep_of(settings.job("a")).weekly == 9


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hots": "x"}, "settings has no 'hots' (did you mean 'host'?)."),
        ({"store": {"path": "/x"}}, "settings.store.kind is missing."),
        ({"store": {"kind": "s3", "secret_key": 5}}, "settings.store.secret_key must be a text, not int."),
        ({"store": "s3"}, "settings.store must be a dictionary, not str."),
        ({"zstd_level": True}, "settings.zstd_level must be a number, not bool."),
        ({"recipients": "age1"}, "settings.recipients must be a list, not str."),
        ({"jobs": [{"name": 1, "kind": "files"}]}, "settings.jobs[0].name must be a text, not int."),
    ],
)
def test_a_mistake_is_said_with_its_place(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_dict(Settings, {**GOOD, **change}, "settings")
    assert str(error.value) == sentence


def test_no_secret_is_in_a_message() -> None:
    with pytest.raises(SettingsError) as error:
        from_dict(Settings, {**GOOD, "store": {"kind": "s3", "access_key": ["hunter2"]}}, "settings")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"host": "a/b"}, "The host may hold"),
        ({"jobs": [{"name": "../x", "kind": "files"}]}, "The name of a job may hold"),
        ({"jobs": [{"name": "x", "kind": "files", "host": "a b"}]}, "The host of job x may hold"),
        ({"jobs": [{"name": "x", "kind": "files"}, {"name": "x", "kind": "files"}]}, "There are two jobs x"),
        ({"zstd_level": 22}, "zstd_level must be from 1 to 19"),
        ({"store": {"kind": "ftp"}}, "store.kind is 'ftp'"),
        ({"prune_store": {"kind": "local"}}, "prune_store.path is missing"),
    ],
)
def test_names_that_cannot_be_those_of_objects_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        checked(from_dict(Settings, {**GOOD, **change}, "settings"))


def test_a_job_that_is_not_there_is_said_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"no job 'ect' \(did you mean 'etc'\?\)"):
        from_dict(Settings, GOOD, "settings").job("ect")


def test_the_job_of_another_host() -> None:
    settings = from_dict(Settings, GOOD, "settings")
    assert settings.host_of(of_host(Job("etc", "files"), "web2")) == "web2"
