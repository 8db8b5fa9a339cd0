"""Connections: the proxy of the environment, and answers that are packed."""

from __future__ import annotations

import gzip

import pytest

from plugins.module_utils._cloud.connection import proxy_for, unpack, urlsplit


def test_proxies_are_those_of_the_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address = urlsplit("https://api.hetzner.cloud/v1")
    assert proxy_for(address) is None
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    assert proxy_for(address) == urlsplit("http://proxy.example:3128")
    assert proxy_for(urlsplit("http://127.0.0.1:8080/v1")) is None
    monkeypatch.setenv("no_proxy", ".hetzner.cloud")
    assert proxy_for(address) is None


def test_a_packed_answer_must_have_an_end():
    packed = gzip.compress(b"whole")
    assert unpack(packed, {"content-encoding": "gzip"}) == b"whole"
    assert unpack(b"plain", {}) == b"plain"
    with pytest.raises(ValueError, match="has no end"):
        unpack(packed[:-4], {"content-encoding": "gzip"})
