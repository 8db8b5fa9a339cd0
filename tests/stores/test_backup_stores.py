"""The backup library's stores against real servers, and what they do when those misbehave."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import Store, open_store
from stores.stores import CA, B2Store, RgwStore, SftpStore
from tests.stores.conformance import PART, Conformance, content, hurried, keys

Opener = Callable[..., Store]


@pytest.fixture(scope="session")
def open_s3(s3: RgwStore) -> Opener:
    """Opens a bucket of the S3 store; the words are settings."""

    def _open(**words: Any) -> Store:
        usual = {"endpoint": s3.endpoint, "ca_file": str(CA), **s3.keys._asdict()}
        return hurried(open_store(StoreSettings(kind="s3", **{**usual, **words})))

    return _open


@pytest.fixture(scope="session")
def s3_bucket(s3: RgwStore) -> str:
    name = f"backups-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def open_b2(native_b2: B2Store) -> Opener:
    def _open(**words: Any) -> Store:
        usual = {"endpoint": native_b2.endpoint, "ca_file": str(CA), **native_b2.keys._asdict()}
        return hurried(open_store(StoreSettings(kind="b2", **{**usual, **words})))

    return _open


@pytest.fixture(scope="session")
def b2_bucket(open_b2: Opener) -> str:
    name = f"backups-{uuid.uuid4().hex}"
    session = open_b2(bucket=name).session  # type: ignore[attr-defined]
    settings = open_b2(bucket=name).settings
    session.authorize_account(settings.endpoint, settings.access_key, settings.secret_key)
    session.create_bucket(session.account_info.get_account_id(), name, "allPrivate")
    return name


@pytest.fixture(scope="session")
def open_sftp(box: SftpStore) -> Opener:
    box.facts()

    def _open(**words: Any) -> Store:
        usual: dict[str, Any] = {"host": box.ip, "port": 23, "user": box.user, "path": "/home"}
        files = {"key_file": str(box.key_file), "known_hosts_file": str(box.state / "known_hosts")}
        return hurried(open_store(StoreSettings(kind="sftp", **{**usual, **files, **words})))

    return _open


class TestS3(Conformance):
    @pytest.fixture
    def store(self, open_s3: Opener, s3_bucket: str) -> Store:
        return open_s3(bucket=s3_bucket)


class TestB2(Conformance):
    @pytest.fixture
    def store(self, open_b2: Opener, b2_bucket: str) -> Store:
        return open_b2(bucket=b2_bucket)


class TestSftp(Conformance):
    @pytest.fixture
    def store(self, open_sftp: Opener) -> Store:
        return open_sftp()
