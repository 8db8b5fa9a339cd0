"""Snapshots without an account. The rest is tried on the four APIs, see tests/cloud/test_provision.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plugins.module_utils._cloud import build
from plugins.module_utils._cloud.build import Clock, Cloud, Snapshot
from plugins.module_utils._cloud.http import CloudError
from plugins.module_utils._cloud.plan import Resource
from plugins.module_utils._cloud.providers import PROVIDERS
from plugins.modules import cloud_snapshots

SERVER = Resource("server", "hetzner", "web1", {}, "7")


class Lost(Cloud):
    """Its answers get lost, after the snapshot was begun or before.

    @param begins: whether it is begun
    """

    def __init__(self, begins: bool, status: int = 0) -> None:
        super().__init__(None, Clock(10, lambda _seconds: None))  # type: ignore[arg-type]
        self.begins, self.status, self.there = begins, status, [Snapshot("1", "other")]

    def snapshots(self) -> list[Snapshot]:
        return self.there

    def take_snapshot(self, server: Resource, name: str) -> None:
        if self.begins:
            self.there.append(Snapshot("2", name))
        raise CloudError("the connection was cut", self.status)


def test_no_account_is_a_sentence(run_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    for provider in PROVIDERS.values():
        for name in provider.variables:
            monkeypatch.delenv(name, raising=False)
    result = run_module(cloud_snapshots, servers=["web1"])
    assert "There is no server web1 at any provider" in result["msg"]


def test_a_lost_answer_is_looked_after(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "LAG_SECONDS", 0)
    cloud = Lost(begins=True)
    cloud_snapshots.take(cloud, SERVER, "bulwark-web1-x")
    assert len(cloud.there) == 2
    with pytest.raises(CloudError):
        cloud_snapshots.take(Lost(begins=False), SERVER, "bulwark-web1-x")
    with pytest.raises(CloudError):
        cloud_snapshots.take(Lost(begins=True, status=422), SERVER, "bulwark-web1-x")
