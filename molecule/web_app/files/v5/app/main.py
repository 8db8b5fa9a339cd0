"""Is healthy as a candidate and not as the service, as an application whose luck runs out."""

import asyncio
import json
import os
import sys

RELEASE = "v5"
SECRET = os.environ["APP_SECRET"]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        await asyncio.sleep(3)
    status = 500 if scope["path"] == "/health" and sys.argv[0].startswith("/srv/app/current/") else 200
    body = {"release": RELEASE, "pid": os.getpid(), "secret_length": len(SECRET), "scheme": scope["scheme"]}
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
