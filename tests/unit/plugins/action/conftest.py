"""Runs an action plugin with a task that lives in a role folder, and records what it would send to the host."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


@pytest.fixture
def role(tmp_path: Path) -> Path:
    for folder in ("templates", "files", "tasks"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture
def act(role: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def _act(
        plugin: Any,
        variables: dict[str, Any] | None = None,
        check: bool = False,
        error: Exception | None = None,
        **args: Any,
    ) -> SimpleNamespace:
        loader = DataLoader()
        task = MagicMock(args=args, check_mode=check, diff=True, async_val=0, _role=None)
        task.get_search_path.return_value = [str(role)]
        variables = {"inventory_hostname": "web1", "ansible_search_path": [str(role)], **(variables or {})}
        templar = Templar(loader=loader, variables=variables)
        module = plugin.ActionModule(task, MagicMock(), MagicMock(), loader, templar, MagicMock())
        sent: list[tuple[str, dict[str, Any]]] = []

        def _execute(name: str, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
            sent.append((name, module_args))
            if error:
                raise error
            return {"changed": True, "invocation": {"module_args": module_args}, "packages": {"a": "1"}}

        monkeypatch.setattr(module, "_execute_module", _execute)
        return SimpleNamespace(result=module.run(task_vars=variables), sent=sent)

    return _act


@pytest.fixture
def expression() -> Any:
    """A string that may be templated, as one from a playbook."""
    return trust_as_template
