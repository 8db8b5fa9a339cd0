"""Test hosts share what apt downloads, and believe nothing that is damaged."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hosts import hosts

NAME = hosts.named("bulwark-packages-test")
INSTALL = "apt-get update -qq && apt-get install -y --no-install-recommends jq"


def downloaded(*before: str) -> str:
    """What a new host downloads to install jq, as apt says it, after the commands in C(before)."""
    command = " && ".join([*before, INSTALL])
    mount = f"{NAME}:/var/cache/bulwark-packages"
    words = ["run", "--rm", "-v", mount, "-e", "DEBIAN_FRONTEND=noninteractive", "bulwark-host:debian12"]
    return re.search(r"Need to get (.*) of archives", hosts.docker(*words, "sh", "-c", command)).group(1)


@pytest.fixture
def volume() -> Iterator[None]:
    hosts.docker("volume", "create", NAME)
    yield
    hosts.docker("volume", "rm", "-f", NAME)


def test_a_package_is_downloaded_once_and_checked_always(volume: None) -> None:
    all_of_it = downloaded()
    assert downloaded() == f"0 B/{all_of_it}"
    shared = "cd /var/cache/bulwark-packages/bookworm"
    assert downloaded(shared, "truncate -s 100 jq_*") != f"0 B/{all_of_it}"
    swap = "size=$(stat -c %s jq_*) && head -c $size /dev/urandom | dd of=$(ls jq_*) conv=notrunc status=none"
    assert downloaded(shared, swap) != f"0 B/{all_of_it}"
    assert downloaded() == f"0 B/{all_of_it}"
