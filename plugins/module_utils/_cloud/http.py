# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One account at one of the four clouds.

    with Account("hetzner", token) as account:
        servers = account.list_all("/servers", "servers")
        server = account.post("/servers", {"name": "web1", ...})["server"]
        account.delete(f"/servers/{server['id']}")

C(get), C(post), C(put) and C(delete) return the parsed answer, C(list_all) all entries of a paged list or an error,
never some of them. Limits, dropped connections and the 5xx of a proxy are dealt with here, by rules that each provider
documents; what is left is a C(CloudError) whose text is for the operator. The token is in no text.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from .connection import Answer, ExchangeError, Pool
from .errors import CloudError
from .paging import ChangedError, Reading
from .providers import PROVIDERS, api_error

Thing = TypeVar("Thing")
TRIES = 6
# How often a list is read anew because it changed under the reader.
READS = 4
PASSING = {408, 500, 502, 503, 504}
AGAIN = ("GET", "PUT", "DELETE")
HIDDEN = "********"


class PassingError(Exception):
    """Something that may be gone on the next try.

    @param after_seconds: how long to wait, None if nobody said
    @param limited: whether it is the request limit, which is waited for as long as there is time
    """

    def __init__(self, text: str, status: int = 0, after_seconds: float | None = None, limited: bool = False) -> None:
        super().__init__(text)
        self.status, self.after_seconds, self.limited = status, after_seconds, limited


class Account:
    """@param provider: a name out of C(PROVIDERS)
    @param api_url: another base address, version path included
    @param label: what errors call the account, such as the file that names it
    @param total_timeout_seconds: for one call of this surface, or for all inside C(within_time)
    """

    def __init__(
        self,
        provider: str,
        token: str,
        api_url: str = "",
        label: str = "",
        request_timeout_seconds: float = 15,
        total_timeout_seconds: float = 45,
        connections: int = 8,
    ) -> None:
        self.provider = PROVIDERS[provider]
        self.label = f"{self.provider.name} ({label})" if label else self.provider.name
        self.token = token
        self.request_seconds, self.total_seconds = request_timeout_seconds, total_timeout_seconds
        self.connections = connections
        address = (api_url or self.provider.api_url).rstrip("/")
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", address):
            raise CloudError(f"{self.label}: api_url must be an address such as {self.provider.api_url}.")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise CloudError(f"{self.label}: the API token is empty or has characters that no token has.")
        self.pool = Pool(address, connections)
        self.path = self.pool.url.path
        self.requests = 0
        self.last_trouble = ""
        self.deadline: float | None = None
        self.open_again = 0.0
        self.closed = threading.Event()

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()
        self.pool.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.within_time(lambda: self.call("GET", path, params)[0])

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Sent once: what may have been done is not done again."""
        return self.within_time(lambda: self.call("POST", path, body=body or {})[0])

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.within_time(lambda: self.call("PUT", path, body=body)[0])

    def delete(self, path: str) -> dict[str, Any]:
        return self.within_time(lambda: self.call("DELETE", path)[0])

    def list_all(
        self,
        path: str,
        key: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        identity: Callable[[dict[str, Any]], object] = lambda entry: entry["id"],
        chains: str = "",
    ) -> list[dict[str, Any]]:
        """Every entry of a list, each once, as it was at one moment.

        @param key: where in the answer the list is
        @param identity: what tells two entries apart
        @param chains: a field that is a filter too; a long list without page numbers is read by its values side by side
        """
        return self.within_time(lambda: self.read_steadily(path, key, params or {}, headers or {}, identity, chains))

    def read_steadily(
        self,
        path: str,
        key: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str],
        identity: Callable[[dict[str, Any]], object],
        chains: str,
    ) -> list[dict[str, Any]]:
        """Reads until nothing changed under the reader: pages are no snapshot, a deletion moves others past it."""

        def page(query: Mapping[str, Any]) -> tuple[dict[str, Any], Answer]:
            return self.call("GET", path, {**params, **query}, headers=headers, key=key)

        before, why = None, ""
        for read in range(READS):
            if read:
                self.pause(0.2 * read)
            try:
                entries, doubtful = Reading(self.provider, page, key, identity, self.side_by_side, chains).all()
            except ChangedError as changed:
                before, why = None, str(changed)
                continue
            seen = {identity(entry) for entry in entries}
            if not doubtful or seen == before:
                return entries
            before, why = seen, doubtful
        raise self.error(f"GET {path} did not give a list that fits together in {READS} readings: {why}. Try again.")

    def within_time(self, work: Callable[[], Thing]) -> Thing:
        """Runs work in which all calls together have the total time; no resolver or proxy can make it longer."""
        if self.deadline is not None:
            return work()
        result: Thing = self.side_by_side([work])[0]
        return result

    def side_by_side(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """The results of all calls in order, as many at a time as there are connections; the first error ends it."""
        if self.deadline is not None:
            return self.in_threads(calls)
        self.deadline = time.monotonic() + self.total_seconds
        try:
            return self.in_threads(calls)
        finally:
            self.deadline = None

    def in_threads(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        results: dict[int, Any] = {}
        errors: list[BaseException] = []
        work: Iterator[tuple[int, Callable[[], Any]]] = iter(list(enumerate(calls)))
        changed = threading.Condition()

        def run() -> None:
            while True:
                with changed:
                    index, call = next(work, (-1, None))
                    if call is None or errors:
                        return
                try:
                    result = call()
                    with changed:
                        results[index] = result
                        if len(results) == len(calls):
                            changed.notify()
                except BaseException as error:
                    with changed:
                        errors.append(error)
                        changed.notify()

        # Daemons: one that hangs in the resolver must not keep the program from ending.
        for _number in range(min(len(calls), self.connections)):
            threading.Thread(target=run, daemon=True).start()
        with changed:
            changed.wait_for(lambda: errors or len(results) == len(calls), timeout=self.left())
            if errors:
                raise errors[0]
            if len(results) < len(calls):
                self.pool.close()
                raise self.too_late()
        return [results[index] for index in range(len(calls))]

    def left(self) -> float:
        return max((self.deadline or 0) - time.monotonic(), 0)

    def too_late(self) -> CloudError:
        trouble = f"; the last trouble was: {self.last_trouble}" if self.last_trouble else ""
        return self.error(
            f"there was no complete answer within {self.total_seconds:g} s{trouble}. Try again later, or give "
            "total_timeout_seconds a larger value."
        )

    def error(self, text: str, status: int = 0, code: str = "") -> CloudError:
        """The one place where texts become errors: one line, without the token and without control codes."""
        text = re.sub(r"[\x00-\x20\x7f-\x9f]+", " ", f"{self.label}: {text}").replace(self.token, HIDDEN)
        return CloudError(text, status, code)

    def pause(self, seconds: float) -> None:
        if seconds >= self.left():
            raise self.too_late()
        if self.closed.wait(seconds):
            raise self.error("the account was closed while a request waited.")

    def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        key: str = "",
    ) -> tuple[dict[str, Any], Answer]:
        """One request, again where that can help.

        @param key: a list that the answer must have
        """
        query = urlencode(params or {}, doseq=True)
        target = self.path + path + (f"?{query}" if query else "")
        tries = 0
        while True:
            wait = self.open_again - time.monotonic()
            if wait > 0:
                self.pause(wait)
            try:
                return self.attempt(method, target, body, headers or {}, key)
            except PassingError as trouble:
                tries += not trouble.limited
                self.last_trouble = f"{method} {path}: {trouble}"
                if tries >= TRIES or not (trouble.limited or method in AGAIN):
                    raise self.error(f"{self.last_trouble}, {tries} times. Try again later.", trouble.status) from None
                self.wait_out(trouble, tries)

    def wait_out(self, trouble: PassingError, tries: int) -> None:
        if trouble.after_seconds is not None:
            wait = trouble.after_seconds
            if wait >= self.left():
                again = time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + wait))
                raise self.error(
                    f"{self.last_trouble}; it asks to wait {wait:.0f} s, which is longer than total_timeout_seconds "
                    f"({self.total_seconds:g} s) leaves. Try again at {again}.",
                    trouble.status,
                )
            wait += random.uniform(0, 0.25)  # noqa: S311
        elif trouble.limited:
            wait = random.uniform(1, 2)  # noqa: S311
        else:
            wait = min(0.2 * 2**tries * random.uniform(0.5, 1.5), self.left() / 2)  # noqa: S311
        if trouble.limited:
            # Whoever asks meanwhile would only use up more of the limit.
            self.open_again = max(self.open_again, time.monotonic() + wait)
        self.pause(wait)

    def attempt(
        self, method: str, target: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], key: str
    ) -> tuple[dict[str, Any], Answer]:
        """@raises PassingError: if the next try may go well
        @raises CloudError: if it will not"""
        sent = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "bulwark.stack",
            **headers,
        }
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        seconds = min(self.request_seconds, self.left())
        if seconds <= 0:
            raise self.too_late()
        self.requests += 1
        try:
            answer = self.pool.exchange(method, target, content, sent, seconds)
        except ExchangeError as error:
            if error.final or (error.sent and method not in AGAIN):
                raise self.error(f"{method} {target.partition('?')[0]}: {error}.") from None
            raise PassingError(str(error)) from error
        return self.judge(method, target.partition("?")[0], answer, key), answer

    def judge(self, method: str, path: str, answer: Answer, key: str) -> dict[str, Any]:
        """The parsed answer, or what is wrong with it."""
        parsed, wrong = read_json(answer.body)
        code, words = api_error(parsed)
        said = f"{answer.status} {': '.join(filter(None, (code, words))) or answer.reason}"
        if answer.status == 429:
            raise PassingError(f"the request limit is used up ({said})", 429, self.limit_seconds(answer), limited=True)
        if answer.status in PASSING:
            raise PassingError(f"it answered {said}", answer.status, retry_after(answer))
        if answer.status in (401, 403):
            raise self.error(f"{method} {path} was refused ({said}): {self.provider.hint}.", answer.status, code)
        if 300 <= answer.status < 400:
            raise self.error(
                f"{method} {path} is redirected, which is not followed because of the token; correct api_url."
            )
        if answer.status >= 400:
            raise self.error(f"{method} {path} failed ({said}).", answer.status, code)
        if method != "GET" and not answer.body:
            return {}
        if not isinstance(parsed, dict):
            raise PassingError(f"it answered with {wrong}", answer.status)
        entries = parsed.get(key) if key else []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise PassingError(f"the answer has no list '{key}'", answer.status)
        return parsed

    def limit_seconds(self, answer: Answer) -> float | None:
        """How long a used-up limit is to be waited for, by the provider's own clock; None if nothing says so."""
        after = retry_after(answer)
        if after is not None:
            return after
        try:
            return max(float(answer.headers[self.provider.reset]) - moment(answer), 0)
        except (KeyError, ValueError):
            return None


def read_json(body: bytes) -> tuple[Any, str]:
    """The parsed body, and what it is in place of an object."""
    try:
        return json.loads(body), "JSON that is no object"
    except ValueError:
        start = body.lstrip()[:1]
        return None, {b"": "nothing", b"<": "HTML instead of JSON"}.get(start, "JSON that breaks off or is none")


def moment(answer: Answer) -> float:
    """When the answer was given, by the clock of the server."""
    try:
        return email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def retry_after(answer: Answer) -> float | None:
    """Seconds, also where the header is a date; RFC 9110, 10.2.3."""
    text = answer.headers.get("retry-after", "")
    try:
        return max(float(text), 0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - moment(answer), 0)
    except ValueError:
        return None
