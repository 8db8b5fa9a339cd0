"""The table of filters names what is there, and all of it."""

from __future__ import annotations

from importlib import import_module

from plugins.filter import stack


def test_every_filter_of_the_table_exists():
    for module, names in stack.FILTERS.items():
        code = import_module(f"plugins.plugin_utils.{module}")
        assert [name for name in names if not callable(getattr(code, name, None))] == []


def test_a_filter_is_loaded_and_called():
    assert stack.FilterModule().filters()["port_conflicts"]([]) == []


def test_names_are_unique():
    names = [name for group in stack.FILTERS.values() for name in group]
    assert len(names) == len(set(names))
