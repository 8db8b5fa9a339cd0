# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One reading of a paged list, and whether it fits together."""

from __future__ import annotations

import email.utils
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

from .connection import Answer
from .errors import CloudError
from .providers import Provider

Entry = dict[str, Any]
Ask = Callable[[Mapping[str, Any]], tuple[dict[str, Any], Answer]]
SideBySide = Callable[[Sequence[Callable[[], Any]]], list[Any]]
# A chain of cursors that is longer is worth one request more to read it in several.
CHAIN_PAGES = 4
MOST_PAGES = 2000


class ChangedError(Exception):
    """The pages do not fit together, because the list changed between them or because an answer is wrong."""


class Part:
    """One page: its entries, its place in the list, and the second on the server's clock at which it was made."""

    def __init__(self, provider: Provider, body: dict[str, Any], answer: Answer, key: str) -> None:
        self.entries: list[Entry] = body[key]
        self.total, self.more, self.cursor = provider.page(body)
        parsed = email.utils.parsedate_tz(answer.headers.get("date", ""))
        self.moment = email.utils.mktime_tz(parsed) if parsed else None


class Reading:
    """@param ask: one request with these parameters added
    @param key: where in the answer the list is
    @param identity: what tells two entries apart
    @param chains: a field to read a long list without page numbers by, or nothing
    """

    def __init__(
        self,
        provider: Provider,
        ask: Ask,
        key: str,
        identity: Callable[[Entry], object],
        side_by_side: SideBySide,
        chains: str = "",
    ) -> None:
        self.provider, self.asker, self.key, self.identity = provider, ask, key, identity
        self.side_by_side, self.chains = side_by_side, chains

    def all(self) -> tuple[list[Entry], str]:
        """All entries, and a reason to doubt that they are all although every number fits.

        @raises ChangedError: if a page is missing, is there twice, or was made of another list than the others
        """
        first = self.ask({"page": 1} if self.provider.numbered else {})
        if not first.more:
            parts = [first]
        elif self.provider.numbered and first.total is not None:
            parts = [first, *self.rest(first)]
        elif self.chains and (first.total or 0) > CHAIN_PAGES * len(first.entries):
            parts = self.in_chains(first)
        else:
            parts = [first, *self.chain(first)]
        entries = self.checked(parts)
        return entries, self.doubt(parts, entries) if len(parts) > 1 else ""

    def ask(self, query: Mapping[str, Any]) -> Part:
        name, size = self.provider.size
        try:
            return Part(self.provider, *self.asker({name: size, **query}), self.key)
        except CloudError as error:
            # Where a list became shorter, its last page is gone.
            if error.status == 404 and query.get("page", 1) > 1:
                raise ChangedError("its last page went away while it was read") from error
            raise

    def rest(self, first: Part) -> list[Part]:
        """All pages after the first. The cap may be lower than documented: what came counts, not what was asked for."""
        count = -(-(first.total or 0) // max(len(first.entries), 1))
        if count > MOST_PAGES:
            raise ChangedError(f"it announces {first.total} entries, which cannot be")
        seen, lock = self.ids(first.entries), threading.Lock()

        def one(index: int) -> Part:
            part = self.ask({"page": index})
            with lock:
                self.go_on(seen, part)
            return part

        parts = self.side_by_side([partial(one, index) for index in range(2, max(count, 2) + 1)])
        if parts[-1].more:
            raise ChangedError("its last page says that there is another one")
        return parts

    def chain(self, last: Part, query: Mapping[str, Any] | None = None) -> Iterator[Part]:
        """The pages after one, each found through the one before."""
        index, seen = 1, self.ids(last.entries)
        while last.more:
            index += 1
            last = self.ask(
                {**(query or {}), **({"page": index} if self.provider.numbered else {"cursor": last.cursor})}
            )
            self.go_on(seen, last)
            yield last

    def ids(self, entries: Sequence[Entry]) -> set[object]:
        try:
            return set(map(self.identity, entries))
        except (KeyError, TypeError) as error:
            raise ChangedError(f"an entry has no {error}") from error

    def go_on(self, seen: set[object], part: Part) -> None:
        """Ends a reading early whose pages repeat."""
        fresh = self.ids(part.entries) - seen
        if part.entries and not fresh:
            raise ChangedError("its pages go in a circle")
        seen |= fresh

    def in_chains(self, first: Part) -> list[Part]:
        """One chain for each value that the first page has; if these are not all values, one chain after all."""

        def one(value: str) -> list[Part]:
            begin = self.ask({self.chains: value})
            return [begin, *self.chain(begin, {self.chains: value})]

        values = sorted({str(entry.get(self.chains)) for entry in first.entries})
        found: list[list[Part]] = self.side_by_side([partial(one, value) for value in values])
        if sum(parts[0].total or 0 for parts in found) != first.total:
            return [first, *self.chain(first)]
        for parts in found:
            self.checked(parts)
        together = [part for parts in found for part in parts]
        for part in together:
            part.total = first.total
        return together

    def checked(self, parts: list[Part]) -> list[Entry]:
        """The entries of pages that fit together."""
        entries = [entry for part in parts for entry in part.entries]
        different = len(self.ids(entries))
        totals = {part.total for part in parts if part.total is not None}
        if len(totals) > 1:
            raise ChangedError(f"the number of entries went from {min(totals)} to {max(totals)} while it was read")
        if different < len(entries):
            raise ChangedError(f"{len(entries) - different} entries came twice")
        if totals and different not in totals:
            raise ChangedError(f"it announces {totals.pop()} entries and gives {different}")
        return entries

    def doubt(self, parts: list[Part], entries: list[Entry]) -> str:
        """A deletion and a creation between two pages leave the total as it was, but an entry newer than that."""
        moments = [part.moment for part in parts if part.moment is not None]
        if not moments:
            return ""
        start, end = min(moments), max(moments) + 1
        if any(start <= seconds(entry.get(self.provider.created)) <= end for entry in entries):
            return "an entry was created while it was read"
        return ""


def seconds(text: object) -> float:
    """A point in time out of ISO 8601, UTC where it has no zone; 0 if it is none."""
    try:
        made = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        return (made if made.tzinfo else made.replace(tzinfo=timezone.utc)).timestamp()
    except ValueError:
        return 0
