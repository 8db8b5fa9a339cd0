"""`make demo`: a server from nothing, converged by site.yml over SSH and proved from outside.

`demo.py up` converges and proves, `demo.py down` removes everything. The figures stay in .demo/summary.json.
DEMO_CLOUD=hetzner or DEMO_CLOUD=digitalocean lists the host by a cloud inventory as well, out of a simulated account.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hosts.stack import DOMAIN, RunFailed, Stack
from prove import Site, prove

STATE = ROOT / ".demo"
HOSTS_FILE = Path("/etc/hosts")
MARK = "# bulwark demo"
FIGURES = ("seconds", "ok", "changed", "skipped", "failed", "host_tasks")


def say(text: str) -> None:
    print(text, flush=True)


def step(text: str) -> None:
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def play(stack: Stack, name: str, playbook: str = "site.yml", *words: str) -> dict[str, Any]:
    try:
        figures = stack.converge(name, *words, playbook=playbook)
    except RunFailed as failure:
        raise SystemExit(str(failure)) from failure
    say(f"  {figures['seconds']} s, {figures['changed']} changed")
    return figures


def converge(stack: Stack, name: str) -> dict[str, Any]:
    figures = play(stack, name)
    return {key: figures[key] for key in FIGURES}


def plan_table(stack: Stack) -> str:
    """The host plan as the run prints it, see `--tags host_plan`."""
    lines = [line.strip().strip('",') for line in stack.run("--tags", "host_plan").stdout.splitlines()]
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
    began = time.monotonic()
    step("A fresh server, an ACME server and an S3 store")
    image = os.environ.get("DEMO_IMAGE", "debian13")
    stack = Stack("bulwark-demo", STATE, backups=True)
    stack.up(image)
    reachable = publish_name(stack.ip)
    say(f"  {stack.name} ({image}) at {stack.ip}")

    summary_file = STATE / "summary.json"
    before = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.exists() else {}
    step("Running site.yml" + (" with Mitogen" if os.environ.get("MITOGEN") else ""))
    first = converge(stack, "first_run")
    if first["changed"] or not before.get("first_run"):
        step("Running it again")
        second = converge(stack, "second_run")
    else:
        first, second = before["first_run"], first

    step("Proving it from outside")
    checks = verdicts(stack)
    if provider := os.environ.get("DEMO_CLOUD"):
        step(f"Converging the same host as {provider}'s API lists it, simulated")
        with stack.listed_by(provider):
            converge(stack, "cloud_run")
    rebuild = before.get("rebuild") or rebuild_host(stack, image)
    summary = {
        "url": f"https://{DOMAIN}/",
        "ca_file": str(STATE / "ca.pem"),
        "host": stack.ip,
        "ssh": ["ssh", "-i", str(STATE / "key"), "-o", f"UserKnownHostsFile={STATE}/known_hosts", f"deploy@{stack.ip}"],
        "container": stack.name,
        "first_run": first,
        "second_run": second,
        "checks": checks,
        "rebuild": rebuild,
    }
    summary_file.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    good = (
        all(checks.values()) and second["changed"] == 0 and rebuild["data_intact"] and all(rebuild["checks"].values())
    )
    show(stack, summary, reachable)
    say(f"\n{'Everything holds' if good else 'NOT everything holds'}, after {time.monotonic() - began:.0f} s.")
    return 0 if good else 1


def verdicts(stack: Stack) -> dict[str, bool]:
    stack.fetch_root(STATE / "ca.pem")
    checks = prove(stack)
    for name, passed in checks.items():
        say(f"  {'ok    ' if passed else 'FAILED'} {name.replace('_', ' ')}")
    return checks


def rebuild_host(stack: Stack, image: str) -> dict[str, Any]:
    """Loses the host and makes it again from the bucket and the private key."""
    site = Site(stack)
    before = site.finished(site.job())
    step("Backing up everything, and restoring it into a throw-away place")
    play(stack, "backup", "playbooks/backup_now.yml")
    play(stack, "drill", "playbooks/restore_drill.yml")
    step("Destroying the host, and rebuilding it from the bucket")
    stack.destroy_host()
    stack.up(image)
    figures = play(stack, "rebuild", "playbooks/rebuild_host.yml", "-e", "backups_rebuild_confirmed=yes")
    checks = verdicts(stack)
    after = site.look_up(before["id"])
    intact = after == before
    say(f"  {'ok    ' if intact else 'FAILED'} the job that was done before is still there")
    return {**figures["custom"]["demo"]["rebuild"], "data_intact": intact, "checks": checks}


def show(stack: Stack, summary: dict[str, Any], reachable: bool) -> None:
    step("The plan of this host")
    say("\n".join("  " + line for line in plan_table(stack).splitlines()))
    step("The runs")
    say(f"  {'':<8}{'seconds':>9}{'on the host':>13}{'changed':>9}{'ok':>6}{'skipped':>9}")
    for name in ("first_run", "second_run"):
        figures = summary[name]
        say(
            f"  {name.split('_', maxsplit=1)[0]:<8}{figures['seconds']:>9}{figures['host_tasks']:>13}"
            f"{figures['changed']:>9}{figures['ok']:>6}{figures['skipped']:>9}"
        )
    lost = summary["rebuild"]
    say(f"  after the loss of the host: RPO {lost['rpo_seconds']} s, RTO {lost['rto_seconds']} s")
    step("Try next")
    say(f"  open      {summary['url']}    (curl --cacert .demo/ca.pem {summary['url']}health)")
    if not reachable:
        say(f"            first add '{summary['host']} {DOMAIN}' to /etc/hosts")
    say(f"  Flower    https://{DOMAIN}:5555/    admin / {stack.secrets()['demo_flower_password']}")
    say(f"  log in    {' '.join(summary['ssh'])}")
    say("  change    examples/app, then make demo: only the release changes")
    say("  remove    make demo-down")


def down() -> int:
    if shutil.which("docker"):
        Stack("bulwark-demo", STATE, backups=True).down()
    forget_name()
    shutil.rmtree(STATE, ignore_errors=True)
    say("The demo is removed.")
    return 0


if __name__ == "__main__":
    sys.exit({"up": up, "down": down}[sys.argv[1] if len(sys.argv) > 1 else "up"]())
