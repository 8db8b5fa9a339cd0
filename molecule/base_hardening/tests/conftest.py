"""How the tests of this scenario reach its hosts: over SSH from the controller, and from the other test host."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reach import KEY, NO_QUESTIONS, RULES, network_of

BIN = Path(sys.executable).parent
SEED = int(os.environ.get("BULWARK_SEED") or time.time() % 100_000)
# Slow ones, and how many of them the quick form takes on each host.
SAMPLED = {"test_lockout": 3, "test_unharden": 1}


def pytest_collection_modifyitems(config, items):
    """The quick form: each lockout takes the time that a host waits for its controller."""
    if os.environ.get("BULWARK_FULL"):
        return
    dice, pools = random.Random(SEED), {}
    for item in items:
        if item.path.stem in SAMPLED:
            pools.setdefault((item.path.stem, id(item.callspec.params["_testinfra_host"])), []).append(item)
    chosen = [
        item for (name, _host), pool in pools.items() for item in dice.sample(pool, min(SAMPLED[name], len(pool)))
    ]
    taken_apart = [item for item in chosen if item.path.stem == "test_unharden"]
    for item in taken_apart[1:]:
        chosen.remove(item)
    left_out = [item for item in items if item.path.stem in SAMPLED and item not in chosen]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    print(f"BULWARK_SEED={SEED}: {', '.join(sorted(item.name for item in chosen))}")


@pytest.fixture
def address(name):
    return network_of(name, "IPAddress")


@pytest.fixture
def ssh(address):
    def _ssh(user, command="true", *options, port=22):
        words = ["ssh", *NO_QUESTIONS, "-i", str(KEY), "-p", str(port), *options, f"{user}@{address}", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)

    return _ssh


class Play:
    """Runs a play of this folder against one host over SSH."""

    def __init__(self, name, address, folder):
        self.name, self.address, self.folder = name, address, folder

    def start(self, *words, playbook=HERE / "harden.yml", user="deploy", port=22, **variables):
        """Begins, in a process group of its own."""
        host = {
            "ansible_host": self.address,
            "ansible_user": user,
            "ansible_port": port,
            "ansible_ssh_private_key_file": str(KEY),
            "ansible_ssh_common_args": " ".join(NO_QUESTIONS),
            "bulwark_admin_users": [{"name": "deploy", "keys": [KEY.with_suffix(".pub").read_text().strip()]}],
            "base_hardening_published_rules": RULES,
            "base_hardening_fail2ban_retries": 3,
            "base_hardening_fail2ban_ignored_addresses": [network_of(self.name, "Gateway")],
            **variables,
        }
        inventory = self.folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": {self.name: host}}}))
        folder = str(self.folder)
        env = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_SSH_CONTROL_PATH_DIR": folder}
        return subprocess.Popen(
            [str(BIN / "ansible-playbook"), "-i", str(inventory), str(playbook), *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True,
        )  # fmt: skip

    def __call__(self, *words, **options):
        """The exit status and everything that it printed."""
        process = self.start(*words, **options)
        try:
            said = process.communicate(timeout=180)[0]
        finally:
            process.kill()
        return process.returncode, " ".join(said.split())


@pytest.fixture
def play(name, address, tmp_path):
    return Play(name, address, tmp_path)


@pytest.fixture
def through_socket(run):
    """Lets a socket accept for sshd, as on Ubuntu, until the test is over."""
    switched = []

    def _through_socket():
        switched.append(run("systemctl disable --now ssh.service && systemctl enable --now ssh.socket"))

    yield _through_socket
    if switched:
        run("systemctl disable --now ssh.socket; systemctl stop ssh.service; systemctl enable --now ssh.service")


@pytest.fixture
def ufw_rules(address):
    """Calls the module alone over SSH, as root, and gives its result."""

    def _call(rules, *words, **options):
        arguments = json.dumps({"rules": rules, **options})
        command = [str(BIN / "ansible"), "all", "-i", f"{address},", "-u", "deploy", "-b", "--private-key", str(KEY)]
        command += [f"--ssh-common-args={' '.join(NO_QUESTIONS)}", "-m", "bulwark.stack.ufw_rules", "-a", arguments]
        out = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False).stdout
        return json.loads(out[out.index("=> {") + 3 : out.rindex("}") + 1])

    return _call


@pytest.fixture
def listening(host):
    """Something that answers on these ports, whatever the firewall says."""
    server = "import http.server,sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]))"
    ports = (8080, 8081, 8082, 8443)
    for port in ports:
        host.run_test(f'systemd-run -q --unit test-{port} python3 -c "{server}" {port}')
    for port in ports:
        host.run(f"for i in $(seq 50); do ss -ltn | grep -q :{port} && break; sleep 0.1; done")
    yield
    host.run("systemctl stop " + " ".join(f"test-{port}" for port in ports))
