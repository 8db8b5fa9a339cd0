"""The figures of the cloud inventories: each against floors that are measured in the same run, with the same hosts.

    python tests/bench/cloud.py [provider ...]

BENCH_HOSTS (1000,10000) are the numbers of hosts, BENCH_LATENCY (0.08) the seconds before each answer of the simulator.
The floors are ansible-inventory with one host, a plugin that adds the same hosts and groups from a JSON file, and eight
threads that fetch the same pages. On a machine that does other things too, CPU seconds are the number to trust.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv/bin"
REPEAT = int(os.environ.get("BENCH_REPEAT", "3"))
HOSTS = [int(one) for one in os.environ.get("BENCH_HOSTS", "1000,10000").split(",")]
LATENCY = float(os.environ.get("BENCH_LATENCY", "0.08"))
PROVIDERS = ("hetzner", "digitalocean", "vultr", "linode")
# The most requests for 1,000 and 10,000 hosts: pages, and what is beside the list of servers.
REQUESTS = {"hetzner": (21, 201), "digitalocean": (6, 51), "vultr": (3, 26), "linode": (4, 40)}
CONFIG = """
[defaults]
collections_path = {root}/.ansible/collections
inventory_plugins = {root}/tests/bench/floor
[inventory]
enable_plugins = host_list, memory, auto
unparsed_is_failed = true
any_unparsed_is_failed = true
"""
TYPICAL = """
keyed_groups:
  - {{prefix: t, key: {prefix}tags}}
  - {{prefix: r, key: {prefix}region}}
  - {{prefix: p, key: {prefix}plan}}
groups: {{active: "{prefix}status in ['running', 'active']"}}
compose: {{ansible_user: "'admin'"}}
"""
# Those peers that are in the virtual environment and can read today's answers.
PEERS = {
    "vultr": ("vultr.cloud.vultr", "api_key: {api_token}\napi_endpoint: {api_url}", "vultr_"),
    "digitalocean": (
        "community.digitalocean.digitalocean",
        "oauth_token: {api_token}\nbaseurl: {api_url}\n"
        "attributes: [id, name, tags, region, size_slug, status, networks]",
        "do_",
    ),
}


def measured(words: list[str], output: Path) -> dict[str, float]:
    """Wall and CPU seconds and MiB of a command that must end well."""
    begun = time.monotonic()
    with output.open("wb") as handle:
        process = subprocess.Popen(words, stdout=handle, stderr=subprocess.PIPE, cwd=output.parent)
        said = process.stderr.read() if process.stderr else b""
        _pid, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {status}: {said.decode()}")
    wall = time.monotonic() - begun
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}


def fetch(provider: str, url: str, token: str) -> None:
    """The floor of fetching: pages side by side over eight connections that are kept, printed as JSON."""
    parts, mine = urlsplit(url), threading.local()
    path, key, size = {
        "hetzner": ("/servers", "servers", "per_page=50"),
        "digitalocean": ("/droplets", "droplets", "per_page=200"),
        "vultr": ("/instances", "instances", "per_page=500"),
        "linode": ("/linode/instances", "data", "page_size=500"),
    }[provider]

    def get(query: str, list_path: str = path) -> Any:
        import gzip

        if not hasattr(mine, "connection"):
            mine.connection = HTTPConnection(parts.hostname or "", parts.port)
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
        mine.connection.request("GET", f"{parts.path}{list_path}?{query}", headers=headers)
        return json.loads(gzip.decompress(mine.connection.getresponse().read()))

    with ThreadPoolExecutor(8) as pool:
        beside = pool.submit(get, "page_size=500", "/vpcs/ips") if provider == "linode" else None
        first = pool.submit(get, f"{size}&page=1" if provider != "vultr" else size).result()
        servers = first[key]
        if provider == "vultr":
            cursor = first["meta"]["links"]["next"]
            while cursor:
                more = get(f"{size}&cursor={cursor}")
                servers += more[key]
                cursor = more["meta"]["links"]["next"]
        else:
            total = first.get("results") or first["meta"].get("total") or first["meta"]["pagination"]["total_entries"]
            pages = range(2, -(-total // int(size.partition("=")[2])) + 1)
            for more in pool.map(lambda page: get(f"{size}&page={page}"), pages):
                servers += more[key]
        if beside:
            pages = range(2, beside.result()["pages"] + 1)
            list(pool.map(lambda page: get(f"page_size=500&page={page}", "/vpcs/ips"), pages))
    print(json.dumps(servers))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ansible.cfg").write_text(CONFIG.format(root=ROOT))
        os.environ["ANSIBLE_CONFIG"] = str(folder / "ansible.cfg")
        os.environ["ANSIBLE_HOME"] = str(ROOT / ".ansible")
        self.figures: dict[str, dict[str, float]] = {}
        words = [sys.executable, str(ROOT / "tests/cloud/simulator.py"), "--latency", str(LATENCY), "--hosts", "0"]
        self.simulator = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.accounts = json.loads(self.simulator.stdout.readline())  # type: ignore[union-attr]
        port = urlsplit(self.accounts["hetzner"]["api_url"]).port
        self.control_url = f"http://127.0.0.1:{port}/control"

    def control(self, method: str, path: str = "", **orders: Any) -> Any:
        request = Request(self.control_url + path, json.dumps(orders).encode(), method=method)
        with urlopen(request) as answer:
            return json.loads(answer.read())

    def run(self, name: str, *words: str) -> Path:
        """Runs it once; the least of all times counts."""
        output = self.folder / "output"
        now = measured(list(words), output)
        known = self.figures.setdefault(name, now)
        self.figures[name] = {key: min(value, known[key]) for key, value in now.items()}
        return output

    def inventory(self, name: str, file: str, show: str = "--list") -> dict[str, Any]:
        return json.loads(self.run(name, str(BIN / "ansible-inventory"), "-i", file, show).read_text())

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def provider(self, provider: str, count: int) -> None:
        self.control("PUT", hosts=count, latency=LATENCY)
        account = self.accounts[provider]
        plain = "plugin: bulwark.stack.{}\napi_token: {}\napi_url: {}\n".format(provider, *self.both(account))
        ours = self.write(f"ours.{provider}.yml", plain)
        typical = self.write(f"typical.{provider}.yml", plain + TYPICAL.format(prefix="bulwark_"))
        cache = f"cache: true\ncache_plugin: jsonfile\ncache_connection: {self.folder}/cache{count}\n"
        cached = self.write(f"cached.{provider}.yml", plain + cache)
        begin = f"{provider} {count}"
        listed = self.inventory(f"{begin} first", ours)
        asked = len([one for one in self.control("GET", "/log") if one["provider"] == provider])
        self.figures[f"{begin} requests"] = {"count": asked}
        hosts = listed["_meta"]["hostvars"]
        if len(hosts) != count:
            raise SystemExit(f"{provider} lists {len(hosts)} of {count} hosts")
        groups: dict[str, list[str]] = {}
        for group, about in listed.items():
            for host in about.get("hosts", []):
                groups.setdefault(host, []).append(group)
        memory = self.write(f"{provider}.memory", json.dumps({name: [hosts[name], groups[name]] for name in hosts}))
        words = [sys.executable, __file__, "--fetch", provider, account["api_url"], account["api_token"]]
        for _time in range(REPEAT if count < 5000 else 1):
            self.run("start-up", str(BIN / "ansible-inventory"), "-i", "localhost,", "--list")
            self.inventory(f"{begin} memory", memory)
            self.run(f"{begin} fetch", *words)
            self.inventory(f"{begin} ours", ours)
            self.inventory(f"{begin} typical", typical)
            self.inventory(f"{begin} warm", cached)
            for name, file in (("memory", memory), ("ours", ours), ("warm", cached)):
                self.run(f"{begin} {name}, play", str(BIN / "ansible"), "-i", file, "all", "--list-hosts")
        if provider in PEERS and count < 5000:
            plugin, settings, prefix = PEERS[provider]
            text = f"plugin: {plugin}\n{settings.format(**account)}\n" + TYPICAL.format(prefix=prefix)
            file = self.write(f"peer.{provider}.yml", text)
            found = self.inventory(f"{begin} peer, typical", file)["_meta"]["hostvars"]
            if len(found) != count:
                print(f"  the peer of {provider} lists {len(found)} of {count} hosts")

    @staticmethod
    def both(account: dict[str, str]) -> tuple[str, str]:
        return account["api_token"], account["api_url"]

    def report(self, providers: list[str]) -> int:
        """The figures, the ratios and how many of them miss their goal."""
        for name, figures in self.figures.items():
            print(f"  {name:<34}" + "".join(f"{key} {value:>8.2f}  " for key, value in figures.items()))
        small, large = HOSTS[0], HOSTS[-1]
        missed = 0
        for provider in providers:
            for key in ("wall", "cpu"):
                for count in HOSTS:
                    ours, memory, fetched, warm, warm_play, memory_play = (
                        self.figures[f"{provider} {count} {name}"][key]
                        for name in ("ours", "memory", "fetch", "warm", "warm, play", "memory, play")
                    )
                    missed += goal(f"{provider} {count} / floors, {key}", ours / (memory + fetched), 1.25)
                    missed += goal(f"{provider} {count} warm / memory, {key}", warm / memory, 1.15)
                    missed += goal(f"{provider} {count} warm / memory, play, {key}", warm_play / memory_play, 1.15)
                if large != small:
                    ratio = (
                        self.figures[f"{provider} {large} ours"][key] / self.figures[f"{provider} {small} ours"][key]
                    )
                    missed += goal(f"{provider} {large} / {small}, {key}", ratio, 1.2 * large / small)
            missed += goal(f"{provider} {large} MiB", self.figures[f"{provider} {large} ours"]["mib"], 400)
            for count, most in zip((1000, 10000), REQUESTS[provider]):
                if count in HOSTS:
                    missed += goal(
                        f"{provider} {count} requests", self.figures[f"{provider} {count} requests"]["count"], most
                    )
        return 1 if missed else 0


def goal(text: str, value: float, most: float) -> bool:
    print(f"  {text:<48}{value:>9.2f}   goal {most:g}{'   MISSED' if value > most else ''}")
    return value > most


def main() -> int:
    if sys.argv[1:2] == ["--fetch"]:
        fetch(*sys.argv[2:5])
        return 0
    providers = sys.argv[1:] or list(PROVIDERS)
    with tempfile.TemporaryDirectory(prefix="bulwark-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            for count in HOSTS:
                for provider in providers:
                    print(f"{provider} with {count} hosts", flush=True)
                    bench.provider(provider, count)
            return bench.report(providers)
        finally:
            bench.simulator.terminate()


if __name__ == "__main__":
    sys.exit(main())
