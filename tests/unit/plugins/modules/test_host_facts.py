"""host_facts: the parsers, and one look at the machine that runs the tests."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml

from plugins.modules import host_facts

STATUS = """Package: redis-server
Status: install ok installed
Architecture: amd64
Version: 5:7.0.15-1
Description: persistent
 key-value store
 .
 second paragraph

Package: removed
Status: deinstall ok config-files
Version: 1

Package: half
Status: install ok half-configured
Version: 2

Package: held
Status: hold ok installed
Version: 3
"""


def test_installed():
    assert host_facts.installed(STATUS) == {"redis-server": "5:7.0.15-1", "held": "3"}
    assert host_facts.installed("") == {}


def test_os_release():
    text = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID='13'\n\n# no more\n"
    release = host_facts.os_release(text)
    assert (release["ID"], release["VERSION_ID"]) == ("debian", "13")


def test_meminfo_mb():
    text = "MemTotal:       16384000 kB\nSwapTotal:             0 kB\n"
    assert host_facts.meminfo_mb(text, "MemTotal") == 16000
    assert host_facts.meminfo_mb(text, "SwapTotal") == 0
    assert host_facts.meminfo_mb("", "MemTotal") == 0


def test_addresses_are_addresses_and_nothing_else():
    """DHCP adds a metric and a tunnel its peer; both stand beside the address."""
    links = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}, {"local": "::1"}]},
        {
            "ifname": "eth0",
            "addr_info": [{"local": "203.0.113.5", "metric": 100}, {"local": "fe80::1"}, {"local": "2001:db8::5"}],
        },
        {"ifname": "wg0", "addr_info": [{"local": "10.0.0.1", "address": "10.0.0.2"}]},
        {"ifname": "eth1"},
        {"ifname": "docker0", "addr_info": [{"local": "172.17.0.1"}]},
        {"ifname": "br-0123456789ab", "addr_info": [{"local": "172.28.0.1"}]},
        {"ifname": "br-lan", "addr_info": [{"local": "192.0.2.1"}]},
        {},
    ]
    assert host_facts.addresses(json.dumps(links)) == ["203.0.113.5", "2001:db8::5", "10.0.0.1", "192.0.2.1"]
    assert host_facts.addresses("") == []


def test_a_look_at_this_machine_gives_all_that_is_documented(run_module, monkeypatch):
    monkeypatch.setattr(host_facts.AnsibleModule, "run_command", lambda self, command: (1, "", ""))
    result = run_module(host_facts)
    documented = yaml.safe_load(host_facts.RETURN)
    assert {name for name, entry in documented.items() if entry["returned"] == "always"} <= set(result)
    assert result["memory_mb"] > 0
    assert result["users"]["root"] == 0


def test_busy_while_cloud_init_works(tmp_path):
    lock = str(tmp_path / "lock")
    assert host_facts.busy(str(tmp_path), lock) == []
    (tmp_path / "enabled").touch()
    assert host_facts.busy(str(tmp_path), lock) == ["cloud-init"]
    (tmp_path / "result.json").touch()
    assert host_facts.busy(str(tmp_path), lock) == []


def test_busy_while_another_process_holds_the_lock(tmp_path):
    lock = tmp_path / "lock"
    lock.touch()
    hold = (
        "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert host_facts.busy(str(tmp_path), str(lock)) == ["package lock"]
        holder.communicate("\n")
    assert host_facts.busy(str(tmp_path), str(lock)) == []


def test_a_default_route_that_a_router_announced():
    zero, one = "0" * 32, "20010db8000000000000000000000000"
    line = (
        "{dest} {size} " + f"{zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 " + "{flags} eth0\n"
    )
    announced = line.format(dest=zero, size="00", flags="00450003")
    configured = line.format(dest=zero, size="00", flags="00000003")
    prefix = line.format(dest=one, size="40", flags="00440001")
    assert host_facts.has_announced_route(prefix + announced)
    assert not host_facts.has_announced_route(prefix + configured)
    assert not host_facts.has_announced_route("")
