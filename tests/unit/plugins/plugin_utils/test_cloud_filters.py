"""filters, include and exclude: the same words everywhere, and no word that means something else by mistake."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.plugin_utils._cloud_filters import Filters
from plugins.plugin_utils._cloud_schema import Network, labels_of
from tests.unit.plugins.plugin_utils.test_cloud_schema import server

TAGS = ["env:prod", "role:web", "role:db", "spare"]
ONE = server(
    tags=TAGS,
    labels=labels_of(TAGS),
    private_networks=[Network(id="7", name="backend", address="10.0.0.1")],
    image=None,
)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"name": "web1"},
        {"name": "web*"},
        {"name": ["db1", "web[0-9]"]},
        {"id": 1},
        {"region": ["ams", "fra"], "status": "running"},
        {"tags": "spare"},
        {"tags": ["other", "role:*"]},
        {"labels": {"env": "prod", "role": "web"}},
        {"labels": {"role": "db"}},
        {"labels": {"env": ["test", "prod"]}},
        {"labels": {"env": None}},
        {"labels": {"env": "p*"}},
        {"networks": "backend"},
        {"networks": 7},
        {"provider_status": "active"},
        {"region": None},
    ],
)
def test_what_fits(wanted):
    assert Filters(wanted).fit(ONE)


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "web"},
        {"name": "WEB1"},
        {"name": []},
        {"region": "ams", "status": "running"},
        {"region": "fra", "status": "stopped"},
        {"tags": "spar"},
        {"labels": {"env": "prod", "role": "cache"}},
        {"labels": {"envy": None}},
        {"labels": {"spare": None}},
        {"networks": "front*"},
        {"image": "*"},
        {"plan": "x"},
    ],
)
def test_what_does_not(wanted):
    assert not Filters(wanted).fit(ONE)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"regions": "fra"}, "did you mean region"),
        ({"location": "fra"}, "did you mean region"),
        ({"tag": "a"}, "did you mean tags"),
        ({"colour": "red"}, "known are name"),
        ({"status": "active"}, "provider_status"),
        ({"labels": ["a=b"]}, "dictionary"),
        (["region"], "dictionary"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted: Any, says):
    with pytest.raises(ValueError, match=says):
        Filters(wanted)


def test_an_api_is_asked_for_nothing_that_is_a_pattern():
    filters = Filters({"name": ["web1", "db*"], "region": ["fra", "ams"], "labels": {"a": "b", "c": "d*", "e": None}})
    assert filters.exact("name") == []
    assert filters.exact("region") == ["fra", "ams"]
    assert filters.exact("plan") == []
    assert filters.labels() == {"a": ["b"], "e": []}
