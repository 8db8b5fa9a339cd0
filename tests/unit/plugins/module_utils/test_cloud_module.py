"""Which accounts a module opens, and what it says when there is no token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils._cloud.providers import PROVIDERS
from plugins.module_utils._cloud_module import CLOUDS, SPEC, open_clouds


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS.values():
        for name in provider.variables:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def module() -> Callable[..., AnsibleModule]:
    def _module(**params: Any) -> AnsibleModule:
        with patch_module_args(params):
            return AnsibleModule(argument_spec=SPEC)

    return _module


def test_there_is_a_class_for_each_provider():
    assert CLOUDS.keys() == PROVIDERS.keys()
    assert all(cloud.provider == name for name, cloud in CLOUDS.items())


def test_a_token_comes_from_the_parameters_or_the_environment(
    module: Callable[..., AnsibleModule], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VULTR_API_KEY", "from-the-environment")
    one = module(accounts={"hetzner": {"api_token": "from-the-parameters"}})
    with open_clouds(one, ["hetzner", "vultr"]) as clouds:
        assert {name: cloud.api.token for name, cloud in clouds.items()} == {
            "hetzner": "from-the-parameters",
            "vultr": "from-the-environment",
        }


def test_others_are_opened_only_when_asked_for(module: Callable[..., AnsibleModule], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LINODE_TOKEN", "x")
    with open_clouds(module(), []) as clouds:
        assert not clouds
    with open_clouds(module(), [], more=True) as clouds:
        assert list(clouds) == ["linode"]


def test_no_token_is_a_sentence(capsys: pytest.CaptureFixture[str]):
    with patch_module_args({}):
        one = AnsibleModule(argument_spec=SPEC)
        with pytest.raises(SystemExit), open_clouds(one, ["hetzner"]):
            pass
    said = capsys.readouterr().out
    assert "accounts.hetzner.api_token" in said
    assert "HCLOUD_TOKEN" in said
