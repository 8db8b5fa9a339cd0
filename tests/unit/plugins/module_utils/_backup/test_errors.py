"""Errors carry what callers decide by."""

from __future__ import annotations

import inspect

from plugins.module_utils._backup import errors


def test_all_are_one_family():
    classes = [one for _name, one in inspect.getmembers(errors, inspect.isclass)]
    assert classes
    assert all(issubclass(one, errors.BackupError) for one in classes)


def test_a_store_error_says_whether_to_try_again():
    assert not errors.StoreError("no").transient
    slow = errors.StoreError("slow down", transient=True, after_seconds=3)
    assert (slow.transient, slow.after_seconds, str(slow)) == (True, 3, "slow down")
