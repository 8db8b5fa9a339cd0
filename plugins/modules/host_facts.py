#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Read in one round trip what the roles of this collection need to know of a host
description:
  - A small fact module. With it, most tasks can be decided on the controller and skipped there.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  contact_required:
    description: Whether it is an error when there is no contact with the host. If not, RV(no_contact) says why.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Read the host
  bulwark.stack.host_facts:
  register: host
"""

RETURN = r"""
no_contact: {description: What SSH says to it., returned: when there is no contact and none is required, type: str}
hostname: {description: The name that the host gives itself., returned: always, type: str}
busy:
  description: What is not over yet and would get in the way, V(cloud-init) or V(package lock).
  returned: always
  type: list
  elements: str
distribution: {description: V(debian) or V(ubuntu)., returned: always, type: str}
version: {description: "The release, such as V(13) or V(24.04).", returned: always, type: str}
codename: {description: The release's code name., returned: always, type: str}
architecture: {description: As dpkg names it., returned: always, type: str}
memory_mb: {description: Memory in MiB., returned: always, type: int}
swap_mb: {description: Swap in MiB., returned: always, type: int}
cpus: {description: Processors that are online., returned: always, type: int}
disk_free_mb: {description: Free space of the root file system in MiB., returned: always, type: int}
container: {description: Whether the host is a container., returned: always, type: bool}
efi: {description: Whether it booted by EFI., returned: always, type: bool}
client:
  description: The address from which the controller came, empty unless it came over SSH.
  returned: always
  type: str
router_advertisements:
  description: Whether the kernel has its IPv6 default route from a router that announced itself.
  returned: always
  type: bool
modules: {description: Modules that the kernel has loaded., returned: always, type: list, elements: str}
ssh_port:
  description: The port of the host over which the controller came, V(0) unless it came over SSH.
  returned: always
  type: int
guard:
  description: Whether a change of SSH, accounts or firewall waits for its confirmation, and what the last rollback did.
  returned: always
  type: dict
addresses:
  description: All its addresses but those of loopback and of bridges to containers.
  returned: always
  type: list
  elements: str
packages: {description: Installed packages and their versions., returned: always, type: dict}
held: {description: Installed packages that dpkg holds at their version., returned: always, type: list, elements: str}
users: {description: Accounts and their numbers., returned: always, type: dict}
passwords: {description: "Accounts with a password, and a digest of its salted hash.", returned: always, type: dict}
groups: {description: Groups and the accounts that are listed as their members., returned: always, type: dict}
dpkg_interrupted: {description: Whether dpkg was cut off in the middle of its work., returned: always, type: bool}
postgres_clusters:
  description: PostgreSQL clusters with data, as V(17/main).
  returned: always
  type: list
  elements: str
"""

import fcntl
import glob
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import struct
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _guard
from ..module_utils._ssh import connection

# Interfaces that lead to containers and virtual machines of the host itself.
CONTAINERS = re.compile(r"docker|br-[0-9a-f]{12}$|veth|cni|cali|flannel|vxlan\.|lxdbr|virbr|podman")
SPEC = {"contact_required": {"type": "bool", "default": True}}


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def os_release(text: str) -> dict[str, str]:
    return {key: value.strip("\"'") for key, _sep, value in (line.partition("=") for line in text.splitlines()) if key}


def meminfo_mb(text: str, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def installed(text: str) -> dict[str, str]:
    """Name to version of every package that a dpkg status file calls installed."""
    packages = {}
    for block in text.split("\n\n"):
        if "\nStatus: install ok installed\n" in block or "\nStatus: hold ok installed\n" in block:
            name = re.search(r"^Package: (\S+)", block, re.MULTILINE)
            version = re.search(r"^Version: (\S+)", block, re.MULTILINE)
            if name and version:
                packages[name.group(1)] = version.group(1)
    return packages


def held(text: str) -> list[str]:
    """The packages that a dpkg status file calls installed and held."""
    return sorted(re.findall(r"^Package: (\S+)\n(?:[EP]\S+: yes\n)*Status: hold ok installed$", text, re.MULTILINE))


def interrupted() -> bool:
    """Whether dpkg has work left over, as dpkg itself tells: a journal, or a package half way between states."""
    status = read("/var/lib/dpkg/status")
    half = re.search(
        r"^Status: \S+ \S+ (unpacked|half-configured|half-installed|triggers-pending)$", status, re.MULTILINE
    )
    return bool(half or glob.glob("/var/lib/dpkg/updates/[0-9]*"))


def locked(path: str) -> bool:
    """Whether another process holds the lock of a file, see F_GETLK in fcntl(2); asking does not take it."""
    question = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(path, "rb") as handle:
            answer = fcntl.fcntl(handle, fcntl.F_GETLK, question)
    except OSError:
        return False
    return struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK


def busy(cloud_init: str = "/run/cloud-init", lock: str = "/var/lib/dpkg/lock-frontend") -> list[str]:
    """What is not over yet. cloud-init says so in /run, which a boot empties."""
    started = os.path.exists(f"{cloud_init}/enabled") and not os.path.exists(f"{cloud_init}/result.json")
    return [name for name, yes in (("cloud-init", started), ("package lock", locked(lock))) if yes]


def addresses(text: str) -> list[str]:
    """The addresses in the output of C(ip -json address), without loopback, link-local and the host's own bridges."""
    links = [link for link in json.loads(text or "[]") if not CONTAINERS.match(link.get("ifname", ""))]
    found = [info.get("local", "") for link in links for info in link.get("addr_info", [])]
    return [a for a in found if a and not a.startswith(("127.", "fe80:")) and a != "::1"]


def has_announced_route(routes: str) -> bool:
    """Whether a default route in the format of /proc/net/ipv6_route has the flag RTF_ADDRCONF."""
    lines = [line.split() for line in routes.splitlines()]
    return any(w[:2] == ["0" * 32, "00"] and int(w[8], 16) & 0x40000 for w in lines if len(w) > 8)


def passwords(shadow: str) -> dict[str, str]:
    """Account to a digest of its salted hash: enough to see a change, and of no use for guessing."""
    lines = [line.split(":") for line in shadow.splitlines()]
    return {w[0]: hashlib.sha256(w[1].encode()).hexdigest() for w in lines if len(w) > 1 and w[1].startswith("$")}


def is_container(module: AnsibleModule) -> bool:
    return module.run_command(["systemd-detect-virt", "--container", "--quiet"])[0] == 0


def gather(module: AnsibleModule) -> dict[str, Any]:
    release = os_release(read("/etc/os-release"))
    memory = read("/proc/meminfo")
    client, port = connection() or ("", "0")
    return {
        "hostname": os.uname().nodename,
        "busy": busy(),
        "distribution": release.get("ID", ""),
        "version": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "architecture": read("/var/lib/dpkg/arch").split("\n")[0].strip()
        or {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "memory_mb": meminfo_mb(memory, "MemTotal"),
        "swap_mb": meminfo_mb(memory, "SwapTotal"),
        "cpus": os.cpu_count() or 1,
        "disk_free_mb": shutil.disk_usage("/").free // 1048576,
        "container": is_container(module),
        "efi": os.path.isdir("/sys/firmware/efi"),
        "router_advertisements": has_announced_route(read("/proc/net/ipv6_route")),
        "modules": sorted(line.split()[0] for line in read("/proc/modules").splitlines()),
        "client": client,
        "ssh_port": int(port),
        "guard": _guard.status(),
        "addresses": addresses(module.run_command(["ip", "-json", "address", "show", "up"])[1]),
        "packages": installed(read("/var/lib/dpkg/status")),
        "held": held(read("/var/lib/dpkg/status")),
        "users": {user.pw_name: user.pw_uid for user in pwd.getpwall()},
        "passwords": passwords(read("/etc/shadow")),
        "groups": {group.gr_name: group.gr_mem for group in grp.getgrall()},
        "dpkg_interrupted": interrupted(),
        "postgres_clusters": sorted(
            "/".join(path.split("/")[-3:-1]) for path in glob.glob("/var/lib/postgresql/*/*/PG_VERSION")
        ),
    }


def main() -> None:
    # The option is for the action plugin: whoever gets here has contact.
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    module.exit_json(changed=False, **gather(module))


if __name__ == "__main__":
    main()
