"""One store of each kind for all tests of this folder; a container starts with the first test that asks for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hosts import hosts

from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import open_store
from stores.stores import CA, B2Store, RgwStore, SftpStore
from tests.stores.conformance import Opener, hurried, unique

NETWORK = hosts.named("bulwark-stores")


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    hosts.make_network(NETWORK)
    yield NETWORK
    hosts.remove_network(NETWORK)


def running(store: Any) -> Iterator[Any]:
    store.stop()
    yield store.start()
    store.stop()


@pytest.fixture(scope="session")
def s3(network: str) -> Iterator[RgwStore]:
    yield from running(RgwStore(f"{network}-s3", network))


@pytest.fixture(scope="session")
def native_b2(network: str) -> Iterator[B2Store]:
    yield from running(B2Store(f"{network}-b2", network))


@pytest.fixture(scope="session")
def box(network: str) -> Iterator[SftpStore]:
    yield from running(SftpStore(f"{network}-box", network, size_mb=512))


@pytest.fixture(scope="session")
def open_s3(s3: RgwStore) -> Opener:
    def _open(**words: Any) -> Any:
        usual = {"endpoint": s3.endpoint, "ca_file": str(CA), **s3.keys._asdict()}
        return hurried(open_store(StoreSettings(kind="s3", **{**usual, **words})))

    return _open


@pytest.fixture(scope="session")
def s3_bucket(s3: RgwStore) -> str:
    name = unique()
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def open_b2(native_b2: B2Store) -> Opener:
    def _open(**words: Any) -> Any:
        usual = {"endpoint": native_b2.endpoint, "ca_file": str(CA), **native_b2.keys._asdict()}
        return hurried(open_store(StoreSettings(kind="b2", **{**usual, **words})))

    return _open


@pytest.fixture(scope="session")
def b2_bucket(open_b2: Opener) -> str:
    name = unique()
    session = open_b2(bucket=name).session  # type: ignore[attr-defined]
    settings = open_b2(bucket=name).settings
    session.authorize_account(settings.endpoint, settings.access_key, settings.secret_key)
    session.create_bucket(session.account_info.get_account_id(), name, "allPrivate")
    return name


@pytest.fixture(scope="session")
def open_sftp(box: SftpStore) -> Opener:
    box.facts()

    def _open(**words: Any) -> Any:
        usual: dict[str, Any] = {"host": box.ip, "port": 23, "user": box.user, "path": "/home"}
        files = {"key_file": str(box.key_file), "known_hosts_file": str(box.state / "known_hosts")}
        return hurried(open_store(StoreSettings(kind="sftp", **{**usual, **files, **words})))

    return _open
