"""Fixtures that every scenario uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest


def docker(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def name(host: Any) -> str:
    """The name of the test host, which is also its container's."""
    return str(host.backend.get_pytest_id()).partition("://")[2]


@pytest.fixture(scope="module")
def stranger(name: str) -> Any:
    """Runs a command on the other test host of the scenario."""
    names = docker("ps", "--format", "{{.Names}}", "--filter", f"name=^{name.rpartition('-')[0]}-").stdout.split()
    other = next(one for one in names if one != name)

    def _stranger(*words: str) -> subprocess.CompletedProcess[str]:
        return docker("exec", other, *words)

    _stranger.name = other  # type: ignore[attr-defined]
    return _stranger


@pytest.fixture(scope="module")
def outside(name: str, stranger: Any) -> Any:
    """A network that both test hosts are on for the module, with IPv6: the addresses of the host and the stranger's."""
    network = f"{name}-outside"
    docker("network", "create", "--ipv6", "--subnet", "fd00:b0::/64", network, check=True)
    try:
        found = {}
        for one in (name, stranger.name):
            docker("network", "connect", network, one, check=True)
            found[one] = json.loads(docker("inspect", one).stdout)[0]["NetworkSettings"]["Networks"][network]
        keys = ("IPAddress", "GlobalIPv6Address")
        yield tuple([found[one][key] for key in keys] for one in (name, stranger.name))
    finally:
        for one in (name, stranger.name):
            docker("network", "disconnect", "-f", network, one)
        docker("network", "rm", network)


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
