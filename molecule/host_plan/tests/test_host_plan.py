"""What the roles decide by is what the host says of itself."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def facts(host):
    return host.ansible("bulwark.stack.host_facts", check=False)


def test_system(facts, run):
    release = dict(line.split("=", 1) for line in run("cat /etc/os-release").splitlines() if "=" in line)
    assert facts["distribution"] == release["ID"]
    assert facts["version"] == release["VERSION_ID"].strip('"')
    assert facts["architecture"] == run("dpkg --print-architecture").strip()
    assert facts["container"] is True


def test_size(facts, run):
    assert facts["memory_mb"] == int(run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) // 1024
    assert facts["cpus"] == int(run("getconf _NPROCESSORS_ONLN"))


def test_packages_are_those_of_dpkg(facts, run):
    lines = run("dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\\n'").splitlines()
    installed = {
        name: version for state, name, version in (line.split(maxsplit=2) for line in lines) if state == "installed"
    }
    assert facts["packages"] == installed


def test_accounts_and_addresses(facts, run):
    assert facts["users"]["root"] == 0
    assert set(facts["users"]) == set(run("getent passwd | cut -d: -f1").split())
    assert set(facts["addresses"]) == set(run("hostname -I").split())
