"""Inventories read through the simulator, as a user reads them. BULWARK_FULL=1 runs every case, else a sample."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cloud import openapi
from tests.cloud.simulator import PROVIDERS, Simulator

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv/bin"
FULL = bool(os.environ.get("BULWARK_FULL"))
SEED = int(os.environ.get("BULWARK_SEED") or time.time() % 100_000)


def pytest_report_header() -> str:
    return f"cloud tests: seed {SEED} (BULWARK_SEED={SEED} repeats it){', every case' if FULL else ', sampled'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of one provider runs for each of them, or for the one that luck chooses."""
    if "provider" not in metafunc.fixturenames:
        return
    if any("provider" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")):
        return
    luck = random.Random(f"{SEED} {metafunc.definition.name}")
    metafunc.parametrize("provider", PROVIDERS if FULL else [luck.choice(PROVIDERS)])


@pytest.fixture
def dice() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as one:
        yield one


@dataclass
class Read:
    """What a run of ansible-inventory gave."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def tree(self) -> dict[str, Any]:
        if self.code:
            return {}

        def _plain(value: dict[str, Any]) -> Any:
            """Ansible marks texts that are no templates like this."""
            return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else value

        # With -v lines of the log come first.
        tree: dict[str, Any] = json.loads(self.out[self.out.index("{\n") :], object_hook=_plain)
        return tree

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        return self.tree.get("_meta", {}).get("hostvars", {})

    @property
    def groups(self) -> dict[str, set[str]]:
        """Each group with the hosts that are in it directly."""
        return {name: set(group.get("hosts", [])) for name, group in self.tree.items() if name != "_meta"}

    @property
    def ids(self) -> list[str]:
        return sorted(str(one["bulwark_id"]) for one in self.hosts.values() if "bulwark_id" in one)

    @property
    def said(self) -> str:
        return self.out + self.err

    @property
    def complaint(self) -> str:
        """Warnings and errors as one line, without what -v adds."""
        return " ".join(line.strip() for line in self.err.splitlines())


class Cloud:
    """A folder with inventory sources, and the commands that read them."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder, self.simulator = folder / "inventory", simulator
        self.home = folder / "home"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sources: list[str] = []
        self.env: dict[str, str] = {}

    def source(self, provider: str, account: str = "main", file: str = "", **options: Any) -> Path:
        """A source file; options that are None are left out."""
        path = self.folder / (file or f"{account}.{provider}.yml")
        usual = {
            "plugin": f"bulwark.stack.{provider}",
            "api_token": self.simulator.token(provider, account) if "api_token" not in options else "",
            "api_url": self.simulator.url(provider),
            "request_timeout_seconds": 3,
            "total_timeout_seconds": 12,
        }
        given = {name: value for name, value in {**usual, **options}.items() if value is not None}
        path.write_text(yaml.safe_dump(given, allow_unicode=True, sort_keys=False), encoding="utf-8")
        self.sources.append(str(path))
        return path

    def other(self, file: str, content: Any) -> Path:
        path = self.folder / file
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        self.sources.append(str(path))
        return path

    def environment(self) -> dict[str, str]:
        tokens = {"HCLOUD_TOKEN", "DIGITALOCEAN_TOKEN", "DO_API_TOKEN", "VULTR_API_KEY", "LINODE_API_TOKEN"}
        return {
            **{name: value for name, value in os.environ.items() if name not in tokens},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
            "ANSIBLE_HOME": str(self.home),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            **self.env,
        }

    def run(self, *command: str, cwd: Path | None = None) -> Read:
        begun = time.monotonic()
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=cwd or self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Read(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    def read(self, *words: str) -> Read:
        """ansible-inventory --list, or what the words say instead."""
        inventories = [word for source in self.sources for word in ("-i", source)]
        return self.run("ansible-inventory", *inventories, *(words or ("--list",)))

    def listed(self, *words: str) -> Read:
        """As read(), and it must be good."""
        read = self.read("--list", *words)
        assert read.code == 0, read.said[-3000:]
        return read

    def play(self, hosts: str, *tasks: dict[str, Any], words: tuple[str, ...] = ()) -> Read:
        """A playbook with these tasks, on this machine in the name of the hosts."""
        playbook = self.folder.parent / "play.yml"
        play = {"hosts": hosts, "gather_facts": False, "connection": "local", "tasks": list(tasks)}
        playbook.write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
        inventories = [word for source in self.sources for word in ("-i", source)]
        read = self.run("ansible-playbook", *inventories, str(playbook), *words)
        assert read.code == 0, read.said[-3000:]
        return read

    def leaks(self) -> list[str]:
        """Files of the folder, other than the sources, that a token is in."""
        tokens = [token for api in self.simulator.apis.values() for token in api.accounts]
        return [
            str(file)
            for file in self.folder.parent.rglob("*")
            if file.is_file() and str(file) not in self.sources
            for token in tokens
            if token.encode() in file.read_bytes()
        ]


@pytest.fixture(scope="session")
def documents() -> dict[str, openapi.Document]:
    """The providers' own, if BULWARK_OPENAPI names a folder with them; without it the simulator's rules count alone."""
    folder = os.environ.get("BULWARK_OPENAPI")
    return openapi.documents(Path(folder)) if folder else {}


@pytest.fixture
def cloud(tmp_path: Path, simulator: Simulator, documents: dict[str, openapi.Document]) -> Iterator[Cloud]:
    """One whose requests are all as the documents want them."""
    one = Cloud(tmp_path, simulator)
    yield one
    assert not simulator.violations
    assert not openapi.request_faults(simulator.log, documents)
    assert not one.leaks()
