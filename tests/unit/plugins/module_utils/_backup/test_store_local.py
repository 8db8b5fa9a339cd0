"""A folder as a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import Store, open_store
from tests.stores.conformance import Conformance, hurried


class TestLocal(Conformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return hurried(open_store(StoreSettings(kind="local", path=str(tmp_path))))
