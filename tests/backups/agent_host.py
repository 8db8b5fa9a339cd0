"""A test host with the backup agent on it and a local store, without Ansible: for tests of the kinds."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hosts import hosts

LIBRARY = ROOT / "plugins/module_utils/_backup"
AGENT = "/usr/local/lib/bulwark-backup/bulwark_backup"
SETTINGS = "/etc/bulwark-backup/settings.json"
STORE = "/srv/store"


class AgentHost:
    """@param image: such as C(debian12)"""

    def __init__(self, name: str, image: str) -> None:
        self.name, self.image = name, image
        self.jobs: dict[str, dict[str, Any]] = {}

    def up(self, *packages: str) -> AgentHost:
        hosts.start(self.name, self.image, "bridge", "")
        names = shlex.join(["age", "python3-zstandard", *packages])
        self.sh(
            f"dpkg -s {names} > /dev/null 2>&1 || {{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive "
            f"apt-get install -qq -y --no-install-recommends {names}; }}"
        )
        self.install_agent()
        return self

    def install_agent(self) -> None:
        self.sh(f"mkdir -p {AGENT} {STORE} {Path(SETTINGS).parent}")
        files = [path.name for path in LIBRARY.glob("*.py")]
        archive = subprocess.run(["tar", "-cC", str(LIBRARY), *files], capture_output=True, check=True).stdout
        unpack = ["docker", "exec", "-i", self.name, "tar", "-xC", AGENT, "--no-same-owner"]
        subprocess.run(unpack, input=archive, check=True)
        if "age" not in self.sh("ls /etc/bulwark-backup"):
            self.sh("age-keygen -o /etc/bulwark-backup/age.key 2> /dev/null")
        self.public_key = self.sh("age-keygen -y /etc/bulwark-backup/age.key").strip()

    def down(self) -> None:
        hosts.remove(self.name)

    def sh(self, command: str, ok: bool = True, text_in: str = "") -> str:
        """What a shell command printed as root, or, if it may fail, also what it said."""
        words = ["docker", "exec", "-i", self.name, "bash", "-c", command]
        done = subprocess.run(words, capture_output=True, text=True, input=text_in)
        assert done.returncode == 0 or not ok, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout if ok else done.stdout + done.stderr

    def write(self, path: str, text: str) -> None:
        self.sh(f"cat > {shlex.quote(path)}", text_in=text)

    def job(self, name: str, kind: str, **options: Any) -> str:
        """Adds a job to the settings, and gives its name."""
        self.jobs[name] = {"name": name, "kind": kind, **options}
        settings = {
            "host": self.name,
            "store": {"kind": "local", "path": STORE},
            "recipients": [self.public_key],
            "identity_file": "/etc/bulwark-backup/age.key",
            "jobs": list(self.jobs.values()),
        }
        self.write(SETTINGS, json.dumps(settings))
        return name

    def backup(self, *words: str, ok: bool = True) -> str:
        """Runs bulwark-backup."""
        call = f"cd {Path(AGENT).parent} && python3 -m bulwark_backup.cli {shlex.join(words)}"
        return self.sh(call, ok)

    def playbook(
        self, path: Path, state: Path, ok: bool = True, host: dict[str, Any] | None = None, **variables: Any
    ) -> str:
        """Runs a playbook on the host, which is one of the group C(workers), and gives what it printed.

        @param state: folder for the inventory
        @param host: more variables of the host
        """
        words = {"ansible_connection": "docker", "ansible_python_interpreter": "/usr/bin/python3", **(host or {})}
        inventory = state / "hosts.json"
        inventory.write_text(json.dumps({"all": {"children": {"workers": {"hosts": {self.name: words}}}}}))
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        env["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".ansible/collections")
        call = ["ansible-playbook", "-i", str(inventory), "-e", json.dumps(variables), str(path)]
        done = subprocess.run(call, capture_output=True, text=True, env=env, timeout=300)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout

    def install_command(self) -> None:
        """The command as the role installs it, which the runbooks call."""
        self.write("/usr/local/bin/bulwark-backup", (ROOT / "roles/backups/files/bulwark-backup").read_text())
        self.sh("chmod 755 /usr/local/bin/bulwark-backup")

    def manifest(self, job: str) -> dict[str, Any]:
        """That of the newest backup."""
        folder = f"{STORE}/{self.name}/{job}"
        return json.loads(self.sh(f"cat $(ls -d {folder}/*/manifest.json | tail -1)"))
