"""The stores with the libraries that Debian ships: botocore 1.29 and b2sdk 1.17 on the one, later ones on the other."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import hosts

from tests.stores.conformance import Opener

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["python3-pytest", "python3-botocore", "python3-b2sdk", "openssh-client"]
INSTALL = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(PACKAGES)} >/dev/null"

pytestmark = pytest.mark.skipif(not os.environ.get("BULWARK_FULL"), reason="in the full form only")


@pytest.fixture(params=["debian12", "debian13"])
def host(request: pytest.FixtureRequest, network: str) -> Iterator[str]:
    name = f"{network}-{request.param}"
    hosts.remove(name)
    # The checkout is where it is here, so that the paths of keys and certificates hold.
    mount = ["-v", f"{ROOT}:{ROOT}:ro", "-w", str(ROOT)]
    image = f"bulwark-host:{request.param}"
    hosts.docker("run", "-d", "--name", name, "--network", network, *hosts.PACKAGES, *mount, image, "sleep", "infinity")
    hosts.docker("exec", name, "sh", "-c", INSTALL)
    yield name
    hosts.remove(name)


@pytest.mark.timeout(400)
def test_with_the_libraries_of(
    host: str, open_s3: Opener, s3_bucket: str, open_b2: Opener, b2_bucket: str, open_sftp: Opener
) -> None:
    stores = (open_s3(bucket=s3_bucket), open_b2(bucket=b2_bucket), open_sftp())
    settings = {store.settings.kind: dataclasses.asdict(store.settings) for store in stores}
    run = ["python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "tests/stores/libraries.py"]
    done = subprocess.run(
        ["docker", "exec", "-e", f"STORES={json.dumps(settings)}", host, *run], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
