"""In what the four APIs differ: shapes of errors, and where a page stands."""

from __future__ import annotations

from plugins.module_utils._cloud.providers import PROVIDERS, Page, api_error


def test_the_four_shapes_of_errors():
    assert api_error({"error": {"code": "forbidden", "message": "no"}}) == ("forbidden", "no")
    assert api_error({"id": "unauthorized", "message": "no"}) == ("unauthorized", "no")
    assert api_error({"error": "Invalid API token.", "status": 401}) == ("", "Invalid API token.")
    assert api_error({"errors": [{"reason": "no", "field": "label"}, {"reason": "never"}]}) == ("", "no (label); never")
    assert api_error(None) == api_error([]) == api_error({"error": None}) == ("", "")


def test_where_a_page_stands():
    page = {name: one.page for name, one in PROVIDERS.items()}
    assert page["hetzner"]({"meta": {"pagination": {"next_page": 2, "total_entries": 60}}}) == Page(60, True)
    assert page["hetzner"]({"meta": {"pagination": {"next_page": None, "total_entries": None}}}) == Page(None, False)
    assert page["digitalocean"]({"links": {"pages": {"next": "x"}}, "meta": {"total": 300}}) == Page(300, True)
    assert page["digitalocean"]({"links": {}, "meta": {"total": 3}}) == Page(3, False)
    assert page["vultr"]({"meta": {"total": 3, "links": {"next": "", "prev": ""}}}) == Page(3, False)
    assert page["vultr"]({"meta": {"total": 900, "links": {"next": "abc"}}}) == Page(900, True, "abc")
    assert page["linode"]({"page": 1, "pages": 2, "results": 600}) == Page(600, True)
    assert page["linode"]({"page": 2, "pages": 2, "results": 600}) == Page(600, False)
    assert [one({}) for one in page.values()] == [Page(None, False)] * 4
