"""The firewall and its bans, seen from outside: over SSH from the controller and from the other test host."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reach import KEY, NO_QUESTIONS, declared, network_of, reaches

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def test_ssh_can_be_limited(ufw_rules, stranger, address):
    ssh, *rest = declared()
    assert ufw_rules([{**ssh, "action": "limit"}, *rest])["changed"]
    try:
        code = f"import socket\nfor n in range(9): socket.create_connection(('{address}', 22), 2).close(); print(n)"
        assert len(stranger("python3", "-c", code).stdout.split()) == 5
    finally:
        ufw_rules(declared())


def test_egress_policy(run, ufw_rules, ssh, stranger, address):
    other = network_of(stranger.name, "IPAddress")
    to = {"port": "22", "proto": "tcp", "to": [f"{other}/32"], "name": "other"}
    # sudo looks up the name of its host, and waits for the answer.
    names = {"port": "53", "proto": "udp", "to": ["any"], "name": "DNS"}
    reach = f"timeout 5 bash -c 'exec 3<>/dev/tcp/{other}/22'"
    wide = [names, {**to, "port": "20:22"}, to]
    run(reach)
    try:
        assert ufw_rules(declared(), egress_policy="deny", egress_rules=[names, {**to, "to": ["192.0.2.0/24"]}])[
            "changed"
        ]
        assert "refused" in run(reach, ok=False)
        assert ssh("deploy").returncode == 0
        assert ufw_rules(declared(), egress_policy="deny", egress_rules=wide)["changed"]
        assert not ufw_rules(declared(), egress_policy="deny", egress_rules=wide)["changed"]
        run(reach)
        before = run("cat /etc/ufw/user.rules /etc/ufw/user6.rules")
        run("ufw allow 9999/tcp && ufw delete allow 9999/tcp")
        assert run("cat /etc/ufw/user.rules /etc/ufw/user6.rules") == before
    finally:
        assert ufw_rules(declared())["changed"]
    run(reach)


@pytest.fixture
def exposure(name, stranger, outside, tmp_path):
    """Scans the host over IPv4 and IPv6, from the controller and from the other host: exit status, output, result."""

    def _exposure():
        common = {
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(KEY),
            "ansible_ssh_common_args": " ".join(NO_QUESTIONS),
            "bulwark_admin_users": [],
            "bulwark_addresses": [outside[0][1]],
            "base_hardening_firewall_rules": [{"port": 8080, "from": ["0.0.0.0/0"], "name": "web"}],
            "base_hardening_exposure_tcp_ports": ["22", "8080-8090", "8443"],
        }
        hosts = {one: {**common, "ansible_host": network_of(one, "IPAddress")} for one in (name, stranger.name)}
        inventory, result = tmp_path / "both.json", tmp_path / "exposure.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        extra = {"verify_exposure_json": str(result), "base_hardening_exposure_stranger": stranger.name}
        playbook = HERE.parents[2] / "playbooks/verify_exposure.yml"
        command = [str(BIN / "ansible-playbook"), "-i", str(inventory), "-l", name, "-e", json.dumps(extra)]
        done = subprocess.run([*command, str(playbook)], capture_output=True, text=True, timeout=180, check=False)
        return done.returncode, done.stdout + done.stderr, json.loads(result.read_text())

    return _exposure


def test_scan_from_outside(listening, exposure, run, name, stranger, outside, address):
    code, said, result = exposure()
    assert code == 0, said
    six = outside[0][1]
    for scanner in ("controller", stranger.name):
        assert {f"{address} from {scanner}", f"{six} from {scanner}"} <= set(result["scanned"])
    run("iptables -I INPUT -p tcp --dport 8443 -j ACCEPT; systemctl stop test-8080")
    try:
        code, said, result = exposure()
    finally:
        run("iptables -D INPUT -p tcp --dport 8443 -j ACCEPT")
    assert code
    assert "What answers is not what was declared" in said
    found = {(row["from"].split()[0], row["port"], row["is"], row["why"]) for row in result["rows"]}
    assert found == {
        (scanner, *row)
        for scanner in ("controller", stranger.name)
        for row in (("8443/tcp", "open", "no rule names it"), ("8080/tcp", "closed", "'web': nothing listens"))
    }


def test_who_is_banned_again_and_again_is_away_for_long(run, stranger, address, host):
    own = network_of(stranger.name, "IPAddress")
    try:
        for _time in range(3):
            run(f"fail2ban-client set sshd banip {own} && fail2ban-client set sshd unbanip {own}")
        for _wait in range(40):
            if own in run("fail2ban-client get recidive banip"):
                break
            time.sleep(0.25)
        assert not reaches(stranger, address, 22)
        # A restart forgets nothing.
        run("systemctl restart fail2ban && for i in $(seq 40); do fail2ban-client ping && break; sleep 0.25; done")
        host.run("for i in $(seq 40); do fail2ban-client status recidive && break; sleep 0.25; done")
        assert int(run("fail2ban-client get recidive bantime")) == 7 * 86400
        assert own in run("fail2ban-client get recidive banip")
        assert not reaches(stranger, address, 22)
    finally:
        run("fail2ban-client unban --all")
    assert reaches(stranger, address, 22)


def test_controller_is_never_banned(run, name):
    for jail in ("sshd", "recidive"):
        assert network_of(name, "Gateway") in run(f"fail2ban-client get {jail} ignoreip")
