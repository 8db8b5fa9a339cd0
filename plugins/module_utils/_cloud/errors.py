# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can go wrong at a cloud: one family, each with a text for the operator."""

from __future__ import annotations


class CloudError(Exception):
    """The account, what happened and what to do.

    @param status: the HTTP status, 0 if there was none
    @param code: the API's own word for it, if it has one
    """

    def __init__(self, text: str, status: int = 0, code: str = "") -> None:
        super().__init__(text)
        self.status, self.code = status, code
