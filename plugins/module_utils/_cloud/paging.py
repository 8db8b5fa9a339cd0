# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One reading of a paged list, and whether it fits together."""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .connection import Answer
from .providers import Page, Provider

Entry = dict[str, Any]
Ask = Callable[[Mapping[str, Any]], tuple[dict[str, Any], Answer]]
Identity = Callable[[Entry], object]
SideBySide = Callable[[Sequence[Callable[[], "Part"]]], "list[Part]"]


class ChangedError(Exception):
    """The pages do not fit together, because the list changed between them or because an answer is wrong."""


class Part:
    """One page: its entries, its place in the list, and the second on the server's clock at which it was made."""

    def __init__(self, provider: Provider, asked: tuple[dict[str, Any], Answer], key: str) -> None:
        body, answer = asked
        self.entries: list[Entry] = body[key]
        self.place: Page = provider.page(body)
        parsed = email.utils.parsedate_tz(answer.headers.get("date", ""))
        self.moment = email.utils.mktime_tz(parsed) if parsed else None


def read_all(
    provider: Provider, page: Ask, key: str, identity: Identity, side_by_side: SideBySide
) -> tuple[list[Entry], str]:
    """All entries, and a reason to doubt that they are all although every number fits.

    @raises ChangedError: if a page is missing, is there twice, or was made of another list than the others
    """
    parts = list(read_parts(provider, page, key, identity, side_by_side))
    entries = [entry for part in parts for entry in part.entries]
    try:
        different = len({identity(entry) for entry in entries})
    except (KeyError, TypeError) as error:
        raise ChangedError(f"an entry has no {error}") from error
    totals = {part.place.total for part in parts if part.place.total is not None}
    if len(totals) > 1:
        raise ChangedError(f"the number of entries went from {min(totals)} to {max(totals)} while it was read")
    if different < len(entries):
        raise ChangedError(f"{len(entries) - different} entries came twice")
    if totals and different not in totals:
        raise ChangedError(f"it announces {totals.pop()} entries and gives {different}")
    return entries, doubt(provider, parts, entries) if len(parts) > 1 else ""


def read_parts(provider: Provider, page: Ask, key: str, identity: Identity, side_by_side: SideBySide) -> Iterable[Part]:
    """The pages: the first, then all others side by side where pages have numbers and the answer says how many."""
    name, size = provider.size

    def ask(query: Mapping[str, Any]) -> Part:
        return Part(provider, page({name: size, **query}), key)

    def numbered(index: int) -> Callable[[], Part]:
        return lambda: ask({"page": index})

    first = ask({"page": 1} if provider.numbered else {})
    yield first
    if not first.place.more:
        return
    if provider.numbered and first.place.total is not None:
        # The cap may be lower than documented: what came counts, not what was asked for.
        count = -(-first.place.total // max(len(first.entries), 1))
        rest = side_by_side([numbered(index) for index in range(2, max(count, 2) + 1)])
        yield from rest
        if rest[-1].place.more:
            raise ChangedError("its last page says that there is another one")
        return
    last, index, seen = first, 1, {identity(entry) for entry in first.entries}
    cursors = set()
    while last.place.more:
        index += 1
        if last.place.cursor in cursors and not provider.numbered:
            raise ChangedError("its pages go in a circle")
        cursors.add(last.place.cursor)
        last = ask({"page": index} if provider.numbered else {"cursor": last.place.cursor})
        fresh = {identity(entry) for entry in last.entries} - seen
        if not fresh:
            raise ChangedError("its pages go in a circle")
        seen |= fresh
        yield last


def doubt(provider: Provider, parts: list[Part], entries: list[Entry]) -> str:
    """A deletion and a creation between two pages leave the total as it was, but one entry newer than the reading."""
    moments = [part.moment for part in parts if part.moment is not None]
    if not moments:
        return ""
    start, end = min(moments), max(moments) + 1
    for entry in entries:
        if start <= seconds(entry.get(provider.created)) <= end:
            return "an entry was created while it was read"
    return ""


def seconds(text: object) -> float:
    """A point in time out of ISO 8601, UTC where it has no zone; 0 if it is none."""
    try:
        made = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        return (made if made.tzinfo else made.replace(tzinfo=timezone.utc)).timestamp()
    except ValueError:
        return 0
