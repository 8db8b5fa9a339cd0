"""Runs a module in this process, with what it really prints as the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args


class Result(dict):
    """What a module printed: parsed, and as text in which no secret may be."""

    text: str

    @property
    def failed(self) -> bool:
        return bool(self.get("failed"))


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def _run(module: ModuleType, check: bool = False, **args: Any) -> Result:
        capsys.readouterr()
        with (
            patch_module_args({**args, "_ansible_check_mode": check, "_ansible_diff": True}),
            pytest.raises(SystemExit),
        ):
            module.main()
        text = capsys.readouterr().out
        result = Result(json.loads(text))
        result.text = text
        return result

    return _run


@pytest.fixture
def triple(run_module: Callable[..., Result]) -> Callable[..., Result]:
    """Check → real → again: check mode foretells the change and the second run makes none. Gives the real result."""

    def _triple(module: ModuleType, **args: Any) -> Result:
        foretold = run_module(module, check=True, **args)
        real = run_module(module, **args)
        again = run_module(module, **args)
        assert not real.failed, real
        assert foretold["changed"] == real["changed"]
        assert foretold.get("changed_paths") == real.get("changed_paths")
        assert not again["changed"], again
        return real

    return _triple
