# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Expressions in C(compose), C(groups) and C(keyed_groups) without what makes them slow.

ansible-core compiles an expression anew for each host, which is nine tenths of its time. Here it is compiled once, and
a plain dotted name is looked up without Jinja, where both give the same.
"""

from __future__ import annotations

import functools
import keyword
import re
from collections.abc import Mapping
from typing import Any

from ansible.template import Templar, is_trusted_as_template

DOTTED = re.compile(r"\s*([a-zA-Z]\w*(?:\.[a-zA-Z]\w*)*)\s*", re.ASCII)
# What Jinja does not take for a name; Python's words are a superset but for these.
JINJA_WORDS = {"true", "false", "none", "omit", "undef"}
PLAIN = (bool, int, float, type(None))
NOTHING = object()


@functools.lru_cache(maxsize=256)
def dotted(expression: str) -> tuple[str, ...]:
    """The names of an expression such as C(a.b.c); empty for any other."""
    found = DOTTED.fullmatch(expression)
    names = tuple(found[1].split(".")) if found else ()
    # Jinja looks for an attribute before it looks for a key, so labels.items is not the label.
    if any(hasattr(dict, name) or hasattr(str, name) for name in names[1:]):
        return ()
    if any(keyword.iskeyword(name) or name in JINJA_WORDS for name in names[:1]):
        return ()
    return names


def is_data(value: Any) -> bool:
    """Whether templating would leave a value as it is."""
    if isinstance(value, str):
        return not is_trusted_as_template(value)
    if isinstance(value, Mapping):
        return all(is_data(key) and is_data(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_data, value))
    return isinstance(value, PLAIN)


def look_up(expression: object, variables: Mapping[str, Any]) -> Any:
    """The value of a dotted name, NOTHING where only Jinja can tell."""
    if not isinstance(expression, str) or not is_trusted_as_template(expression):
        return NOTHING
    names = dotted(expression)
    if not names or names[0] not in variables:
        return NOTHING
    found: Any = variables
    for name in names:
        if not isinstance(found, dict) or name not in found:
            return NOTHING
        found = found[name]
    return found if is_data(found) else NOTHING


def compile_once(templar: Templar) -> None:
    """Lets a templar keep what it has compiled.

    Where a later ansible-core has no such place, expressions are as slow as before and mean the same.
    """
    environment: Any = getattr(getattr(templar, "_engine", None), "environment", None)
    compiler = getattr(environment, "compile_expression", None)
    if compiler is not None:
        environment.compile_expression = functools.lru_cache(maxsize=256)(compiler)
