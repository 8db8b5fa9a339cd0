"""One store of each kind for all tests of this folder; a container starts with the first test that asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hosts import hosts

from stores.stores import B2Store, RgwStore, SftpStore

# Another name lets two runs share a machine.
NETWORK = os.environ.get("BULWARK_STORES_NAME", "bulwark-stores")


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
