#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: check_variables
short_description: Refuse variables that no role knows and values of the wrong type
description:
  - Compares the variables of a host with the argument specs of all roles of this collection.
  - A name that carries a role's prefix and that no role knows is refused, and so is a literal value of the wrong type.
  - Runs on the controller; the host is not contacted.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  ignore:
    description: Names of your own that happen to start with a role's name.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse misspelt variables
  bulwark.stack.check_variables:
"""

RETURN = r""" # """
