"""provision.yml to its end: a server that is created, found, reached by the user of its first boot, and converged.

The server is a test host at the address that the simulator gives; what cloud-init would do there is done from the user
data that was sent. It takes minutes and Docker, so it runs with BULWARK_FULL=1 only.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import FULL, ROOT, Cloud
from tests.cloud.test_provision import PLACES
from tests.hosts import hosts

pytestmark = pytest.mark.skipif(not FULL or not shutil.which("docker"), reason="BULWARK_FULL=1 and Docker only")
NAME = hosts.named("bulwark-provision")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A host that nobody can log in to yet: the key of its root is thrown away."""
    hosts.make_network(NAME)
    hosts.make_key(tmp_path / "key")
    try:
        yield hosts.start(NAME, "debian13", NAME, hosts.make_key(tmp_path / "nobody"))
    finally:
        hosts.remove(NAME)
        hosts.remove_network(NAME)


def first_boot(cloud: Cloud, provider: str) -> None:
    """Does what cloud-init does with the user data of the first server that is created."""
    stock = cloud.simulator.account(provider).stock
    deadline = time.monotonic() + 120
    while not stock.get("first_boots") and time.monotonic() < deadline:
        time.sleep(0.1)
    text = next(iter(stock["first_boots"].values()))["user_data"]
    if not text.startswith("#cloud-config"):
        text = base64.b64decode(text).decode()
    data = json.loads(text.partition("\n")[2])
    for one in data["write_files"]:
        place = f"cat > {one['path']} && chmod {one['permissions']} {one['path']}"
        hosts.docker("exec", "-i", NAME, "sh", "-c", place, text_in=one["content"])
    for one in data["users"]:
        ssh = f"/home/{one['name']}/.ssh"
        make = f"useradd -m -s {one['shell']} {one['name']} && install -d -m 700 -o {one['name']} {ssh} && "
        place = f"cat > {ssh}/authorized_keys && chown {one['name']} {ssh}/authorized_keys"
        hosts.docker("exec", "-i", NAME, "sh", "-c", make + place, text_in="\n".join(one["ssh_authorized_keys"]) + "\n")


def play(cloud: Cloud, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".venv/bin/ansible-playbook"), *words]
    return subprocess.run(command, env=cloud.environment(), capture_output=True, text=True, timeout=1200)


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("provider", ["hetzner"])
def test_a_declared_server_is_created_and_converged(cloud: Cloud, provider: str, address: str, tmp_path: Path) -> None:
    api = cloud.simulator.apis[provider]
    api.free_addresses = [address]
    place = PLACES[provider]
    key = (tmp_path / "key.pub").read_text(encoding="utf-8").strip()
    given: dict[str, Any] = {
        "ansible_user": "deploy",
        "ansible_ssh_private_key_file": str(tmp_path / "key"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={tmp_path}/known_hosts",
        "bulwark_admin_users": [{"name": "deploy", "keys": [key]}],
        "bulwark_servers": [{"name": "app1", "provider": provider, "region": place.region, "plan": place.plan}],
        "provision_accounts": {
            provider: {"api_token": cloud.simulator.token(provider), "api_url": cloud.simulator.url(provider)}
        },
    }
    cloud.source(provider)
    cloud.other("hosts.yml", {"all": {"vars": given}})
    boot = threading.Thread(target=first_boot, args=(cloud, provider), daemon=True)
    boot.start()
    words = ["-i", str(cloud.folder), str(ROOT / "playbooks/provision.yml"), "-e", "provision_confirmed=yes"]
    first = play(cloud, *words)
    boot.join(timeout=5)
    assert first.returncode == 0, first.stdout[-4000:] + first.stderr[-2000:]
    # The firewall of the host is up, and the user of the first boot still comes in.
    assert "Status: active" in hosts.docker("exec", NAME, "ufw", "status")
    again = play(cloud, *words)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-2000:]
    assert "Everything is as declared." in again.stdout
    recap = again.stdout.partition("PLAY RECAP")[2]
    assert "changed=0" in next(line for line in recap.splitlines() if line.startswith("app1"))
