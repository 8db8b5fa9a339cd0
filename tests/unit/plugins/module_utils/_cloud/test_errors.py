"""Errors: a text for people, and what programs go by."""

from __future__ import annotations

from plugins.module_utils._cloud.errors import CloudError


def test_an_error_says_what_happened_and_how_the_api_calls_it():
    error = CloudError("refused", 403, "forbidden")
    assert (str(error), error.status, error.code) == ("refused", 403, "forbidden")
