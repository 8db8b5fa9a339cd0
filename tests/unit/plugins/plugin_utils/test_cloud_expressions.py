"""Expressions mean what they mean to Ansible, only sooner."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.template import Templar, trust_as_template
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.plugin_utils import _cloud_expressions as expressions

# Names that mean something to Python, to Jinja or to a dictionary, and those that mean nothing.
NAMES = st.sampled_from(
    ["a", "b", "items", "keys", "get", "env", "role", "upper", "true", "none", "not", "omit", "range", "_x", "x1", "é"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6), st.just("{{ 7 * 191 }}")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(".".join)
TEMPLAR = Templar()


def by_ansible(expression: str, variables: dict[str, Any]) -> Any:
    TEMPLAR.available_variables = variables
    return TEMPLAR.evaluate_expression(trust_as_template(expression))


@settings(max_examples=500, deadline=None)
@given(PATHS, st.dictionaries(NAMES, VALUES, max_size=4))
@example("a.b.c", {"a": {"b": {"c": "x"}}})
@example("a.items", {"a": {"items": "x"}})
@example("a.b", {"a": {"b": ["{{ 7 * 191 }}"]}})
@example("a.upper", {"a": "text"})
@example("true", {"true": 1})
def test_what_is_looked_up_is_what_ansible_gives(path, variables):
    found = expressions.look_up(trust_as_template(path), variables)
    if found is not expressions.NOTHING:
        given_by_ansible = by_ansible(path, variables)
        assert (found, type(found)) == (given_by_ansible, type(given_by_ansible))


@pytest.mark.parametrize("path", ["a", "a.b", " a.b.c ", "a.b.d", "a.b.e"])
def test_plain_names_need_no_jinja(path):
    variables = {"a": {"b": {"c": "text", "d": ["x", "{{ y }}"], "e": {"f": None}}}}
    assert expressions.look_up(trust_as_template(path), variables) == by_ansible(path, variables)


@pytest.mark.parametrize(
    "path", ["b", "a.b", "a['x']", "a.x | upper", "a.0", "a.items", "", "a.", "lookup", "a.x.y", 3, None]
)
def test_everything_else_is_left_to_jinja(path):
    expression = trust_as_template(path) if isinstance(path, str) else path
    assert expressions.look_up(expression, {"a": {"x": "text", "items": 1}}) is expressions.NOTHING


def test_templates_in_values_are_left_to_jinja():
    """Such as those that come from a static inventory or from extra variables."""
    variables = {"a": {"b": trust_as_template("{{ 7 * 6 }}"), "c": [trust_as_template("x")]}}
    assert expressions.look_up(trust_as_template("a.b"), variables) is expressions.NOTHING
    assert expressions.look_up(trust_as_template("a"), variables) is expressions.NOTHING
    assert by_ansible("a.b", variables) == 42


def test_what_is_no_trusted_template_is_not_evaluated():
    assert expressions.look_up("a", {"a": 1}) is expressions.NOTHING


def test_an_expression_is_compiled_once():
    templar, compiled = Templar(), []
    environment: Any = templar._engine.environment
    original = environment.compile_expression

    def counted(source: str, undefined_to_none: bool = True) -> Any:
        compiled.append(source)
        return original(source, undefined_to_none)

    environment.compile_expression = counted
    expressions.compile_once(templar)
    results = []
    for number in range(5):
        templar.available_variables = {"n": number}
        results.append(templar.evaluate_expression(trust_as_template("n * 2 if n is defined else 'no'")))
        results.append(templar.evaluate_conditional(trust_as_template("n > 2")))
    assert results == [0, False, 2, False, 4, False, 6, True, 8, True]
    assert len(compiled) == 2


def test_another_ansible_is_only_slower():
    class Later:
        """Without the place where the compiler is."""

    expressions.compile_once(Later())  # type: ignore[arg-type]
