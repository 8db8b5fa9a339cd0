"""One host for all site tests of a session. BULWARK_FULL=1 runs every case, else a sample with a printed seed."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/demo")]

from hosts.stack import Stack

IMAGE = os.environ.get("BULWARK_SITE_IMAGE", "debian12")
FULL = bool(os.environ.get("BULWARK_FULL"))
SEED = int(os.environ.get("BULWARK_SEED") or time.time() % 100_000)


def pytest_report_header() -> str:
    return f"site tests: seed {SEED} (BULWARK_SEED={SEED} repeats it){', every case' if FULL else ', sampled'}"


@pytest.fixture(scope="session")
def image() -> str:
    return IMAGE


@pytest.fixture(scope="session")
def full() -> bool:
    return FULL


@pytest.fixture(scope="session")
def dice() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A fresh host that nothing has been done to yet."""
    one = Stack("bulwark-site", ROOT / ".ansible/site", backups=True)
    one.down()
    one.up(IMAGE)
    yield one
    if not os.environ.get("BULWARK_KEEP"):
        one.down()
