"""The key, the options and the rules with which the tests of this scenario reach its hosts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

KEY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "id_ed25519"
RULES = [
    {"port": 8080, "from": ["any"], "name": "web"},
    {"port": 8081, "from": ["192.0.2.0/24", "2001:db8::/32"], "name": "office"},
    {"port": 8082, "from": [], "name": "loopback"},
]
NO_QUESTIONS = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False)


def network_of(name: str, key: str) -> str:
    return docker("inspect", "--format", "{{.NetworkSettings.Networks.bridge." + key + "}}", name).stdout.strip()


def reaches(stranger, address: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(('{address}', {port}), timeout=1)"
    return stranger("python3", "-c", code).returncode == 0


def declared(rules=RULES):
    ssh = {"port": "22", "from": ["any"], "name": "ssh"}
    return [ssh, *({**rule, "port": str(rule["port"])} for rule in rules if rule["from"])]
