# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tries a call again while it may still succeed: exponential backoff with full jitter, for a limited time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .errors import StoreError

T = TypeVar("T")

FIRST_SECONDS = 1
LONGEST_SECONDS = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retry:
    """Calls what it is given until it works, fails for good, or patience is over.

    @param patience_seconds: from the first failure on; 0 = once only
    @param spread: gives a number between two others
    """

    patience_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    spread: Callable[[float, float], float] = random.uniform

    def __call__(self, work: Callable[[], T]) -> T:
        """What the work returns.

        @raises StoreError: the last one, with how long it was tried
        """
        since, attempt = None, 0
        while True:
            try:
                return work()
            except StoreError as error:
                if not error.transient:
                    raise
                now = self.clock()
                since = now if since is None else since
                longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(attempt, 10))
                # A store that names a time gets all its clients back at that time, so jitter is added to it.
                pause = error.after_seconds + self.spread(0, longest)
                if now + pause - since > self.patience_seconds:
                    raise given_up(error, now - since, attempt) from error
                if attempt == 0 or pause > LONGEST_SECONDS / 2:
                    log.warning("%s Trying again for %s.", error, in_words(self.patience_seconds - (now - since)))
            attempt += 1
            self.sleep(pause)


def given_up(error: StoreError, seconds: float, tries: int) -> StoreError:
    """The same error, final, with how long it was tried."""
    if not tries:
        return error
    return type(error)(
        f"{error} Given up after {tries + 1} tries in {in_words(seconds)}.", after_seconds=error.after_seconds
    )


def in_words(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
