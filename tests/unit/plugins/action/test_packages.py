"""packages: nothing is asked of the host when nothing is missing, and apt's errors become one sentence."""

from __future__ import annotations

import pytest

from plugins.action import packages

KNOWN = {"redis-server": "5:7.0.15-1", "nginx": "1.22"}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["redis-server", "nginx"], []),
        (["redis-server", "ufw"], ["ufw"]),
        (["nginx=1.22"], []),
        (["nginx=1.24"], ["nginx=1.24"]),
        (["ufw=1"], ["ufw=1"]),
        ([], []),
    ],
)
def test_missing(names, wanted):
    assert packages.missing(names, KNOWN) == wanted


def test_the_host_is_left_alone_when_all_is_there(act):
    done = act(packages, names=["nginx"], host={"packages": KNOWN})
    assert done.sent == []
    assert not done.result["changed"]


def test_check_mode_foretells(act):
    done = act(packages, check=True, names=["nginx", "ufw"], host={"packages": KNOWN})
    assert done.sent == []
    assert done.result["changed"]
    assert done.result["diff"]["after"] == "ufw\n"


def test_only_what_is_missing_is_installed(act):
    done = act(packages, names=["nginx", "ufw"], host={"packages": KNOWN}, lock_timeout_seconds=7)
    name, arguments = done.sent[0]
    assert name == "ansible.builtin.apt"
    assert (arguments["name"], arguments["lock_timeout"]) == (["ufw"], 7)
    assert "allow_downgrade" not in arguments
    assert done.result["changed"]
    assert "invocation" not in done.result


def test_a_named_version_may_go_back(act):
    done = act(packages, names=["nginx=1.20"], host={"packages": KNOWN})
    assert done.sent[0][1]["allow_downgrade"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "Failed to lock apt for exclusive operation: E:Could not get lock /var/lib/apt/lists/lock.",
            "the package lock for 600",
        ),
        (
            "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
            "600 s",
        ),
        ("dpkg: error: cannot write: No space left on device", "the disk is full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk is full"),
        ("No package matching 'redis-srever' is available", "do not offer a, b"),
        ("Failed to update apt cache: W:Failed to fetch http://mirror/InRelease", "a package source cannot be used"),
        ("first line\nE: something quite new", "E: something quite new"),
        ("  ", "apt failed without a word"),
    ],
)
def test_the_sentence(said, words):
    assert words in packages.explain(said, ["a", "b"], 600)


def test_a_package_whose_name_has_a_lock_in_it_is_no_lock():
    said = "Setting up libblockdev3 ... E: Failed to fetch http://mirror/lockfile.deb"
    assert "a package source cannot be used" in packages.explain(said, ["lockfile-progs"], 600)
