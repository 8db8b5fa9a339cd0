"""Fixtures that every scenario uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(host: Any) -> Any:
    """Runs a shell command as root on the test host and gives its output; fails with stderr."""

    def _run(command: str, ok: bool = True) -> str:
        result = host.run(command)
        if ok:
            assert result.rc == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout if ok else result.stdout + result.stderr

    return _run


@pytest.fixture
def running(host: Any) -> Any:
    """Asserts that a unit runs and is enabled; shows its journal when not."""

    def _running(unit: str, enabled: bool = True) -> None:
        state = host.run(f"systemctl is-active {unit}").stdout.strip()
        assert state == "active", host.run(f"journalctl --no-pager -n 40 -u {unit}").stdout
        if enabled:
            assert host.run(f"systemctl is-enabled {unit}").stdout.strip() in ("enabled", "static", "generated")

    return _running


@pytest.fixture
def exposure(host: Any) -> Any:
    """The score that systemd-analyze gives a unit: 0 is closed, 10 is open."""

    def _exposure(unit: str) -> float:
        out = host.run(f"systemd-analyze security --no-pager {unit}").stdout
        found = re.search(r"exposure level for \S+: ([0-9.]+)", out)
        assert found, out
        return float(found.group(1))

    return _exposure


@pytest.fixture
def converge(host: Any) -> Any:
    """Runs the scenario's play again on this test host, with other variables, and gives the output."""

    def _converge(*arguments: str, ok: bool = True, **variables: Any) -> str:
        play = Path(__file__).parent / "shared/converge.yml"
        inventory, limit = os.environ["MOLECULE_INVENTORY_FILE"], host.backend.get_hostname()
        command = ["ansible-playbook", "-i", inventory, "-l", limit, "-e", json.dumps(variables), *arguments, str(play)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert (result.returncode == 0) is ok, result.stdout + result.stderr
        return result.stdout + result.stderr

    return _converge
