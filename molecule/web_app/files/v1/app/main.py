"""Says which release answers; needs the secret, as an application needs its database."""

import asyncio
import json
import os

RELEASE = "v1"
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
    body = {"release": RELEASE, "pid": os.getpid(), "secret_length": len(SECRET), "scheme": scope["scheme"]}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
