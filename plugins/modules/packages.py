#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install the packages that a host lacks
description:
  - Compares with what M(bulwark.stack.host_facts) read, and does not contact the host when nothing is missing.
  - Installs with M(ansible.builtin.apt), without recommended packages, and turns its errors into one sentence.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  names:
    description: The packages; C(name=version) pins one.
    type: list
    elements: str
    required: true
  host:
    description: The result of M(bulwark.stack.host_facts).
    type: dict
    required: true
  lock_timeout_seconds:
    description: How long to wait for another program that holds the package lock.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Install the packages
  bulwark.stack.packages:
    names: [redis-server]
    host: "{{ host_plan_host }}"
"""

RETURN = r""" # """
