# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""C(filters), C(include) and C(exclude): the same words for all four clouds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from typing import Any

from ._cloud_schema import Server, pairs

PLAIN = ("name", "id", "region", "plan", "image", "status", "provider_status")
WORDS = (*PLAIN, "tags", "labels", "networks")
STATUSES = ("running", "stopped", "pending", "other")
Test = Callable[[Server], bool]
# Words that people bring along.
SYNONYMS = {
    "tag": "tags",
    "label": "labels",
    "network": "networks",
    "regions": "region",
    "location": "region",
    "types": "plan",
    "type": "plan",
    "size": "plan",
    "names": "name",
}


def listed(value: Any) -> list[str]:
    """One value or several, as texts."""
    return [str(one) for one in (value if isinstance(value, (list, tuple)) else [value])]


def exact(value: Any) -> list[str]:
    """The values if none of them is a pattern, so that an API can be asked for them."""
    values = listed(value)
    return [] if any(re.search(r"[*?\[]", one) for one in values) else values


class Filters:
    """One set of words: a server fits if every word fits, and a word if one of its values does.

    @param wanted: such as C({"region": ["fsn1", "nbg1"], "labels": {"env": "prod"}, "name": "web*"})
    @raises ValueError: if a word is unknown
    """

    def __init__(self, wanted: Any, option: str = "filters") -> None:
        if not isinstance(wanted, Mapping):
            raise ValueError(f"{option} must be a dictionary with the words {', '.join(WORDS)}")
        for word in wanted:
            if word not in WORDS:
                meant = f"; did you mean {SYNONYMS[word]}?" if word in SYNONYMS else ""
                raise ValueError(f"{option} has the word '{word}'; known are {', '.join(WORDS)}{meant}")
        self.wanted: dict[str, Any] = {word: value for word, value in wanted.items() if value is not None}
        for status in listed(self.wanted.get("status", [])):
            if status not in STATUSES:
                raise ValueError(
                    f"{option}.status has '{status}'; it takes {', '.join(STATUSES)}, and provider_status the words of "
                    "the provider"
                )
        if not isinstance(self.wanted.get("labels", {}), Mapping):
            raise ValueError(f"{option}.labels must be a dictionary of keys and values")
        self.tests = [self.test(word, value) for word, value in self.wanted.items()]

    def test(self, word: str, value: Any) -> Test:
        if word == "labels":
            each = [(str(key), None if one is None else pattern(one)) for key, one in value.items()]
            return lambda server: all(
                any(key == have and (fits is None or fits(is_)) for have, is_ in pairs(server)) for key, fits in each
            )
        fits = pattern(value)
        if word == "tags":
            return lambda server: any(map(fits, server["tags"]))
        if word == "networks":
            return lambda server: any(fits(one["id"]) or fits(one["name"]) for one in server["private_networks"])
        return lambda server: fits(server[word])  # type: ignore[literal-required]

    def fit(self, server: Server) -> bool:
        return all(test(server) for test in self.tests)

    def exact(self, word: str) -> list[str]:
        """The values of a word that an API can be asked for, empty if it has none or a pattern."""
        return exact(self.wanted[word]) if word in self.wanted else []

    def labels(self) -> dict[str, list[str]]:
        """Those labels that an API can be asked for; no value means any."""
        found = {str(key): [] if one is None else exact(one) for key, one in self.wanted.get("labels", {}).items()}
        return {key: values for key, values in found.items() if values or self.wanted["labels"][key] is None}


def pattern(value: Any) -> Callable[[str | None], bool]:
    """Tells whether a text is one of the values, which may have C(*), C(?) and C([...])."""
    values = listed(value)
    if exact(value) or not values:
        known = frozenset(values)
        return lambda text: text in known
    compiled = re.compile("|".join(map(translate, values)))
    return lambda text: text is not None and compiled.match(text) is not None
