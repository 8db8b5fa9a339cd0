"""Changes after which nobody could come in, on real hosts: each ends with the host as it was, and a sentence.

The quick form takes a few of them on each host, see conftest.py; BULWARK_FULL=1 takes all, BULWARK_SEED the same ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from reach import KEY, NO_QUESTIONS, docker, network_of

BIN = Path(sys.executable).parent
# Enough for a machine that is busy: a run that is slower is put back as well, and says so in other words.
SECONDS = 30
# openssl passwd -6 -salt salt secret
HASH = "$6$salt$egUxKNxDs8kPfh8iPMNcosMhb2eWah6d3R44JDm5Rj/j/XWR5E33QPd0YmHXoDHOIDR6kL5D3JcQcz0O8FHE00"
MINE = KEY.with_suffix(".pub").read_text().strip() if KEY.exists() else ""
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJnCB4tGvGYXBVQMDW0Z8yvcJ4nM9pY3a1bZ1hO3jQ2w of-another-laptop"


def admin(**more):
    return {"bulwark_admin_users": [{"name": "deploy", "keys": [MINE], **more}]}


def sshd(**settings):
    return {"base_hardening_ssh_settings": settings}


# What is changed, and what the run says about it.
CASES = {
    "the address of the controller is denied": (sshd(DenyUsers="*@GATEWAY"), "Permission denied"),
    "the firewall leaves the controller out of the new port": (
        {"base_hardening_ssh_port": 2222, "base_hardening_ssh_allow_from": ["192.0.2.7"]},
        "put back",
    ),
    "nothing answers on the new port": (
        {"base_hardening_ssh_port": 2222, **sshd(ListenAddress="127.0.0.1:2222")},
        "port 2222: Connection refused",
    ),
    "AllowUsers without the user": (sshd(AllowUsers="nobody-here"), "Permission denied"),
    "sudo asks for a password that the run does not have": (admin(sudo="password", password_hash=HASH), "assword"),
    "the key is another one": ({"bulwark_admin_users": [{"name": "deploy", "keys": [OTHER]}]}, "Permission denied"),
    "sshd cannot read the keys": (sshd(AuthorizedKeysFile="/root/nothing/%u"), "Permission denied"),
    "a second factor that the run has no answer to": (
        sshd(KbdInteractiveAuthentication="yes", AuthenticationMethods="publickey,keyboard-interactive"),
        "Permission denied (keyboard-interactive)",
    ),
}


def doors(run):
    """All that decides who comes in, and what listens, one fact a line."""
    return Counter(run("/root/look accounts").splitlines())


def difference(before, after):
    return sorted((before - after).elements()), sorted((after - before).elements())


SAME: tuple[list[str], list[str]] = ([], [])


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.3)
    return False


@pytest.fixture
def armed(host):
    return lambda: host.file("/var/lib/bulwark-guard/armed/state.json").exists


@pytest.fixture
def module(name, tmp_path):
    """Calls a module past SSH, as somebody at the console could, and gives what it printed."""

    def _module(module_name, **arguments):
        words = ["all", "-i", f"{name},", "-c", "community.docker.docker", "-m", f"bulwark.stack.{module_name}"]
        env = {**os.environ, "ANSIBLE_REMOTE_TEMP": "/tmp", "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
        command = [str(BIN / "ansible"), *words, "-a", json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout[done.stdout.index("=> {") + 3 : done.stdout.rindex("}") + 1])

    return _module


@pytest.fixture
def killed(play, ssh, armed):
    """Runs the role with these variables and kills the controller once nobody can come in any more."""

    def _killed(**variables):
        run = play.start(**variables)
        try:
            assert wait_until(lambda: run.poll() is not None or (armed() and ssh("deploy").returncode != 0))
            assert run.poll() is None, "the run ended before it could be killed"
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()

    return _killed


@pytest.mark.parametrize("case", CASES)
def test_the_host_goes_back(case, name, play, ssh, run, armed):
    before = doors(run)
    change, words = CASES[case]
    change = json.loads(json.dumps(change).replace("GATEWAY", network_of(name, "Gateway")))
    code, said = play(base_hardening_rollback_seconds=SECONDS, **change)
    assert code, said
    assert words in said
    assert "the host put back SSH, accounts and firewall as they were" in said.replace("The host", "the host")
    assert not armed()
    assert ssh("deploy", "sudo -n id -u").stdout.strip() == "0"
    assert difference(before, doors(run)) == SAME


def test_nobody_confirms_a_firewall_without_ssh(module, ssh, run, armed):
    before = doors(run)
    module("ufw_rules", rules=[{"port": 443, "from": ["any"], "name": "web"}], guard_seconds=4)
    assert armed()
    assert ssh("deploy", "true", "-o", "ConnectTimeout=1").returncode
    assert wait_until(lambda: not armed(), 20)
    assert ssh("deploy").returncode == 0
    assert difference(before, doors(run)) == SAME


def test_the_controller_dies(killed, play, ssh, run, armed):
    before = doors(run)
    killed(base_hardening_rollback_seconds=SECONDS, **sshd(AllowUsers="nobody-here"))
    assert wait_until(lambda: not armed())
    assert ssh("deploy", "sudo -n id -u").stdout.strip() == "0"
    assert difference(before, doors(run)) == SAME
    code, said = play("--check")
    assert code == 0, said
    assert f"because nobody confirmed the change within {SECONDS} s" in said
    code, said = play()
    assert code == 0, said
    assert "put back" in said
    code, said = play()
    assert "put back" not in said


def test_the_next_run_takes_over_what_a_killed_one_left(killed, play, module, ssh, run, armed):
    before = doors(run)
    # Who comes in still can, because the shared connection of the first run is there no more: this is a new change.
    killed(base_hardening_rollback_seconds=60, base_hardening_ssh_port=2222)
    assert armed()
    code, said = play(port=2222, base_hardening_ssh_port=2222)
    assert code == 0, said
    assert not armed()
    assert ssh("deploy", port=2222).returncode == 0
    code, said = play(port=2222)
    assert code == 0, said
    code, said = play()
    assert code == 0, said
    assert difference(before, doors(run)) == SAME


def test_the_host_restarts_before_the_proof(module, name, host, run, armed, request):
    before = doors(run)
    text = host.file("/etc/ssh/sshd_config.d/00-bulwark.conf").content_string + "AllowUsers nobody-here\n"
    files = [{"path": "/etc/ssh/sshd_config.d/00-bulwark.conf", "content": text, "mode": "0600"}]
    module("files", files=files, guard_seconds=3600)
    assert armed()
    # As a loss of power: nothing has time to end.
    docker("restart", "-t", "0", name)
    # A container has new kernel parameters of its network then.
    before = Counter({line: count for line, count in before.items() if not line.startswith("net.")})
    # Either of them accepts.
    assert wait_until(lambda: host.run("systemctl is-active ssh.service ssh.socket").rc == 0 and not armed())
    ssh = request.getfixturevalue("ssh")
    assert ssh("deploy", "sudo -n id -u").stdout.strip() == "0"
    after = Counter({line: count for line, count in doors(run).items() if not line.startswith("net.")})
    assert difference(before, after) == SAME
    assert "the host restarted before the change was confirmed" in module("guard", state="read")["put_back"]
    module("guard", state="told")
    code, said = request.getfixturevalue("play")()
    assert code == 0, said


def test_a_socket_goes_back_to_its_port(name, play, ssh, run, armed):
    """As on Ubuntu, where a socket accepts for sshd."""
    before = doors(run)
    run("systemctl disable --now ssh.service && systemctl enable --now ssh.socket")
    try:
        # The first connection starts the service.
        assert ssh("deploy").returncode == 0
        within = doors(run)
        change = {"base_hardening_ssh_port": 2222, "base_hardening_ssh_allow_from": ["192.0.2.7"]}
        code, said = play(base_hardening_rollback_seconds=SECONDS, **change)
        assert code, said
        assert "put back" in said
        assert ssh("deploy").returncode == 0
        assert difference(within, doors(run)) == SAME
        assert run("systemctl is-active ssh.socket").strip() == "active"
    finally:
        run("systemctl disable --now ssh.socket; systemctl stop ssh.service; systemctl enable --now ssh.service")
    assert difference(before, doors(run)) == SAME


@pytest.mark.parametrize("way", ["jump", "ipv6"])
def test_the_proof_goes_the_way_of_the_inventory(way, name, stranger, address, play, ssh, run):
    """A good change of the port, over a jump host or over IPv6."""
    if way == "jump":
        other = name[:-1] + ("2" if name.endswith("3") else "3")
        jump = f"ssh {' '.join(NO_QUESTIONS)} -i {KEY} -W %h:%p deploy@{network_of(other, 'IPAddress')}"
        way_in = {"ansible_ssh_common_args": f"{' '.join(NO_QUESTIONS)} -o ProxyCommand='{jump}'"}
    else:
        run("sysctl -w net.ipv6.conf.eth0.disable_ipv6=0")
        shown = run("sleep 2; ip -6 -o addr show dev eth0 scope link")
        way_in = {"ansible_host": shown.split()[3].partition("/")[0] + "%docker0"}
    code, said = play(base_hardening_ssh_port=2222, **way_in)
    assert code == 0, said
    assert ssh("deploy", port=2222).returncode == 0
    code, said = play(port=2222, **way_in)
    assert code == 0, said
    assert ssh("deploy").returncode == 0
    code, said = play()
    assert code == 0, said
