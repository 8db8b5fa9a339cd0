"""`make demo`: a server from nothing, converged by site.yml over SSH and proved from outside.

`demo.py up` converges and proves, `demo.py down` removes everything. The figures stay in .demo/summary.json.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hosts import hosts  # noqa: E402

STATE = ROOT / ".demo"
HOST, ACME = "bulwark-demo", "bulwark-demo-acme"
DOMAIN, ACME_DOMAIN = "demo.bulwark.test", "acme.bulwark.test"
HOSTS_FILE = Path("/etc/hosts")
MARK = "# bulwark demo"


def say(text: str) -> None:
    print(text, flush=True)


def step(text: str) -> None:
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


# -- the servers ------------------------------------------------------------------------------------------------------


def start_acme() -> None:
    """Pebble, a small ACME server, in a container of its own; its CA comes to .demo/acme-ca.pem."""
    if not (STATE / "acme-ca.pem").exists():
        make_certificate(STATE, ACME_DOMAIN)
    if not hosts.docker("images", "-q", "bulwark-acme"):
        recipe = "FROM bulwark-host:debian13\nRUN apt-get update && apt-get install -y --no-install-recommends pebble curl\n"
        hosts.docker("build", "-q", "-t", "bulwark-acme", "-", text_in=recipe)
    if hosts.exists(ACME):
        hosts.docker("start", ACME)
        return
    hosts.docker(
        *("run", "-d", "--name", ACME, "--network", hosts.NETWORK, "--network-alias", ACME_DOMAIN),
        *("-e", "PEBBLE_VA_NOSLEEP=1", "-e", "PEBBLE_WFE_NONCEREJECT=0", "-v", f"{STATE}:/acme:ro"),
        *("bulwark-acme", "pebble", "-config", "/acme/pebble.json"),
    )


def make_certificate(folder: Path, name: str) -> None:
    """A CA and a certificate for the ACME server, and Pebble's configuration beside them."""
    ca, key = folder / "acme-ca.pem", folder / "acme.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]
    run = {"check": True, "capture_output": True}
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run(["openssl", "req", "-x509", *curve, "-subj", "/CN=demo ACME CA", *usage, "-keyout", f"{folder}/acme-ca.key", "-out", str(ca)], **run)
    subprocess.run(["openssl", "req", *curve[:-2], "-subj", f"/CN={name}", "-keyout", str(key), "-out", f"{folder}/acme.csr"], **run)
    (folder / "acme.ext").write_text(f"subjectAltName=DNS:{name}\n", encoding="utf-8")
    signing = ["-CA", str(ca), "-CAkey", f"{folder}/acme-ca.key", "-CAcreateserial", "-days", "90", "-extfile", f"{folder}/acme.ext"]
    subprocess.run(["openssl", "x509", "-req", "-in", f"{folder}/acme.csr", *signing, "-out", f"{folder}/acme.pem"], **run)
    key.chmod(0o644)
    pebble = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/acme/acme.pem",
        "privateKey": "/acme/acme.key",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": pebble}, indent=1), encoding="utf-8")


def start_host(image: str) -> str:
    key = hosts.make_key(STATE / "key")
    ip = hosts.start(HOST, image, key, "--network-alias", DOMAIN)
    hosts.docker("exec", "-i", HOST, "sh", "-c", "cat > /etc/ssl/acme-test-ca.pem", text_in=(STATE / "acme-ca.pem").read_text())
    return ip


def write_inventory(ip: str) -> None:
    """What only this machine knows: the address, the key, and secrets that are made once."""
    file = STATE / "secrets.json"
    if not file.exists():
        names = ["bulwark_postgres_password", "bulwark_redis_password", "demo_app_secret", "demo_flower_password"]
        file.write_text(json.dumps({name: secrets.token_hex(24) for name in names}), encoding="utf-8")
        file.chmod(0o600)
    variables = {
        **json.loads(file.read_text(encoding="utf-8")),
        "ansible_host": ip,
        "ansible_ssh_private_key_file": str(STATE / "key"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={STATE}/known_hosts",
        "demo_controller_address": hosts.gateway(),
        "bulwark_admin_users": [{"name": "deploy", "keys": [(STATE / "key.pub").read_text(encoding="utf-8").strip()]}],
    }
    target = STATE / "inventory.json"
    target.write_text(json.dumps({"all": {"hosts": {"demo": variables}}}, indent=1), encoding="utf-8")
    target.chmod(0o600)


# -- the runs ---------------------------------------------------------------------------------------------------------


def converge(name: str) -> dict[str, Any]:
    """One run of site.yml; gives its figures."""
    stats, log = STATE / f"{name}.json", STATE / f"{name}.log"
    stats.unlink(missing_ok=True)
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "run_stats",
        "ANSIBLE_NOCOLOR": "1",
        "RUN_STATS_FILE": str(stats),
        "RUN_STATS_PROGRESS": "1",
    }
    if os.environ.get("MITOGEN"):
        env.update(mitogen_environment())
    command = ["ansible-playbook", "site.yml", "-i", "inventories/demo", "-i", str(STATE / "inventory.json")]
    with log.open("w", encoding="utf-8") as handle:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=handle)
    if not stats.exists() or done.returncode:
        say("\n".join(log.read_text(encoding="utf-8").splitlines()[-40:]))
        raise SystemExit(f"The run failed; the whole log is {log}.")
    figures = json.loads(stats.read_text(encoding="utf-8"))
    return {key: figures[key] for key in ("seconds", "ok", "changed", "skipped", "failed", "host_tasks")}


def mitogen_environment() -> dict[str, str]:
    import ansible_mitogen

    plugins = Path(ansible_mitogen.__file__).parent / "plugins/strategy"
    return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}


def plan_table() -> str:
    """The host plan as the run printed it, see `--tags host_plan`."""
    command = ["ansible-playbook", "site.yml", "-i", "inventories/demo", "-i", str(STATE / "inventory.json"), "--tags", "host_plan"]
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1"}
    out = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True).stdout
    lines = [line.strip().strip('",') for line in out.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("service ")]
    if not starts:
        return "(the plan could not be read)"
    end = next(number for number in range(starts[0], len(lines)) if lines[number].startswith("sum "))
    return "\n".join(lines[starts[0] : end + 1])


# -- the address of the page ------------------------------------------------------------------------------------------


def publish_name(ip: str) -> bool:
    """Lets this machine resolve the demo's name; needs root."""
    if not os.access(HOSTS_FILE, os.W_OK):
        return False
    forget_name()
    with HOSTS_FILE.open("a", encoding="utf-8") as handle:
        handle.write(f"{ip} {DOMAIN} {MARK}\n")
    return True


def forget_name() -> None:
    text = HOSTS_FILE.read_text(encoding="utf-8")
    kept = "".join(line for line in text.splitlines(keepends=True) if MARK not in line)
    if kept != text and os.access(HOSTS_FILE, os.W_OK):
        # In place: where /etc/hosts is a mount, it cannot be replaced.
        HOSTS_FILE.write_text(kept, encoding="utf-8")


# -- the commands -----------------------------------------------------------------------------------------------------


def up() -> int:
    from prove import prove

    began = time.monotonic()
    STATE.mkdir(mode=0o700, exist_ok=True)
    STATE.chmod(0o711)
    step("A fresh server and an ACME server")
    image = os.environ.get("DEMO_IMAGE", "debian13")
    start_acme()
    ip = start_host(image)
    write_inventory(ip)
    reachable = publish_name(ip)
    say(f"  {HOST} ({image}) at {ip}")

    summary_file = STATE / "summary.json"
    before = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.exists() else {}
    step("Running site.yml" + (" with Mitogen" if os.environ.get("MITOGEN") else ""))
    first = converge("first_run")
    say(f"  {first['seconds']} s, {first['changed']} changed")
    if first["changed"] or not before.get("first_run"):
        step("Running it again")
        second = converge("second_run")
        say(f"  {second['seconds']} s, {second['changed']} changed")
    else:
        first, second = before["first_run"], first

    step("Proving it from outside")
    acme_root(STATE / "ca.pem")
    checks = prove(ip, DOMAIN, STATE, HOST, ACME)
    for name, passed in checks.items():
        say(f"  {'ok    ' if passed else 'FAILED'} {name.replace('_', ' ')}")

    ssh = ["ssh", "-i", str(STATE / "key"), "-o", f"UserKnownHostsFile={STATE}/known_hosts", f"deploy@{ip}"]
    summary = {
        "url": f"https://{DOMAIN}/",
        "ca_file": str(STATE / "ca.pem"),
        "host": ip,
        "ssh": ssh,
        "container": HOST,
        "first_run": first,
        "second_run": second,
        "checks": checks,
    }
    summary_file.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    good = all(checks.values()) and second["changed"] == 0
    show(summary, reachable, time.monotonic() - began, good)
    return 0 if good else 1


def acme_root(target: Path) -> None:
    """The root that signed the demo's certificate. Pebble makes a new one whenever it starts, so all are kept."""
    url = f"https://{ACME_DOMAIN}:15000/roots/0"
    deadline = time.monotonic() + 20
    while True:
        pem = hosts.docker("exec", ACME, "curl", "-s", "--cacert", "/acme/acme-ca.pem", url, check=False)
        if pem.startswith("-----BEGIN"):
            known = target.read_text(encoding="utf-8") if target.exists() else ""
            if pem not in known:
                target.write_text(known + pem + "\n", encoding="utf-8")
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"The ACME server did not give its root; see 'docker logs {ACME}'.")
        time.sleep(0.5)


def show(summary: dict[str, Any], reachable: bool, seconds: float, good: bool) -> None:
    secret = json.loads((STATE / "secrets.json").read_text(encoding="utf-8"))
    step("The plan of this host")
    say("\n".join("  " + line for line in plan_table().splitlines()))
    step("The runs")
    say(f"  {'':<8}{'seconds':>9}{'on the host':>13}{'changed':>9}{'ok':>6}{'skipped':>9}")
    for name in ("first_run", "second_run"):
        figures = summary[name]
        say(
            f"  {name.split('_', maxsplit=1)[0]:<8}{figures['seconds']:>9}{figures['host_tasks']:>13}{figures['changed']:>9}"
            f"{figures['ok']:>6}{figures['skipped']:>9}"
        )
    step("Try next")
    say(f"  open      {summary['url']}    (curl --cacert .demo/ca.pem {summary['url']}health)")
    if not reachable:
        say(f"            first add '{summary['host']} {DOMAIN}' to /etc/hosts")
    say(f"  Flower    https://{DOMAIN}:5555/    admin / {secret['demo_flower_password']}")
    say(f"  log in    {' '.join(summary['ssh'])}")
    say("  change    examples/app, then make demo: only the release changes")
    say("  remove    make demo-down")
    say(f"\n{'Everything holds' if good else 'NOT everything holds'}, after {seconds:.0f} s.")


def down() -> int:
    if shutil.which("docker"):
        hosts.remove(HOST, ACME)
    forget_name()
    shutil.rmtree(STATE, ignore_errors=True)
    say("The demo is removed.")
    return 0


if __name__ == "__main__":
    sys.exit({"up": up, "down": down}[sys.argv[1] if len(sys.argv) > 1 else "up"]())
