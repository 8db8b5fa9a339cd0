"""The zone that holds a domain."""

from __future__ import annotations

from plugins.module_utils._cloud.records import zone_of


def test_the_longest_zone_holds_a_domain():
    zones = ["example.com", "shop.example.com", "example.org"]
    assert zone_of("example.com", zones) == "example.com"
    assert zone_of("www.example.com", zones) == "example.com"
    assert zone_of("www.shop.example.com", zones) == "shop.example.com"
    assert zone_of("www.notexample.com", zones) == ""
