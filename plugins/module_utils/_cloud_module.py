# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules for clouds share: accounts from parameters or the environment, and errors as their result."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._cloud.at_digitalocean import DigitalOcean
from ._cloud.at_hetzner import Hetzner
from ._cloud.at_linode import Linode
from ._cloud.at_vultr import Vultr
from ._cloud.build import Clock, Cloud
from ._cloud.http import Account, CloudError
from ._cloud.providers import PROVIDERS

CLOUDS: dict[str, type[Cloud]] = {"hetzner": Hetzner, "digitalocean": DigitalOcean, "vultr": Vultr, "linode": Linode}
ACCOUNT = {"api_token": {"type": "str", "no_log": True}, "api_url": {"type": "str"}}
SPEC: dict[str, dict[str, Any]] = {
    "accounts": {
        "type": "dict",
        "default": {},
        "options": {name: {"type": "dict", "options": ACCOUNT} for name in CLOUDS},
    },
    "timeout_seconds": {"type": "int", "default": 1800},
}


def token_of(module: AnsibleModule, provider: str) -> str:
    """The token of an account: from the parameters, else from where the provider's own tools look for it."""
    given = ((module.params["accounts"] or {}).get(provider) or {}).get("api_token")
    found = [os.environ[name] for name in PROVIDERS[provider].variables if os.environ.get(name)]
    return str(given or (found or [""])[0])


@contextlib.contextmanager
def open_clouds(module: AnsibleModule, needed: Iterable[str], more: bool = False) -> Iterator[dict[str, Cloud]]:
    """The accounts that are needed; with C(more) all others that there is a token for, too.

    What goes wrong while they are open is the module's message.
    """
    clock = Clock(module.params["timeout_seconds"])
    clouds: dict[str, Cloud] = {}
    with contextlib.ExitStack() as stack:
        try:
            for provider, cloud in CLOUDS.items():
                token = token_of(module, provider)
                if provider not in needed and not (more and token):
                    continue
                if not token:
                    variable = PROVIDERS[provider].variables[0]
                    raise CloudError(
                        f"{provider} has no API token, and servers are declared there. Make one in its console, with "
                        f"permission to read and write; give it as accounts.{provider}.api_token or in the variable "
                        f"{variable} of the environment."
                    )
                url = ((module.params["accounts"] or {}).get(provider) or {}).get("api_url") or ""
                clouds[provider] = cloud(stack.enter_context(Account(provider, token, url)), clock)
            yield clouds
        except CloudError as error:
            module.fail_json(msg=str(error))
