"""`make bench`: the figures of docs/benchmarks.md, as ratios within one run. Takes about ten minutes.

All is timed over SSH on fresh test hosts of one machine, one after the other:
  limit   one bash script over one connection that installs the same packages, files, services, data and certificate
  first   the first run of site.yml
  second  a run that changes nothing, plain and with Mitogen
  peers   a play of 99 tasks that reach the host and 66 that are skipped, the size of the peers' stack
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/demo")]

from hosts import hosts
from hosts.stack import Stack, mitogen_environment

STATE = ROOT / ".bench"
IMAGE = os.environ.get("BENCH_IMAGE", "debian13")
REPEAT = int(os.environ.get("BENCH_REPEAT", "3"))


def say(text: str) -> None:
    print(text, flush=True)


def ssh(stack: Stack, user: str) -> list[str]:
    options = ["-i", str(stack.state / "key"), "-o", f"UserKnownHostsFile={stack.state}/known_hosts"]
    return ["ssh", *options, "-o", "StrictHostKeyChecking=accept-new", f"{user}@{stack.ip}"]


@contextmanager
def timed(figures: dict[str, float], name: str) -> Iterator[None]:
    """Wall seconds, and the controller's CPU seconds beside them."""
    before, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures[name] = round(time.monotonic() - before, 1)
    figures[f"{name}_controller_cpu"] = round(after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime, 1)
    say(f"  {name:<24}{figures[name]:>8} s")


# -- the limit: what the same work costs without Ansible --


def recorded_state(stack: Stack, untouched: str) -> dict[str, str]:
    """What the converged host has beyond an untouched one: packages, files of ours, units, firewall rules."""
    manual = set(hosts.docker("exec", stack.name, "apt-mark", "showmanual").split())
    manual -= set(hosts.docker("exec", untouched, "apt-mark", "showmanual").split())
    ours = []
    for task in json.loads((stack.state / "first.json").read_text(encoding="utf-8"))["per_task"]:
        ours += task.get("paths", [])
    releases = [path for path in ours if "/releases/" in path]
    files = sorted({path for path in ours if path.startswith(("/etc/", "/usr/")) and path not in releases})
    listed = "\n".join([*files, "/etc/systemd/system", "/etc/ufw"]) + "\n"
    tar = "tar -cz --no-recursion --files-from=/root/bench.files --ignore-failed-read 2>/dev/null > /root/bench.tgz"
    each = "test -d $f && find $f -maxdepth 2 -not -type d || echo $f"
    expand = f"for f in $(cat /root/bench.list); do {each}; done > /root/bench.files"
    hosts.docker("exec", "-i", stack.name, "sh", "-c", "cat > /root/bench.list", text_in=listed)
    hosts.docker("exec", stack.name, "bash", "-c", f"{expand}; {tar}")
    hosts.docker("cp", f"{stack.name}:/root/bench.tgz", str(STATE / "files.tgz"))
    return {"packages": " ".join(sorted(manual)), "files": str(len(files))}


LIMIT = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends @PACKAGES@ >/dev/null
useradd --system --home-dir /srv/app --shell /usr/sbin/nologin app || true
useradd -m -s /bin/bash deploy || true
usermod -aG app www-data
mkdir -p /srv/app/releases/one /srv/app/shared/media /var/log/app /var/lib/redis/broker /etc/app /var/cache/app
chown redis: /var/lib/redis/broker
systemctl stop redis-server nginx
tar -xzf /root/files.tgz -C / --overwrite
tar -xf /root/app.tar -C /srv/app/releases/one
python3 -m venv /srv/app/releases/one/.venv
/srv/app/releases/one/.venv/bin/pip install -q --no-compile -r /srv/app/releases/one/requirements.txt
/srv/app/releases/one/.venv/bin/python -m compileall -q /srv/app/releases/one >/dev/null || true
ln -sfn releases/one /srv/app/current
chown -R app: /srv/app
systemctl daemon-reload
pg=$(ls /etc/postgresql | tail -1)
systemctl restart postgresql@$pg-main
runuser -u postgres -- psql -qc "CREATE ROLE app LOGIN PASSWORD '@PASSWORD@'" -c "CREATE DATABASE app OWNER app"
runuser -u postgres -- psql -qd app -c "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"
mkdir -p /run/app && chown app:www-data /run/app
set -a; . /etc/app/environment 2>/dev/null || true; set +a
(cd /srv/app/current && runuser -u app -- .venv/bin/python -m app.migrate)
sysctl -q --system >/dev/null 2>&1 || true
ufw --force enable >/dev/null
systemctl start redis@broker app-web.socket app-web prometheus-node-exporter fail2ban || true
systemctl start $(cd /etc/systemd/system && ls celery-*.service)
mkdir -p /etc/nginx/certificates/placeholder /var/lib/letsencrypt/webroot
(cd /etc/nginx/certificates/placeholder && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -days 3650 -subj /CN=placeholder.invalid -keyout privkey.pem -out fullchain.pem 2>/dev/null)
ln -sfn placeholder /etc/nginx/certificates/app
nginx -t -q
systemctl start nginx
export REQUESTS_CA_BUNDLE=/etc/ssl/acme-test-ca.pem
certbot certonly --quiet --non-interactive --agree-tos --email admin@bulwark.test \
  --server https://acme.bulwark.test:14000/dir --key-type ecdsa --cert-name app \
  --webroot --webroot-path /var/lib/letsencrypt/webroot --domain demo.bulwark.test
ln -sfn /etc/letsencrypt/live/app /etc/nginx/certificates/app
systemctl reload nginx
for _ in $(seq 40); do
  curl -fsk --resolve demo.bulwark.test:443:127.0.0.1 https://demo.bulwark.test/health >/dev/null && exit 0
  sleep 0.25
done
echo "The site of the script does not answer." >&2
exit 1
"""


def limit(stack: Stack, script: str) -> None:
    """Runs the script on a fresh host over one connection; the copies belong to the time."""
    send = f"cd {ROOT}/examples/app && tar -cf {STATE}/app.tar --exclude=__pycache__ ."
    subprocess.run(send, shell=True, check=True)
    target = ssh(stack, "root")
    subprocess.run([*target, "cat > /root/files.tgz"], stdin=(STATE / "files.tgz").open("rb"), check=True)
    subprocess.run([*target, "cat > /root/app.tar"], stdin=(STATE / "app.tar").open("rb"), check=True)
    done = subprocess.run([*target, "bash -s"], input=script, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The limit script failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")


# -- the peers' play --

PEERS = [
    ("file", {"path": "/etc/peers/d{n}", "state": "directory", "mode": "0755"}, 25),
    ("template", {"src": "peer.conf.j2", "dest": "/etc/peers/t{n}.conf", "mode": "0644"}, 20),
    ("lineinfile", {"path": "/etc/peers.conf", "line": "key{n} = 1", "create": True, "mode": "0644"}, 18),
    ("apt", {"name": "nginx", "state": "present"}, 12),
    ("systemd_service", {"name": "nginx", "state": "started", "enabled": True}, 10),
    ("command", {"cmd": "true {n}"}, 8),
    ("user", {"name": "peer", "system": True}, 6),
]


def peers_play(folder: Path) -> Path:
    """99 tasks of the peers' kinds that reach the host, and 66 that are skipped."""
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "templates/peer.conf.j2").write_text("# {{ inventory_hostname }}\nvalue = 1\n", encoding="utf-8")
    tasks: list[dict[str, Any]] = [
        {
            "name": "Make the folder",
            "ansible.builtin.file": {"path": "/etc/peers", "state": "directory", "mode": "0755"},
        }
    ]
    for module, arguments, count in PEERS:
        for n in range(count - (module == "file")):
            values = {key: value.format(n=n) if isinstance(value, str) else value for key, value in arguments.items()}
            task = {"name": f"{module} {n}", f"ansible.builtin.{module}": values}
            if module == "command":
                task["changed_when"] = False
            tasks.append(task)
    skipped = [
        {"name": f"Skipped {n}", "ansible.builtin.command": "true", "when": "peers_off | default(false)"}
        for n in range(66)
    ]
    play = [
        {"name": "The peers' stack", "hosts": "all", "become": True, "gather_facts": True, "tasks": tasks + skipped}
    ]
    target = folder / "peers.yml"
    target.write_text(json.dumps(play, indent=1), encoding="utf-8")
    return target


def run_play(stack: Stack, play: Path, **env: str) -> dict[str, Any]:
    stats = STATE / "play.json"
    command = [stack.command()[0], str(play), *stack.command()[2:]]
    done = subprocess.run(command, cwd=ROOT, env={**stack.environment(stats), **env}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{play.name} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return json.loads(stats.read_text(encoding="utf-8"))


# The workers carry the name of their host, over which ten names for one host would quarrel.
WITHOUT_WORKERS = ["--skip-tags", "celery_workers"]


def ten_hosts(stack: Stack) -> list[str]:
    """The words for a run over ten hosts, which are all this one: the controller cannot tell."""
    known = json.loads((stack.state / "inventory.json").read_text(encoding="utf-8"))["all"]["hosts"]["demo"]
    known["web_app_directory"] = str(ROOT / "examples/app")
    names = {f"ten{n}": {} for n in range(10)}
    groups = {group: {"hosts": names} for group in ("web", "workers", "postgres", "redis", "docker")}
    inventory = {"all": {"hosts": dict.fromkeys(names, known), "children": groups}}
    file = STATE / "ten.json"
    file.write_text(json.dumps(inventory), encoding="utf-8")
    return ["-i", str(file), "--limit", "ten*", *WITHOUT_WORKERS]


def best(figures: dict[str, float], name: str, act: Any) -> None:
    """The quickest of a few runs: the others measured the machine's other work."""
    seconds = []
    for _ in range(REPEAT):
        with timed(figures, name):
            act()
        seconds.append(figures[name])
    figures[name] = min(seconds)


def main() -> int:
    shutil.rmtree(STATE, ignore_errors=True)
    figures: dict[str, Any] = {}
    site, plain = Stack("bulwark-bench", STATE / "site"), Stack("bulwark-bench-limit", STATE / "limit")
    for stack in (site, plain):
        stack.down()
        # A new server has to download its packages.
        stack.up(IMAGE, shares_packages=False)
    try:
        say("site.yml on a fresh host")
        with timed(figures, "first"):
            first = site.converge("first")
        figures["first_tasks"] = first["host_tasks"]
        state = recorded_state(site, plain.name)
        say(f"the limit: {len(state['packages'].split())} packages and {state['files']} files by one bash script")
        with timed(figures, "limit"):
            password = site.secrets()["bulwark_postgres_password"]
            limit(plain, LIMIT.replace("@PACKAGES@", state["packages"]).replace("@PASSWORD@", password))
        plain.down()
        say("runs that change nothing")
        best(figures, "second", lambda: figures.update(second_tasks=site.converge("second")["host_tasks"]))
        best(figures, "mitogen", lambda: site.converge("mitogen", **mitogen_environment()))
        with timed(figures, "one_host"):
            site.converge("one_host", *WITHOUT_WORKERS)
        with timed(figures, "ten_hosts"):
            site.converge("ten_hosts", *ten_hosts(site))
        play = peers_play(STATE / "peers")
        run_play(site, play)
        best(figures, "peers", lambda: figures.update(peers_tasks=run_play(site, play)["host_tasks"]))
    finally:
        if not os.environ.get("BULWARK_KEEP"):
            site.down()
            plain.down()
    return report(figures)


def report(figures: dict[str, Any]) -> int:
    rows = [
        ("first run / bash script", figures["first"] / figures["limit"], 1.3),
        ("run without changes / peers' play", figures["second"] / figures["peers"], 0.35),
        ("with Mitogen / without", figures["mitogen"] / figures["second"], 0.5),
        ("tasks that reach the host, no changes", figures["second_tasks"], 45),
        (
            "ten hosts / one, controller CPU",
            figures["ten_hosts_controller_cpu"] / figures["one_host_controller_cpu"],
            3,
        ),
    ]
    say(f"\n{'figure':<40}{'measured':>10}{'at most':>10}")
    missed = 0
    for name, measured, bound in rows:
        missed += measured > bound
        say(f"{name:<40}{measured:>10.2f}{bound:>10}{'' if measured <= bound else '   MISSED'}")
    (STATE / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
