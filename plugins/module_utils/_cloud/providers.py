# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""In what the four APIs differ: addresses, pages, errors and limits. What they have in common is in C(http).

Sources: docs.hetzner.cloud (Pagination, Rate Limiting), docs.digitalocean.com/reference/api (Links & Meta, Rate Limit),
vultr.com/api (Meta and Pagination), techdocs.akamai.com/linode-api (Pagination, Rate limits).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Page(NamedTuple):
    """Where one answer of a list stands.

    @param total: how many the whole list has, None where the answer does not say
    @param more: whether the answer says that something follows it
    @param cursor: what asks for the next page, where pages have no numbers
    """

    total: int | None
    more: bool
    cursor: str = ""


class Provider(NamedTuple):
    """One API.

    @param size: the name of the query parameter for the page size, and the most that it may be
    @param page: reads the position out of an answer
    @param numbered: whether pages have numbers, so that they can be asked for side by side
    @param reset: the header that says when a used-up limit counts anew, where waiting for that moment is what it means
    @param variables: environment variables that the provider's own tools read the token from
    @param hint: what to do about 401 and 403
    """

    name: str
    api_url: str
    size: tuple[str, int]
    page: Callable[[Mapping[str, Any]], Page]
    numbered: bool
    created: str
    reset: str
    variables: tuple[str, ...]
    hint: str


def dictionary(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def hetzner_page(answer: Mapping[str, Any]) -> Page:
    place = dictionary(dictionary(answer.get("meta")).get("pagination"))
    return Page(number(place.get("total_entries")), bool(place.get("next_page")))


def digitalocean_page(answer: Mapping[str, Any]) -> Page:
    links = dictionary(dictionary(answer.get("links")).get("pages"))
    return Page(number(dictionary(answer.get("meta")).get("total")), bool(links.get("next")))


def vultr_page(answer: Mapping[str, Any]) -> Page:
    meta = dictionary(answer.get("meta"))
    cursor = str(dictionary(meta.get("links")).get("next") or "")
    return Page(number(meta.get("total")), bool(cursor), cursor)


def linode_page(answer: Mapping[str, Any]) -> Page:
    page, pages = number(answer.get("page")), number(answer.get("pages"))
    return Page(number(answer.get("results")), bool(page and pages and page < pages))


PROVIDERS = {
    "hetzner": Provider(
        "Hetzner Cloud",
        "https://api.hetzner.cloud/v1",
        ("per_page", 50),
        hetzner_page,
        numbered=True,
        created="created",
        # RateLimit-Reset is when the whole hour's worth is back; one request is back after a second.
        reset="",
        variables=("HCLOUD_TOKEN",),
        hint="the token must be one of this project's, with permission to read",
    ),
    "digitalocean": Provider(
        "DigitalOcean",
        "https://api.digitalocean.com/v2",
        ("per_page", 200),
        digitalocean_page,
        numbered=True,
        created="created_at",
        reset="ratelimit-reset",
        variables=("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN", "DO_API_TOKEN", "DO_API_KEY"),
        hint="the token must be valid and have the scopes droplet:read, tag:read, image:read and vpc:read",
    ),
    "vultr": Provider(
        "Vultr",
        "https://api.vultr.com/v2",
        ("per_page", 500),
        vultr_page,
        numbered=False,
        created="date_created",
        reset="",
        variables=("VULTR_API_KEY",),
        hint="the key must be valid and this machine's address must be on the key's list of allowed addresses "
        "(Account > API > Access Control)",
    ),
    "linode": Provider(
        "Linode",
        "https://api.linode.com/v4",
        ("page_size", 500),
        linode_page,
        numbered=True,
        created="created",
        reset="x-ratelimit-reset",
        variables=("LINODE_TOKEN", "LINODE_API_TOKEN", "LINODE_CLI_TOKEN"),
        hint="the token must be valid and have the scopes linodes:read_only and vpc:read_only",
    ),
}


def api_error(answer: object) -> tuple[str, str]:
    """Code and words of an error in any of the four shapes, each empty if there is none."""
    body = dictionary(answer)
    inner = body.get("error")
    if isinstance(inner, Mapping):
        return str(inner.get("code") or ""), str(inner.get("message") or "")
    if isinstance(inner, str):
        return "", inner
    errors = body.get("errors")
    if isinstance(errors, list):
        words = []
        for one in filter(None, map(dictionary, errors)):
            field = f" ({one['field']})" if one.get("field") else ""
            words.append(f"{one.get('reason') or 'no reason given'}{field}")
        return "", "; ".join(words)
    return str(body.get("id") or ""), str(body.get("message") or "")
