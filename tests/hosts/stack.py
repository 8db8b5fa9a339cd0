"""One host that site.yml converges over SSH, with an ACME server beside it; for the demo, benchmarks and tests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from stores.stores import CA, RgwStore, make_certificate

from hosts import hosts
from plugins.module_utils._backup import crypto
from tests.cloud.fleet import plain
from tests.cloud.simulator import Simulator

BUCKET = "backups"
DOMAIN, ACME_DOMAIN = "demo.bulwark.test", "acme.bulwark.test"
SECRETS = ["bulwark_postgres_password", "bulwark_redis_password", "demo_app_secret", "demo_flower_password"]


class RunFailed(Exception):
    """A run of site.yml ended badly; the text holds its last lines."""


class Stack:
    """A host from nothing and what belongs to it.

    @param name: of the container, and with C(-acme) of the ACME server beside it
    @param state: folder for keys, secrets, logs and figures
    @param backups: whether it has a store, which takes a while to start
    """

    def __init__(self, name: str, state: Path, backups: bool = False) -> None:
        name = hosts.named(name)
        self.name, self.acme, self.state = name, f"{name}-acme", state
        self.store = RgwStore(f"{name}-store", name) if backups else None
        self.ip = self.controller = ""
        self.inventories = [ROOT / "inventories/demo", state / "inventory.json"]
        state.mkdir(parents=True, exist_ok=True)
        # The ACME server in its container reads its certificate from here.
        state.chmod(0o711)

    # -- the servers --------------------------------------------------------------------------------------------------

    def up(self, image: str, shares_packages: bool = True) -> None:
        """Starts the servers in a network of their own and writes the inventory; what runs already stays."""
        self.controller = hosts.make_network(self.name)
        self.start_acme()
        if self.store:
            self.store.start()
            self.store.client().create_bucket(Bucket=BUCKET)
        key = hosts.make_key(self.state / "key")
        alias = ("--network-alias", DOMAIN)
        self.ip = hosts.start(self.name, image, self.name, key, *alias, shares_packages=shares_packages)
        ca = (self.state / "acme-ca.pem").read_text(encoding="utf-8")
        hosts.docker("exec", "-i", self.name, "sh", "-c", "cat > /etc/ssl/acme-test-ca.pem", text_in=ca)
        self.write_inventory()

    def destroy_host(self) -> None:
        """As a provider that lost it: the disk is gone, too."""
        hosts.remove(self.name)
        # The new host has a new key of its own.
        (self.state / "known_hosts").unlink(missing_ok=True)

    def down(self) -> None:
        hosts.remove(self.name, self.acme, *([self.store.name] if self.store else []))
        hosts.remove_network(self.name)

    def start_acme(self) -> None:
        """Pebble, a small ACME server, in a container of its own; its CA is acme-ca.pem in the state folder."""
        if not (self.state / "acme-ca.pem").exists():
            make_acme(self.state, ACME_DOMAIN)
        if not hosts.docker("images", "-q", "bulwark-acme"):
            recipe = (
                "FROM bulwark-host:debian13\nRUN apt-get update && apt-get install -y --no-install-recommends pebble\n"
            )
            hosts.docker("build", "-q", "-t", "bulwark-acme", "-", text_in=recipe)
        if hosts.exists(self.acme):
            hosts.docker("start", self.acme)
            return
        hosts.docker(
            *("run", "-d", "--name", self.acme, "--network", self.name, "--network-alias", ACME_DOMAIN),
            *("-e", "PEBBLE_VA_NOSLEEP=1", "-e", "PEBBLE_WFE_NONCEREJECT=0", "-v", f"{self.state}:/acme:ro"),
            *("bulwark-acme", "pebble", "-config", "/acme/pebble.json"),
        )

    def fetch_root(self, target: Path) -> None:
        """Adds the root of the ACME server to a file. Pebble makes a new one whenever it starts, so all are kept."""
        url = f"https://{ACME_DOMAIN}:15000/roots/0"
        deadline = time.monotonic() + 20
        while True:
            pem = hosts.docker("exec", self.acme, "curl", "-s", "--cacert", "/acme/acme-ca.pem", url, check=False)
            if pem.startswith("-----BEGIN"):
                known = target.read_text(encoding="utf-8") if target.exists() else ""
                if pem not in known:
                    target.write_text(known + pem + "\n", encoding="utf-8")
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"The ACME server did not give its root; see 'docker logs {self.acme}'.")
            time.sleep(0.5)

    # -- the inventory ------------------------------------------------------------------------------------------------

    def secrets(self) -> dict[str, str]:
        """The secrets of this host, made once."""
        file = self.state / "secrets.json"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(json.dumps({name: secrets.token_hex(24) for name in SECRETS}), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def all_secrets(self) -> dict[str, str]:
        """Everything that no output may show."""
        backups = (
            {
                "private key of the backups": self.backup_key()["identity"],
                "key of the store": self.store.keys.secret_key,
            }
            if self.store
            else {}
        )
        return {**self.secrets(), **backups}

    def write_inventory(self) -> None:
        """What only this machine knows: the address, the key and the secrets."""
        variables = {
            **self.secrets(),
            "ansible_host": self.ip,
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(self.state / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.state}/known_hosts",
            "demo_controller_address": self.controller,
            "bulwark_admin_users": [
                {"name": "deploy", "keys": [(self.state / "key.pub").read_text(encoding="utf-8").strip()]}
            ],
            **self.backups(),
        }
        target = self.state / "inventory.json"
        target.touch(mode=0o600)
        target.write_text(json.dumps({"all": {"hosts": {"demo": variables}}}, indent=1), encoding="utf-8")

    @contextmanager
    def listed_by(self, provider: str) -> Iterator[None]:
        """Inside, the host is a server of a simulated cloud: its address and its groups come from there."""
        folder, groups = self.state / "cloud", ("web", "workers", "postgres", "redis", "docker")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        (folder / "group_vars").symlink_to(ROOT / "inventories/demo/group_vars")
        known = json.loads((self.state / "inventory.json").read_text(encoding="utf-8"))["all"]["hosts"]["demo"]
        # What no cloud says: the keys and secrets; and group_vars look for the application beside themselves.
        own = {name: value for name, value in known.items() if name != "ansible_host"}
        own["web_app_directory"] = str(ROOT / "examples/app")
        (folder / "secrets.json").write_text(json.dumps({"all": {"hosts": {"demo": own}}}), encoding="utf-8")
        labels = {"bulwark-role": ".".join(groups)} if provider == "hetzner" else {}
        tags = () if labels else tuple(f"role:{group}" for group in groups)
        before = self.inventories
        with Simulator() as simulator:
            simulator.fill(provider, [replace(plain(1, "demo", public_ipv4=self.ip), labels=labels, tags=tags)])
            source = {
                "plugin": f"bulwark.stack.{provider}",
                "api_url": simulator.url(provider),
                "api_token": simulator.token(provider),
            }
            lines = [f"{name}: {value}\n" for name, value in source.items()]
            (folder / f"demo.{provider}.yml").write_text("".join(lines), encoding="utf-8")
            self.inventories = [folder / f"demo.{provider}.yml", folder / "secrets.json"]
            try:
                yield
            finally:
                self.inventories = before

    def backups(self) -> dict[str, Any]:
        """The store and the keys of the backups, as a user writes them."""
        if not self.store:
            return {}
        store = self.store.describe()
        pair = self.backup_key()
        return {
            "backups_store": {
                "kind": "s3",
                "endpoint": store["named_endpoint"],
                "region": store["region"],
                "bucket": BUCKET,
                "access_key": store["access_key"],
                "secret_key": store["secret_key"],
                "ca": Path(store["ca_file"]).read_text(encoding="utf-8"),
            },
            "backups_recipients": [pair["recipient"]],
            "backups_identity": pair["identity"],
        }

    def backup_key(self) -> dict[str, str]:
        """A key pair for the backups, made once; it stays when the host goes."""
        file = self.state / "backup-key.json"
        if not file.exists():
            secret = X25519PrivateKey.generate()
            pair = {
                "identity": crypto.bech32("age-secret-key-", secret.private_bytes_raw()).upper(),
                "recipient": crypto.bech32("age", secret.public_key().public_bytes_raw()),
            }
            file.touch(mode=0o600)
            file.write_text(json.dumps(pair), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    # -- the runs -----------------------------------------------------------------------------------------------------

    def command(self, *words: str, playbook: str = "site.yml") -> list[str]:
        return [
            str(ROOT / ".venv/bin/ansible-playbook"),
            playbook,
            *(word for inventory in self.inventories for word in ("-i", str(inventory))),
            *words,
        ]

    def environment(self, stats: Path | None = None) -> dict[str, str]:
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "run_stats",
            "ANSIBLE_NOCOLOR": "1",
        }
        if stats:
            env["RUN_STATS_FILE"] = str(stats)
        if os.environ.get("MITOGEN"):
            env.update(mitogen_environment())
        return env

    def run(self, *words: str, playbook: str = "site.yml", **extra_env: str) -> subprocess.CompletedProcess[str]:
        """Runs a playbook with further words and gives what it printed, good or bad."""
        env = {**self.environment(), **extra_env}
        return subprocess.run(
            self.command(*words, playbook=playbook),
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def converge(self, name: str, *words: str, playbook: str = "site.yml", **extra_env: str) -> dict[str, Any]:
        """One run with its figures; the log and the figures stay in the state folder under this name.

        @raises RunFailed: with the last lines of the log
        """
        stats, log = self.state / f"{name}.json", self.state / f"{name}.log"
        stats.unlink(missing_ok=True)
        env = {**self.environment(stats), "RUN_STATS_PROGRESS": "1", **extra_env}
        with log.open("w", encoding="utf-8") as handle:
            done = subprocess.run(self.command(*words, playbook=playbook), cwd=ROOT, env=env, stdout=handle)
        if not stats.exists() or done.returncode:
            tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-40:])
            raise RunFailed(f"{tail}\nThe run failed; the whole log is {log}.")
        return json.loads(stats.read_text(encoding="utf-8"))


def mitogen_environment() -> dict[str, str]:
    import ansible_mitogen

    plugins = Path(ansible_mitogen.__file__).parent / "plugins/strategy"
    return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}


def make_acme(folder: Path, name: str) -> None:
    """What the ACME server in its container reads: its certificate, the CA of that, and Pebble's configuration."""
    make_certificate(folder, [f"DNS:{name}"])
    shutil.copy(CA, folder / "acme-ca.pem")
    (folder / "key.pem").chmod(0o644)
    pebble = json.loads((ROOT / "tests/hosts/pebble.json").read_text(encoding="utf-8"))
    pebble["pebble"].update(certificate="/acme/cert.pem", privateKey="/acme/key.pem")
    (folder / "pebble.json").write_text(json.dumps(pebble, indent=1), encoding="utf-8")
