#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: certbot_info
short_description: Tell which certificates certbot still has to get
description:
  - Compares the certificates that are wanted with what certbot has on the host, in one round trip.
  - For those that are missing it also looks up the domains, since an ACME server would refuse a domain without DNS.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  certificates:
    description: What is wanted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name under which certbot keeps it.
        type: str
        required: true
      domains:
        description: What it must cover.
        type: list
        elements: str
        required: true
  server:
    description: ACME directory that must have issued it.
    type: str
    required: true
  authenticator:
    description: How certbot proves the domains, such as V(webroot).
    type: str
    default: webroot
"""

EXAMPLES = r"""
- name: Read the certificates
  bulwark.stack.certbot_info:
    certificates: [{name: app, domains: [app.example.org]}]
    server: https://acme-v02.api.letsencrypt.org/directory
"""

RETURN = r"""
issued: {description: Names of the certificates that are as wanted., returned: always, type: list, elements: str}
present: {description: Names of those that are there at all., returned: always, type: list, elements: str}
wanting:
  description:
    - Those that are not as wanted, each with C(name), C(domains), C(reason) and whether certbot has one that C(exists).
  returned: always
  type: list
  elements: dict
unresolved: {description: Domains of the others that have no address., returned: always, type: list, elements: str}
stale:
  description: Certificates that nginx was given earlier and that nothing wants any more, each with C(name) and whether
    certbot still has it as a C(lineage).
  returned: always
  type: list
  elements: dict
placeholder: {description: Whether the self-signed placeholder is there., returned: always, type: bool}
venv: {description: Packages in the virtual environment for plugins., returned: always, type: list, elements: str}
"""

import glob
import os
import re
import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ROOT = "/etc/letsencrypt"
LINKS = "/etc/nginx/certificates"
VENV = "/opt/bulwark-certbot"
SPEC = {
    "certificates": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "domains": {"type": "list", "elements": "str", "required": True},
        },
    },
    "server": {"type": "str", "required": True},
    "authenticator": {"type": "str", "default": "webroot"},
}


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError:
        return ""


def setting(renewal: str, key: str) -> str:
    """One value of a renewal file, '' when it is not there."""
    found = re.search(rf"^{key}\s*=\s*(.*?)\s*$", renewal, re.MULTILINE)
    return found.group(1) if found else ""


def covered(text: str) -> set[str]:
    """The DNS names in what C(openssl x509 -ext subjectAltName) prints."""
    return {name.lower() for name in re.findall(r"DNS:([^,\s]+)", text)}


def reason(wanted: dict[str, Any], renewal: str, names: set[str] | None, alive: bool) -> str:
    """Why a certificate has to be issued, '' when it is as wanted: C(domains), C(server) and C(authenticator)."""
    if not renewal or names is None:
        return "there is none yet"
    if names != set(wanted["domains"]):
        return f"it covers {', '.join(sorted(names))}"
    for key in ("server", "authenticator"):
        if setting(renewal, key) != wanted[key]:
            return f"its {key} is {setting(renewal, key)}"
    return "" if alive else "it has expired"


def resolves(domain: str) -> bool:
    try:
        return bool(socket.getaddrinfo(domain, None))
    except (OSError, UnicodeError):
        return False


def stale(names: set[str]) -> list[dict[str, Any]]:
    """The links that nginx was given for certificates other than these; certbot would renew those for ever."""
    links = (
        sorted(name for name in os.listdir(LINKS) if os.path.islink(f"{LINKS}/{name}")) if os.path.isdir(LINKS) else []
    )
    return [
        {"name": name, "lineage": os.path.exists(f"{ROOT}/renewal/{name}.conf")} for name in links if name not in names
    ]


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    issued: list[str] = []
    present: list[str] = []
    wanting: list[dict[str, Any]] = []
    for wanted in module.params["certificates"]:
        path = f"{ROOT}/live/{wanted['name']}/fullchain.pem"
        renewal = read(f"{ROOT}/renewal/{wanted['name']}.conf")
        names, alive = None, False
        if os.path.exists(path):
            out = module.run_command(["openssl", "x509", "-in", path, "-noout", "-ext", "subjectAltName"])[1]
            names = covered(out)
            alive = module.run_command(["openssl", "x509", "-in", path, "-noout", "-checkend", "0"])[0] == 0
        origin = {key: module.params[key] for key in ("server", "authenticator")}
        why = reason({**wanted, **origin}, renewal, names, alive)
        if renewal and names is not None:
            present.append(wanted["name"])
        if why:
            wanting.append({**wanted, "reason": why, "exists": bool(renewal)})
        else:
            issued.append(wanted["name"])
    asked = sorted({domain for one in wanting for domain in one["domains"]})
    unresolved = [] if module.params["authenticator"] != "webroot" else [name for name in asked if not resolves(name)]
    venv = glob.glob(f"{VENV}/lib/python3*/site-packages/*.dist-info")
    module.exit_json(
        changed=False,
        issued=issued,
        present=present,
        wanting=wanting,
        unresolved=unresolved,
        stale=stale({wanted["name"] for wanted in module.params["certificates"]}),
        placeholder=os.path.exists(f"{LINKS}/placeholder/fullchain.pem"),
        venv=sorted(os.path.basename(path)[: -len(".dist-info")].replace("_", "-").lower() for path in venv),
    )


if __name__ == "__main__":
    main()
