# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  accounts:
    description: Provider to its account, for those whose token is not in the environment.
    type: dict
    default: {}
    suboptions:
      hetzner: &account
        description: The account at this provider.
        type: dict
        suboptions:
          api_token:
            description:
              - A token that may read and write. Else from the first of C(HCLOUD_TOKEN), C(DIGITALOCEAN_TOKEN),
                C(VULTR_API_KEY) and C(LINODE_TOKEN) that belongs to the provider.
            type: str
          api_url:
            description: Another base address, version path included.
            type: str
      digitalocean: *account
      vultr: *account
      linode: *account
  timeout_seconds:
    description: How long the whole may take, in seconds. What was begun goes on at the provider after that.
    type: int
    default: 1800
"""
