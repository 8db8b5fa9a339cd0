"""The stores with the client libraries of the distribution; test_distribution.py runs it on a host of each."""

from __future__ import annotations

import json
import os

import pytest

from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import Store, open_store
from tests.stores.conformance import Conformance, hurried

STORES = json.loads(os.environ["STORES"])


@pytest.mark.parametrize("kind", sorted(STORES))
class TestLibraries(Conformance):
    @pytest.fixture
    def store(self, kind: str) -> Store:
        return hurried(open_store(StoreSettings(**STORES[kind])))
