"""The archive that users install: nothing of ours slips in, nothing of theirs is missing, and it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TOP = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "requirements.yml",
    "roles",
}


def run(*command: str, **env: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    run(str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(folder))
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def names(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {member.name for member in tar.getmembers() if not member.isdir()}


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who has installed the archive and nothing else of ours."""
    folder = tmp_path_factory.mktemp("collections")
    home = str(tmp_path_factory.mktemp("home"))
    # An empty file: the settings of this checkout are not theirs.
    config = folder / "ansible.cfg"
    config.write_text("[defaults]\n", encoding="utf-8")
    env = {"ANSIBLE_CONFIG": str(config), "ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_HOME": home}
    # Its dependencies come with the package `ansible`; Galaxy need not be in reach.
    run(str(BIN / "ansible-galaxy"), "collection", "install", "--no-deps", "-p", str(folder), str(archive), **env)
    return env


def tracked(*folders: str) -> set[str]:
    out = run("git", "ls-files", "-co", "--exclude-standard", "-z", "--", *folders)
    return {name for name in out.split("\0") if name and (ROOT / name).is_file()}


def test_only_what_users_need(names: set[str]) -> None:
    top = {name.partition("/")[0] for name in names}
    assert top - TOP == set(), "Add these to build_ignore in galaxy.yml, or to TOP here if users need them."


def test_nothing_of_the_workshop(names: set[str]) -> None:
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {
        "tests",
        "molecule",
        "inventories",
        "__pycache__",
        ".venv",
        ".ansible",
        ".demo",
        ".git",
        "ansible.cfg",
    }
    assert not [name for name in names if name.endswith((".pyc", ".log", ".retry", ".key", ".pem", ".tar.gz"))]


def test_everything_that_runs_is_there(names: set[str]) -> None:
    missing = tracked("roles", "plugins", "playbooks", "meta") - names
    assert not missing, f"build_ignore in galaxy.yml drops {sorted(missing)}."


def test_the_site_can_be_called_by_its_name(installed: dict[str, str]) -> None:
    play = [str(BIN / "ansible-playbook"), "bulwark.stack.site", "-i", "host1,"]
    run(*play, "--syntax-check", **installed)
    tasks = run(*play, "--list-tasks", **installed)
    for role in ("host_plan", "base_hardening", "postgres_tuned", "redis", "web_app", "nginx_certbot", "node_exporter"):
        assert f"{role} : " in tasks or f"TAGS: [{role}]" in tasks, f"site.yml does not run {role}."


@pytest.mark.parametrize("path", sorted(ROOT.glob("playbooks/*.yml")), ids=lambda path: path.stem)
def test_every_playbook_parses(installed: dict[str, str], path: Path) -> None:
    run(str(BIN / "ansible-playbook"), f"bulwark.stack.{path.stem}", "-i", "host1,", "--syntax-check", **installed)
