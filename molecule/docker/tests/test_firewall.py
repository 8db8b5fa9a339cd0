"""What containers publish follows the rules of the firewall, seen from the other test host."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

SSH = {"port": "22", "from": ["any"], "name": "ssh"}
SERVE = "/bin/busybox httpd -f -p 80 -h /bin"
# Sends a line each tenth of a second for as long as somebody listens.
TRICKLE = "/bin/busybox nc -ll -p 81 -e /bin/busybox sh -c 'while echo x; do /bin/busybox sleep 0.1; done'"
PUBLISHED, SLOW = "8085", "8086"
# What the rules must live through; all of it with BULWARK_FULL, else one, by the seed.
SEED = int(os.environ.get("BULWARK_SEED") or time.time() % 100_000)
WAYS = ["engine", "firewall", "host"]
SAMPLE = WAYS if os.environ.get("BULWARK_FULL") else [random.Random(SEED).choice(WAYS)]


@pytest.fixture(scope="module")
def ufw(name):
    """Calls the module ufw_rules on the host and gives its result."""

    def _ufw(*rules, **options):
        arguments = json.dumps({"rules": [SSH, *rules], **options})
        command = [
            str(Path(sys.executable).parent / "ansible"),
            name,
            "-i",
            f"{name},",
            "-c",
            "community.docker.docker",
        ]
        command += ["-m", "bulwark.stack.ufw_rules", "-a", arguments]
        out = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ).stdout
        assert "=> {" in out, out
        result = json.loads(out[out.index("=> {") + 3 : out.rindex("}") + 1])
        assert "msg" not in result, result
        return result

    return _ufw


@pytest.fixture(scope="module")
def published(host, ufw, outside):
    """A web server and a slow one, published on every address of a network of their own."""
    ufw()
    commands = (
        "docker image inspect test:1 || docker import /root/image.tar test:1",
        "docker network create own",
        f"docker run -d --restart unless-stopped --name shop --network own -p 0.0.0.0:{PUBLISHED}:80 test:1 {SERVE}",
        f"docker run -d --name slow -p 0.0.0.0:{SLOW}:81 test:1 {TRICKLE}",
    )
    for command in commands:
        done = host.run(command)
        assert done.rc == 0, done.stderr
    yield
    host.run("docker rm -f shop slow; docker network rm own")
    host.run("ufw --force disable")


def reaches(call, address, port=PUBLISHED):
    """Whether something answers; a filter that drops makes one wait."""
    code = f"import socket; socket.create_connection(('{address}', {port}), 1.5).close()"
    return call("python3", "-c", code).returncode == 0


def rule(*sources, port=PUBLISHED, proto="tcp"):
    return {"port": port, "proto": proto, "from": list(sources), "name": "shop"}


def fetch(run, where):
    return run(f"curl -s -m 3 -o /dev/null -w '%{{http_code}}' http://{where}/busybox", ok=False) == "200"


def container(run, name):
    return run(
        f"docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {name}"
    ).strip()


def engine(run):
    return run("systemctl show -p MainPID --value docker").strip()


def test_undeclared_port_is_closed_from_outside_and_open_within(run, ufw, published, outside, stranger):
    (address, _six), _ = outside
    before = engine(run)
    # This is what it would be without the rules; and somebody who removed them is found out.
    run("iptables -F DOCKER-USER")
    assert reaches(stranger, address)
    assert ufw()["changed"]
    assert not reaches(stranger, address)
    assert fetch(run, f"127.0.0.1:{PUBLISHED}")
    assert fetch(run, f"{address}:{PUBLISHED}")
    # Straight, and over the published port of the host.
    for where in (container(run, "shop") + " 80", f"{address} {PUBLISHED}"):
        asked = "(printf 'GET /sh HTTP/1.0\\r\\n\\r\\n'; sleep 0.5)"
        run(f"{asked} | docker run -i --rm --network own test:1 /bin/busybox nc -w 3 {where} | grep -q '200 OK'")
    assert engine(run) == before


def test_declared_port_is_open_for_those_who_may(ufw, published, outside, stranger):
    (address, _six), (own, _six) = outside
    assert ufw(rule("192.0.2.0/24"))["changed"]
    assert not reaches(stranger, address)
    assert ufw(rule("192.0.2.0/24", f"{own}/16"))["changed"]
    assert reaches(stranger, address)
    assert not ufw(rule("192.0.2.0/24", f"{own}/16"))["changed"]
    ufw(rule("any", proto="udp"))
    assert not reaches(stranger, address)
    ufw(rule("any", port="8000:8085"))
    assert reaches(stranger, address)


def test_declaration_is_of_the_published_port(run, ufw, published, outside, stranger):
    (address, _six), _ = outside
    inside = container(run, "shop")
    ufw(rule("any", port="80"))
    assert not reaches(stranger, address)
    # A neighbour may have a route straight to the container.
    stranger("ip", "route", "replace", inside, "via", address)
    try:
        assert not reaches(stranger, inside, "80")
        ufw(rule("any"))
        assert not reaches(stranger, inside, "80")
    finally:
        stranger("ip", "route", "del", inside)


def test_containers_reach_the_outside(run, ufw, published, outside, stranger):
    _, (own, _six) = outside
    ufw()
    run(f"docker run --rm test:1 /bin/busybox nc -w 3 {own} 22 < /dev/null | grep -q SSH")


def test_change_of_rules_cuts_no_connection(run, ufw, published, outside, stranger):
    (address, _six), _ = outside
    ufw(rule("any", port=SLOW))
    code = (
        f"import socket,time; s = socket.create_connection(('{address}', {SLOW}), 3); s.settimeout(3); n = 0\n"
        "end = time.monotonic() + 6\nwhile time.monotonic() < end: n += len(s.recv(99))\nprint(n)"
    )
    command = ["docker", "exec", stranger.name, "python3", "-c", code]
    transfer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    ufw()
    run("ufw reload")
    assert not reaches(stranger, address, SLOW)
    assert int(transfer.communicate(timeout=20)[0] or 0) > 80


def test_egress_policy_holds_for_containers(run, ufw, published, outside, stranger):
    (address, _six), (own, _six) = outside
    said = f"docker run --rm test:1 /bin/busybox nc -w 3 {own} %s < /dev/null | grep -q SSH"
    name = {"proto": "tcp", "name": "other hosts"}
    ufw(rule("any"), egress_policy="deny", egress_rules=[{"port": "9", "to": ["any"], **name}])
    for way in (said % 22, f"timeout 3 bash -c 'exec 3<>/dev/tcp/{own}/22'"):
        assert run(way + " && echo reached", ok=False).strip() != "reached"
    assert fetch(run, f"127.0.0.1:{PUBLISHED}")
    assert reaches(stranger, address)
    ufw(rule("any"), egress_policy="deny", egress_rules=[{"port": "22", "to": [own], **name}])
    for way in (said % 22, f"timeout 3 bash -c 'exec 3<>/dev/tcp/{own}/22'"):
        run(way)
    ufw(rule("any"))
    run(f"timeout 3 bash -c 'exec 3<>/dev/tcp/{own}/22'")


def test_ipv6(run, ufw, published, outside, stranger):
    """The engine of Debian 12 listens itself, that of Debian 13 forwards: both are behind the same rules."""
    (_four, address), (_four, own) = outside
    settings = "/etc/docker/daemon.json"
    wanted = {**json.loads(run(f"cat {settings}")), "experimental": True, "ip6tables": True}
    run(f"cp -p {settings} /root/; echo '{json.dumps(wanted)}' > {settings}")
    run("systemctl reset-failed docker; systemctl restart docker")
    try:
        run("docker network create --ipv6 --subnet fd00:b1::/64 six")
        run(f"docker run -d --name six --network six -p '[::]:8087:80' test:1 {SERVE}")
        ufw()
        assert fetch(run, f"[{address}]:8087")
        assert not reaches(stranger, address, "8087")
        ufw(rule(f"{own}/128", port="8087"))
        assert reaches(stranger, address, "8087")
        ufw(rule("2001:db8::/32", port="8087"))
        assert not reaches(stranger, address, "8087")
        assert run("docker run --rm --network six test:1 /bin/busybox nc -w 3 " + own + " 22 < /dev/null").startswith(
            "SSH"
        )
    finally:
        run(f"docker rm -f six; docker network rm six; mv /root/daemon.json {settings}", ok=False)
        run("systemctl reset-failed docker; systemctl restart docker")


@pytest.mark.parametrize("what", SAMPLE, ids=lambda what: f"{what}-seed{SEED}")
def test_rules_survive(run, ufw, published, outside, stranger, name, what):
    (address, _six), _ = outside
    ufw(rule("any", port=SLOW))
    if what == "engine":
        run("systemctl reset-failed docker; systemctl restart docker")
    elif what == "firewall":
        run("ufw reload && ufw disable && ufw --force enable")
    else:
        subprocess.run(["docker", "restart", "-t", "20", name], check=True, capture_output=True)
    for _wait in range(60):
        if fetch(run, f"127.0.0.1:{PUBLISHED}"):
            break
        time.sleep(0.5)
    assert fetch(run, f"127.0.0.1:{PUBLISHED}")
    assert not reaches(stranger, address)
    assert reaches(stranger, address, SLOW) or what == "host"
    assert not ufw(rule("any", port=SLOW))["changed"]
    ufw(rule("any"))
    assert reaches(stranger, address)


def test_engine_with_nftables(run, ufw, published, outside, stranger):
    """What Docker does with firewall-backend: nftables, by hand: it rewrites in tables of its own and calls nobody."""
    (address, _six), _ = outside
    run("systemctl stop docker.socket docker")
    run("iptables -D FORWARD -j DOCKER-USER", ok=False)
    bridge, port = "br-0123456789ab", "8088"
    steps = (
        "sysctl -qw net.ipv4.ip_forward=1; ip netns add box; ip link add v0 type veth peer name eth0 netns box",
        f"ip link add {bridge} type bridge; ip link set v0 master {bridge} up; ip link set {bridge} up",
        f"ip address add 172.31.9.1/24 dev {bridge}",
        "ip -n box address add 172.31.9.2/24 dev eth0; ip -n box link set eth0 up",
        "ip -n box route add default via 172.31.9.1; nft add table ip docker-bridges",
        "nft add chain ip docker-bridges pre '{ type nat hook prerouting priority dstnat; }'",
        "nft add chain ip docker-bridges post '{ type nat hook postrouting priority srcnat; }'",
        f"nft add rule ip docker-bridges pre fib daddr type local tcp dport {port} dnat to 172.31.9.2:80",
        "nft add rule ip docker-bridges post ip saddr 172.31.9.0/24 masquerade",
        "systemd-run -q --unit box ip netns exec box python3 -m http.server 80",
    )
    try:
        for step in steps:
            run(step)
        run("for i in $(seq 50); do ip netns exec box ss -ltn | grep -q :80 && break; sleep 0.1; done")
        ufw(docker_backend="nftables")
        assert not reaches(stranger, address, port)
        run(f"ip netns exec box python3 -c \"import socket; socket.create_connection(('{outside[1][0]}', 22), 3)\"")
        ufw(rule("any", port=port), docker_backend="nftables")
        assert reaches(stranger, address, port)
        assert not ufw(rule("any", port=port), docker_backend="nftables")["changed"]
    finally:
        run(f"systemctl stop box; ip netns del box; ip link del {bridge}; nft delete table ip docker-bridges", ok=False)
        run("systemctl reset-failed docker; systemctl start docker")
