#!/usr/bin/env python3
"""Real stores in containers, for tests, the demo and the benchmarks; they refuse what a real provider refuses.

    tests/stores/stores.py up s3|b2|sftp NAME [--network NETWORK]     prints how to reach it, as JSON
    tests/stores/stores.py down NAME

s3 is Ceph's object gateway, b2 the simulator of b2sdk behind HTTP, sftp an sshd with a space of its own for one user.
s3 and b2 have a certificate for their address and their name, signed by .ansible/stores/ca.pem; behind port 8443 is the
same store with faults on order (faults.py). A store that runs already stays, so "up" may be repeated. The address is
valid on the controller and in every container.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hosts import hosts

STATE = ROOT / ".ansible/stores"
CA = STATE / "ca.pem"
IMAGE = "bulwark-store"
RECIPE = """\
FROM bulwark-host:debian13
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
    ceph-mon ceph-osd radosgw ceph-common python3-b2sdk \\
 && rm -rf /var/lib/apt/lists/*
"""
GIB = 1 << 30
AnyStore = TypeVar("AnyStore", bound="Store")


class Keys(NamedTuple):
    access_key: str
    secret_key: str


OWNER = Keys("BULWARKTESTOWNER0001", "owner-of-a-throw-away-store-00000000001")
WRITER = Keys("BULWARKTESTWRITER001", "writer-of-a-throw-away-store-0000000001")


class Faults:
    """The rules of the proxy in front of a store; tests/stores/faults.py says which there are."""

    def __init__(self, control: str) -> None:
        self.control = control

    def set(self, *rules: dict[str, Any]) -> None:
        """From now on these rules, and no others; none at all when called without."""
        call("PUT", self.control, rules)

    def log(self) -> list[dict[str, Any]]:
        """The requests since the rules were set."""
        return call("GET", self.control)["log"]


class Store:
    """A store in a container of its own.

    @param network: the network of the hosts that use it; in one of its own, they also find it by its C(alias)
    """

    kind = alias = ""

    def __init__(self, name: str, network: str = "bridge") -> None:
        self.name, self.network, self.state = name, network, STATE / name
        self.ip = ""

    def options(self) -> list[str]:
        """Further words for C(docker run), the command among them."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """How to reach it and with which keys."""
        raise NotImplementedError

    @property
    def endpoint(self) -> str:
        return f"https://{self.ip}"

    @property
    def faulty_endpoint(self) -> str:
        """The same store behind the proxy."""
        return f"https://{self.ip}:8443"

    @property
    def faults(self) -> Faults:
        return Faults(f"http://{self.ip}:8080/")

    def prepare(self) -> None:
        """Makes what the container reads from the state folder, but for the certificate."""

    def start(self: AnyStore) -> AnyStore:
        """Starts it, or finds it running, and waits until it answers."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.prepare()
        build_image()
        if not (self.state / "cert.pem").exists():
            # Left over from before a "make clean": its folder is gone.
            self.stop()
        known = hosts.exists(self.name)
        if not known or not self.running():
            # It waits for the certificate, which depends on the address that it gets now.
            for old in ("ready", "cert.pem"):
                (self.state / old).unlink(missing_ok=True)
        if known:
            hosts.docker("start", self.name)
        else:
            alias = [] if self.network == "bridge" else ["--network-alias", self.alias]
            mounts = ["-v", f"{Path(__file__).parent}:/opt/stores:ro", "-v", f"{self.state}:/store"]
            names = ["--name", self.name, "--hostname", self.name, "--network", self.network, *alias]
            hosts.docker("run", "-d", "--init", *names, *mounts, "--label", f"store={self.kind}", *self.options())
        self.ip = hosts.address(self.name)
        make_certificate(self.state, [f"IP:{self.ip}", f"DNS:{self.alias}", "DNS:localhost", "IP:127.0.0.1"])
        self.wait()
        return self

    def running(self) -> bool:
        return hosts.docker("inspect", "-f", "{{.State.Running}}", self.name) == "true"

    def stop(self) -> None:
        hosts.remove(self.name)

    def wait(self, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not (self.state / "ready").exists():
            if time.monotonic() > deadline or not self.running():
                raise SystemExit(f"The store {self.name} did not start; see 'docker logs {self.name}'.")
            time.sleep(0.1)

    def endpoints(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "named_endpoint": f"https://{self.alias}",
            "faulty_endpoint": self.faulty_endpoint,
            "faults_control": self.faults.control,
            "ca_file": str(CA),
        }

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "ip": self.ip, **self.facts()}


class RgwStore(Store):
    """S3 by Ceph's object gateway; buckets belong to C(keys), C(writer) may do what a bucket's policy says.

    @param disk: keep the data in a file (up to 64 GiB, it survives a restart) instead of in memory (up to 4 GiB, of
        which it takes twice as much: for more than a few hundred MB, take the disk)
    @param day_seconds: how long a day of the lifecycle rules is, so that they can be seen to work
    """

    kind, alias = "s3", "s3.bulwark.test"
    region = "us-east-1"

    def __init__(self, name: str, network: str = "bridge", disk: bool = False, day_seconds: int = -1) -> None:
        super().__init__(name, network)
        self.disk, self.day_seconds, self.keys, self.writer = disk, day_seconds, OWNER, WRITER

    def options(self) -> list[str]:
        env = {
            "STORE_KIND": "bluestore" if self.disk else "memstore",
            "STORE_BYTES": str((64 if self.disk else 4) * GIB),
            "STORE_DAY_SECONDS": str(self.day_seconds),
            "STORE_KEY": self.keys.access_key,
            "STORE_SECRET": self.keys.secret_key,
            "WRITER_KEY": self.writer.access_key,
            "WRITER_SECRET": self.writer.secret_key,
        }
        words = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        return [*words, "-v", "/data", IMAGE, "bash", "/opt/stores/radosgw.sh"]

    def facts(self) -> dict[str, Any]:
        return {
            **self.endpoints(),
            "region": self.region,
            **self.keys._asdict(),
            "writer": self.writer._asdict(),
        }

    def client(self, keys: Keys = OWNER, faulty: bool = False, attempts: int = 1, **config: Any) -> Any:
        """A boto3 client that asks once, unless told otherwise; C(faulty) goes through the proxy."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.faulty_endpoint if faulty else self.endpoint,
            region_name=self.region,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            verify=str(CA),
            config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, **config),
        )

    def admin(self, *words: str) -> str:
        """The gateway's own administration, such as C(key rm) or C(user suspend)."""
        return hosts.docker("exec", self.name, "radosgw-admin", "-n", "client.rgw.store", *words)

    def set_quota(self, bucket: str, max_bytes: int) -> None:
        """From now on the bucket holds this many bytes, in steps of 4 KiB; -1 for no limit."""
        scope = ["--quota-scope=bucket", f"--bucket={bucket}"]
        self.admin("quota", "set", *scope, f"--max-size={max_bytes}")
        self.admin("quota", "enable", *scope)

    def append_only_policy(self, bucket: str) -> str:
        """The bucket policy with which C(writer) may write, read and list, but neither delete nor change rules.

        The owner is named too, because what the writer writes belongs to the writer.
        """
        objects = ["PutObject", "GetObject", "AbortMultipartUpload", "ListMultipartUploadParts"]
        own = ["ListBucket", "GetBucketLocation", "ListBucketMultipartUploads"]
        rights = {"owner": ["s3:*"], "writer": [f"s3:{word}" for word in objects + own]}
        statements = [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]},
                "Action": actions,
                "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            }
            for user, actions in rights.items()
        ]
        return json.dumps({"Version": "2012-10-17", "Statement": statements})


class B2Store(Store):
    """Native B2 by the simulator of b2sdk; the endpoint is the "realm" of its clients."""

    kind, alias = "b2", "b2.bulwark.test"
    keys = Keys("account-0", "masterKey-0")

    def options(self) -> list[str]:
        return [IMAGE, "bash", "/opt/stores/b2.sh"]

    def facts(self) -> dict[str, Any]:
        return {**self.endpoints(), "key_id": self.keys.access_key, "application_key": self.keys.secret_key}

    def control(self, **orders: Any) -> None:
        """What tests/stores/b2.py takes: C(busy=2), C(expire=True)."""
        call("PUT", f"{self.endpoint}/control", orders)


class SftpStore(Store):
    """SFTP as a storage box has it: one user in a space of its own, by key, on ports 22 and 23.

    @param size_mb: how much it holds, in memory
    """

    kind, alias = "sftp", "box.bulwark.test"
    user = "u100001"

    def __init__(self, name: str, network: str = "bridge", size_mb: int = 512) -> None:
        super().__init__(name, network)
        self.size_mb = size_mb

    @property
    def key_file(self) -> Path:
        return self.state / "key"

    def options(self) -> list[str]:
        space = ["--tmpfs", f"/srv/box:size={self.size_mb}m,mode=0755"]
        return [*space, "-e", f"STORE_USER={self.user}", IMAGE, "bash", "/opt/stores/sftp.sh"]

    def prepare(self) -> None:
        hosts.make_key(self.key_file)
        hosts.make_key(self.state / "host_key")

    def facts(self) -> dict[str, Any]:
        """The user's key, and a file that makes the server known under its address and its name."""
        host_key = " ".join((self.state / "host_key.pub").read_text().split()[:2])
        names = [name for host in (self.ip, self.alias) for name in (host, f"[{host}]:23")]
        known = self.state / "known_hosts"
        known.write_text("".join(f"{name} {host_key}\n" for name in names))
        return {
            "host": self.ip,
            "named_host": self.alias,
            "ports": [22, 23],
            "user": self.user,
            "key_file": str(self.key_file),
            "known_hosts": str(known),
            "host_key": host_key,
            "folder": "/home",
        }

    def leave_free(self, size: int) -> None:
        """From now on the space has room for so many bytes only, whatever it held; at least one page."""
        script = (
            "rm -f /srv/box/.filler; free=$(df -B1 --output=avail /srv/box | tail -1); fallocate -l $((free - {})) {}"
        )
        hosts.docker("exec", self.name, "sh", "-c", script.format(size, "/srv/box/.filler"))

    def free_all(self) -> None:
        """The space is as large again as it was at first."""
        hosts.docker("exec", self.name, "rm", "-f", "/srv/box/.filler")

    def cut(self) -> None:
        """Ends all connections of the user at once; new ones are welcome."""
        hosts.docker("exec", self.name, "pkill", "-KILL", "-u", self.user, check=False)


KINDS: dict[str, type[Store]] = {one.kind: one for one in (RgwStore, B2Store, SftpStore)}


@contextmanager
def locked() -> Iterator[None]:
    """One at a time: the image and the CA are made once, whoever comes first."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_image() -> None:
    """Builds the image unless it is there as the recipe is now."""
    recipe = hashlib.sha256(RECIPE.encode()).hexdigest()[:16]
    with locked():
        if not hosts.docker("images", "-q", "-f", f"label=recipe={recipe}", IMAGE):
            hosts.docker("build", "-q", "--label", f"recipe={recipe}", "-t", IMAGE, "-", text_in=RECIPE)


def make_certificate(folder: Path, names: list[str]) -> None:
    """cert.pem and key.pem for these names in the folder, signed by the CA of all stores.

    The CA says what its key is for: Python 3.13 trusts no other.
    """
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca_key = CA.with_suffix(".key")
    with locked():
        if not CA.exists():
            usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
            words = ["-x509", *curve, "-days", "365", "-subj", "/CN=CA of the test stores", *usage]
            openssl("req", *words, "-keyout", str(ca_key), "-out", str(CA))
    if (folder / "names").exists() and (folder / "cert.pem").exists() and (folder / "names").read_text() == str(names):
        return
    key, request = folder / "key.pem", folder / "request.pem"
    openssl("req", *curve, "-subj", "/CN=test store", "-keyout", str(key), "-out", str(request))
    extensions = folder / "extensions"
    extensions.write_text(
        f"subjectAltName={','.join(names)}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        "authorityKeyIdentifier=keyid\n"
    )
    signer = ["-CA", str(CA), "-CAkey", str(ca_key), "-days", "365", "-extfile", str(extensions)]
    # Renamed into its place: the store waits for the file.
    openssl("x509", "-req", "-in", str(request), *signer, "-out", str(folder / "cert.new"))
    (folder / "names").write_text(str(names))
    (folder / "cert.new").rename(folder / "cert.pem")


def call(method: str, url: str, data: Any = None) -> Any:
    """Sends and gives JSON."""
    request = urllib.request.Request(url, json.dumps(data).encode() if data is not None else None, method=method)
    context = ssl.create_default_context(cafile=CA) if url.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=20, context=context) as answer:
        return json.load(answer)


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument("kind", choices=KINDS)
    up.add_argument("name")
    up.add_argument("--network", default="bridge")
    up.add_argument("--disk", action="store_true", default=None, help="s3: keep the data in a file, not in memory")
    up.add_argument("--day-seconds", type=int, help="s3: the length of a day of lifecycle rules")
    up.add_argument("--size-mb", type=int, help="sftp: how much it holds")
    commands.add_parser("down").add_argument("name")
    words = parser.parse_args()
    if words.command == "down":
        hosts.remove(words.name)
        return
    options = {name: getattr(words, name) for name in ("disk", "day_seconds", "size_mb")}
    given = {name: value for name, value in options.items() if value is not None}
    print(json.dumps(KINDS[words.kind](words.name, words.network, **given).start().describe(), indent=1))


if __name__ == "__main__":
    main()
