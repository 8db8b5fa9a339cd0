"""The backup modules agree: argument spec, documentation and settings; and they take along what the library loads."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

from plugins.doc_fragments._backup_store import ModuleDocFragment
from plugins.module_utils import _backup_module
from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import STORES

ROOT = Path(__file__).resolve().parents[4]
GROUP: list[str] = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["backup"]
# What describes an option, besides its words.
SAID = ("type", "elements", "choices", "default", "required")


def spec_of(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The argument spec that a module is made with."""
    found: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def catch(self: AnsibleModule, argument_spec: dict[str, Any], **rest: Any) -> None:
        found.update(argument_spec)
        raise Stop

    code = importlib.import_module(f"plugins.modules.{module}")
    monkeypatch.setattr(AnsibleModule, "__init__", catch)
    with pytest.raises(Stop):
        code.main()
    return found


def said(option: dict[str, Any]) -> dict[str, Any]:
    """What a spec or a documentation says of an option, in one form."""
    plain = {key: option[key] for key in SAID if option.get(key) not in (None, False)}
    if "choices" in plain:
        plain["choices"] = sorted(plain["choices"])
    # Empty is what Ansible takes for none.
    if plain.get("default") in ("", [], {}, 0):
        plain.pop("default")
    return plain


def agree(spec: dict[str, Any], docs: dict[str, Any], where: str) -> None:
    assert set(spec) == set(docs), where
    for name, option in spec.items():
        assert said(option) == said(docs[name]), f"{where}.{name}"
        agree(option.get("options") or {}, docs[name].get("suboptions") or {}, f"{where}.{name}")


def test_the_group_has_every_backup_module():
    there = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert set(GROUP) == {name for name in there if name.startswith("backup_") or name == "bucket_policy"}


@pytest.mark.parametrize("module", GROUP)
def test_spec_and_documentation_agree(module, monkeypatch):
    spec = spec_of(module, monkeypatch)
    own = yaml.safe_load(importlib.import_module(f"plugins.modules.{module}").DOCUMENTATION)
    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert "bulwark.stack._backup_store" in own["extends_documentation_fragment"]
    agree(spec, {**shared, **own["options"]}, module)


def test_the_spec_of_a_store_is_the_settings():
    options = _backup_module.SPEC["store"]["options"]
    assert list(options) == [field.name for field in dataclasses.fields(StoreSettings)]
    assert [name for name, option in options.items() if option.get("no_log")] == ["secret_key"]


def test_every_kind_of_store_is_taken_along():
    for name in STORES.values():
        assert hasattr(_backup_module, name), f"_backup_module does not import {name}, so no module could load it."
