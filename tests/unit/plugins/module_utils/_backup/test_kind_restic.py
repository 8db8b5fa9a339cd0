from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import kind_restic
from plugins.module_utils._backup.errors import BusyError, IntegrityError, SettingsError, SourceError, StoreError
from plugins.module_utils._backup.kind_restic import Answer
from plugins.module_utils._backup.settings import StoreSettings

S3 = StoreSettings(
    kind="s3",
    provider="hetzner",
    region="fsn1",
    bucket="b",
    prefix="p",
    access_key="id",
    secret_key="secret",
    ca_file="/ca",
)
SFTP = StoreSettings(
    kind="sftp", host="box", port=23, user="u1", path="store", key_file="/key", known_hosts_file="/known"
)


def test_repositories() -> None:
    address, words, env = kind_restic.repository(S3, "web1", "media")
    assert address == "s3:https://fsn1.your-objectstorage.com/b/p/restic/web1/media"
    assert words == ["--cacert", "/ca"]
    assert env == {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "fsn1"}
    address, words, env = kind_restic.repository(SFTP, "web1", "media")
    assert address == "sftp:u1@box:store/restic/web1/media"
    assert words[1].startswith("sftp.command=ssh ")
    assert "-p 23" in words[1]
    assert env == {}
    b2 = StoreSettings(kind="b2", bucket="b", access_key="id", secret_key="secret")
    assert kind_restic.repository(b2, "h", "j")[::2] == (
        "b2:b:restic/h/j",
        {"B2_ACCOUNT_ID": "id", "B2_ACCOUNT_KEY": "secret"},
    )
    assert kind_restic.repository(StoreSettings(kind="local", path="/mnt/"), "h", "j")[0] == "/mnt/restic/h/j"


def test_secrets_are_in_the_environment_alone(context: Any) -> None:
    command = kind_restic.restic(context("restic", paths=["/srv"], password="quite-secret"), "cat", "config", store=S3)
    assert command.env["RESTIC_PASSWORD"] == "quite-secret"
    assert "secret" not in " ".join(command.argv)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(12, [], "Fatal: wrong password or no key found"), SettingsError),
        (Answer(1, [], "Fatal: wrong password or no key found"), SettingsError),
        (Answer(1, [], "Is there a repository at the following location?"), IntegrityError),
        (Answer(11, [], ""), BusyError),
        (Answer(1, [], "unable to create lock: repository is already locked by PID 3"), BusyError),
        (Answer(1, [], "dial tcp: no route to host"), StoreError),
    ],
)
def test_what_restic_says_in_our_words(answer: Answer, error: type) -> None:
    with pytest.raises(error):
        kind_restic.must(answer, "media")


def test_a_pattern_means_one_path() -> None:
    assert kind_restic.pattern_of("/a/b [1]*?\\c") == r"/a/b \[1]\*\?\\c"


def test_samples_are_small_files_that_did_not_change(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("small")
    (tmp_path / "link").symlink_to("small")
    with (tmp_path / "large").open("wb") as handle:
        handle.truncate(kind_restic.SAMPLE_BYTES + 1)
    path = str(tmp_path / "small")
    assert kind_restic.samples_of([str(tmp_path)]) == {path: hashlib.sha256(b"small").hexdigest()}
    assert kind_restic.unchanged_since(path, time.time_ns() + 2 * 10**9)
    assert not kind_restic.unchanged_since(path, time.time_ns())
    assert not kind_restic.unchanged_since(f"{path}-gone", time.time_ns())


def test_a_sample_tells_nothing_without_the_password() -> None:
    sealed = {kind_restic.seal(word, path, "ab") for word in ("one", "two") for path in ("/a", "/b")}
    assert len(sealed) == 4
    assert kind_restic.seal("one", "/\udcff", "ab") != kind_restic.seal("one", "/\udcfe", "ab")


def test_a_file_that_could_not_be_read_makes_it_no_backup(context: Any, tmp_path: Path, monkeypatch: Any) -> None:
    there = context("restic", paths=[str(tmp_path)], password="x")
    forgotten = []
    monkeypatch.setattr(kind_restic, "call", lambda command: forgotten.append(command.argv[-2:]))
    gone = {"message_type": "error", "item": str(tmp_path / "gone")}
    kind_restic.refuse_unread(there, Answer(3, [gone], ""), "abc")
    assert not forgotten
    (tmp_path / "there").touch()
    with pytest.raises(SourceError, match="could not read"):
        kind_restic.refuse_unread(there, Answer(3, [gone, {**gone, "item": str(tmp_path / "there")}], ""), "abc")
    assert forgotten == [("forget", "abc")]
