"""A store that forgets: enough of S3 to take an upload of any size, and to list as many objects as it is asked for.

    void.py PORT BACKUPS    a listing has so many backups, of two objects each

For what would need tens of gigabytes, or hours, in a real store: how the agent's memory grows, and how it reads lists.
"""

from __future__ import annotations

import hashlib
import sys
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FIRST = datetime(2000, 1, 1, tzinfo=timezone.utc)
PAGE = 1000


def name(number: int) -> str:
    backup, file = divmod(number, 2)
    moment = FIRST + timedelta(hours=backup)
    return f"h1/shop/{moment:%Y%m%dT%H%M%SZ}-{backup:08x}/{('data.zst.age', 'manifest.json')[file]}"


class Void(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    names: list[str] = []

    def log_message(self, *words: object) -> None:
        pass

    def take(self) -> str:
        """Reads the body and forgets it; its MD5, as S3 names it."""
        left, sum_of_it = int(self.headers.get("Content-Length") or 0), hashlib.md5()
        buffer = bytearray(1 << 20)
        while left:
            count = self.rfile.readinto(memoryview(buffer)[: min(left, len(buffer))])
            sum_of_it.update(memoryview(buffer)[:count])
            left -= count
        return f'"{sum_of_it.hexdigest()}"'

    def give(self, text: str = "", status: int = 200, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        self.give(ETag=self.take())

    def do_POST(self) -> None:
        self.take()
        if "uploads" in self.path:
            self.give("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        else:
            self.give("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" not in query:
            self.give("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
            return
        prefix, after = query.get("prefix", [""])[0], query.get("start-after", [""])[0]
        first = max(bisect_left(self.names, prefix), bisect_right(self.names, after))
        found = [one for one in self.names[first : first + PAGE + 1] if one.startswith(prefix)]
        items = "".join(
            f"<Contents><Key>{one}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
            "<Size>1000000</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for one in found[:PAGE]
        )
        more = str(len(found) > PAGE).lower()
        self.give(f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{items}</ListBucketResult>")


if __name__ == "__main__":
    Void.names = [name(number) for number in range(2 * int(sys.argv[2]))]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Void).serve_forever()
