# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
notes:
  - The result is the whole list of servers or an error, never a part of the list. Ansible itself takes an error of an
    inventory plugin for a warning and goes on without its hosts, unless C(any_unparsed_is_failed) is set in the section
    C(inventory) of C(ansible.cfg).
options:
  api_token_file:
    description: A file with the token, before the environment. Its path is relative to the inventory file.
    type: str
  connect_with:
    description:
      - What becomes C(ansible_host). One of V(public_ipv4), V(public_ipv6), V(private_ipv4), V(private_ipv4:NETWORK)
        with the name or the id of a private network, and V(name), or a list of them in order of preference.
    type: list
    elements: str
    default: [public_ipv4, public_ipv6]
  without_address:
    description:
      - What becomes of servers that have nothing of O(connect_with). They are reported by name in each case.
      - With V(keep) they are in the inventory without C(ansible_host), so that Ansible connects to the name.
    type: str
    choices: [keep, leave_out, fail]
    default: keep
  hostname:
    description:
      - The name in the inventory as an expression such as C(bulwark_name ~ '.example.org'), in place of the server's
        name.
    type: str
  duplicate_names:
    description:
      - What becomes of a server whose name another one has already, in this source or in one before it. With V(rename)
        the oldest keeps the name, and the others get their id behind it, with a warning.
      - A host that another source has without being one of these plugins, such as a static file, is the same host.
    type: str
    choices: [rename, fail]
    default: rename
  group_by:
    description:
      - The groups that are made without O(keyed_groups), such as C(region_fsn1), C(tag_web) and C(label_env_prod).
      - With V(role) a tag or label C(role:web), C(role=web) or C(bulwark-role=web) puts the server into the group
        C(web). Several roles are several tags, or one with dots or commas between them.
    type: list
    elements: str
    choices: [provider, region, plan, status, tag, label, role]
    default: [provider, region, plan, status, tag, label, role]
  filters:
    description:
      - Which servers to list, by the words V(name), V(id), V(region), V(plan), V(image), V(status), V(provider_status),
        V(tags), V(labels) and V(networks). Each takes a value or a list, with C(*), C(?) and C([...]).
      - A server is listed if every word fits, and a word fits if one of its values does. V(labels) is a dictionary, and
        a label without a value fits any.
      - What the API can filter by it is asked for; the rest is filtered here.
    type: dict
    default: {}
  include:
    description:
      - Keeps only servers that fit one of these, each a dictionary as for O(filters) or an expression such as
        C("'web' in bulwark_tags"). Without any, all are kept.
    type: list
    elements: raw
    default: []
  exclude:
    description: Drops servers that fit one of these, as for O(include).
    type: list
    elements: raw
    default: []
  hostvars_prefix:
    description: What the variables of the servers begin with.
    type: str
    default: bulwark_
  provider_data:
    description: Whether each host gets C(bulwark_provider_data), what the API says of the server, word for word.
    type: bool
    default: false
  request_timeout_seconds:
    description: How long one request may take before it is tried again.
    type: float
    default: 15
  total_timeout_seconds:
    description: How long all requests may take together, waiting and trying again included.
    type: float
    default: 45
  cache_fallback:
    description:
      - Whether the list of an earlier run is used when the API gives none, with a warning that says how old it is. Each
        run then keeps its list, also without O(cache). It needs a O(cache_plugin) that writes to a disk or a server.
    type: bool
    default: false
"""

    # Where the list of servers has the ids of networks only.
    NETWORKS = r"""
options:
  network_names:
    description:
      - Whether to ask for the names of private networks, with one request more. It is done without this option where
        O(connect_with), O(filters), O(include) or O(exclude) speak of networks.
    type: bool
    default: false
"""
