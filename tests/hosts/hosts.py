"""Test hosts: containers that run systemd and sshd like a fresh server, for the demo, the benchmarks and the tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

RUN = [
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE", "--cap-add", "SYSLOG"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777"),
    *("-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "-v", "/var/lib/docker", "--cgroupns", "host"),
]
# What apt downloads, shared by all test hosts; see packages.sh. A host without it downloads everything itself.
PACKAGES = ("-v", "bulwark-packages:/var/cache/bulwark-packages")


def named(name: str) -> str:
    """Of a container or network; C(BULWARK_RUN) puts a word before all of them, so that two runs share a machine."""
    return os.environ.get("BULWARK_RUN", "") + name


def docker(*words: str, check: bool = True, text_in: str | None = None) -> str:
    """Runs the docker client and gives its output.

    @raises SystemExit: it failed and C(check) is set; with its own words
    """
    done = subprocess.run(["docker", *words], capture_output=True, text=True, input=text_in)
    if check and done.returncode:
        raise SystemExit(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def exists(name: str) -> bool:
    return bool(docker("ps", "-aq", "-f", f"name=^{name}$"))


def address(name: str) -> str:
    return docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)


def make_network(name: str) -> str:
    """A network of its own for a set of hosts that find each other by name; gives the controller's address in it."""
    if not docker("network", "ls", "-q", "-f", f"name=^{name}$"):
        docker("network", "create", name)
    return json.loads(docker("network", "inspect", name))[0]["IPAM"]["Config"][0]["Gateway"]


def remove_network(name: str) -> None:
    docker("network", "rm", name, check=False)


def start(name: str, image: str, network: str, public_key: str, *options: str, shares_packages: bool = True) -> str:
    """Starts a host whose root takes the key, as at a provider; gives its address once sshd answers."""
    if exists(name):
        docker("start", name)
    else:
        names = ["--name", name, "--hostname", name, "--network", network]
        volumes = PACKAGES if shares_packages else ()
        docker("run", "-d", *names, *RUN, *volumes, *options, f"bulwark-host:{image}")
        wait(name)
        place_key = (
            "install -d -m 700 /root/.ssh && cat > /root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys"
        )
        docker("exec", "-i", name, "sh", "-c", place_key, text_in=public_key)
    wait(name)
    return address(name)


def wait(name: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ready = "systemctl is-active --quiet ssh || systemctl is-active --quiet ssh.socket"
        if subprocess.run(["docker", "exec", name, "sh", "-c", ready], capture_output=True).returncode == 0:
            return
        time.sleep(0.3)
    raise SystemExit(f"The test host {name} did not start within {seconds:.0f} s; see 'docker logs {name}'.")


def remove(*names: str) -> None:
    for name in names:
        if exists(name):
            docker("rm", "-f", "-v", name)


def make_key(path: Path) -> str:
    """An SSH key without a passphrase, made once; gives the public half."""
    if not path.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bulwark test", "-f", str(path)], check=True
        )
    return path.with_suffix(".pub").read_text(encoding="utf-8")
