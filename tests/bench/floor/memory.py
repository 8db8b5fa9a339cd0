"""The floor: an inventory plugin that adds hosts, variables and groups out of a JSON file, and does nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
name: memory
short_description: Hosts out of a JSON file
description: For the figures only.
options: {}
"""

import json
from typing import Any

from ansible.plugins.inventory import BaseInventoryPlugin


class InventoryModule(BaseInventoryPlugin):
    NAME = "memory"

    def verify_file(self, path: str) -> bool:
        return path.endswith(".memory")

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        with open(path, encoding="utf-8") as handle:
            hosts = json.load(handle)
        for name, (variables, groups) in hosts.items():
            inventory.add_host(name)
            for key, value in variables.items():
                inventory.set_variable(name, key, value)
            for group in groups:
                inventory.add_group(group)
                inventory.add_child(group, name)
