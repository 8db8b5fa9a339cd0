"""Patience, with a clock that only the pauses move."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._backup.errors import DeniedError, NotFoundError, StoreError
from plugins.module_utils._backup.retry import LONGEST_SECONDS, Retry, in_words


class Time:
    def __init__(self) -> None:
        self.now, self.pauses = 100.0, []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def retry(self, patience_seconds: float) -> Retry:
        """One that always waits as long as it may."""
        return Retry(patience_seconds, lambda: self.now, self.sleep, lambda least, most: most)


@pytest.fixture
def time() -> Time:
    return Time()


def failing(errors: list[StoreError]) -> Callable[[], str]:
    """Raises each of them, then works."""
    left = iter(errors)

    def work() -> str:
        for error in left:
            raise error
        return "done"

    return work


def passing(text: str = "503.", after: float = 0) -> StoreError:
    return StoreError(text, transient=True, after_seconds=after)


def test_what_works_is_done_once(time):
    assert time.retry(0)(lambda: "done") == "done"
    assert time.pauses == []


def test_pauses_double_up_to_a_minute(time):
    assert time.retry(7200)(failing([passing()] * 9)) == "done"
    assert time.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("error", [StoreError("400."), NotFoundError("none."), DeniedError("no.")])
def test_what_does_not_pass_is_told_at_once(time, error):
    with pytest.raises(type(error)) as raised:
        time.retry(7200)(failing([error]))
    assert raised.value is error
    assert time.pauses == []


def test_the_time_that_the_store_names_is_waited_for(time):
    time.retry(7200)(failing([passing(after=30)]))
    assert time.pauses == [31]


def test_a_store_that_asks_for_too_much_is_given_up(time):
    with pytest.raises(StoreError, match=r"^503\.$"):
        time.retry(60)(failing([passing(after=90)]))
    assert time.pauses == []


def test_patience_ends_and_says_how_long_it_was(time):
    with pytest.raises(StoreError, match=r"^503\. Given up after 8 tries in 2 minutes\.$") as raised:
        time.retry(150)(failing([passing()] * 99))
    assert not raised.value.transient
    assert sum(time.pauses) <= 150


def test_no_patience_is_one_try(time):
    with pytest.raises(StoreError, match=r"^503\.$"):
        time.retry(0)(failing([passing()]))


def test_the_journal_hears_of_it_once_and_then_of_long_pauses(time, caplog):
    time.retry(7200)(failing([passing()] * 7))
    assert [record.getMessage() for record in caplog.records] == [
        "503. Trying again for 2 hours.",
        "503. Trying again for 119 minutes.",
        "503. Trying again for 119 minutes.",
    ]


@given(st.integers(0, 40), st.floats(0, 1))
def test_jitter_is_full(attempt, chance):
    time = Time()
    retry = Retry(10**6, lambda: time.now, time.sleep, lambda least, most: least + (most - least) * chance)
    retry(failing([passing()] * (attempt + 1)))
    assert 0 <= time.pauses[-1] <= min(LONGEST_SECONDS, 2**attempt)


def test_times_in_words():
    assert [in_words(seconds) for seconds in (1.2, 119, 120, 7200)] == [
        "1 seconds",
        "119 seconds",
        "2 minutes",
        "2 hours",
    ]
