"""A webhook receiver for the tests: appends each body to a file, answers when the disk has it.

    python tests/servers/receiver.py PORT KEY

A POST to /NAME goes to NAME.jsonl in the current folder, if its signature is right.
"""

import os
import sys

from aiohttp import web

from streamguard.delivery.sinks.webhook import Unverified, verify


async def take(request: web.Request) -> web.Response:
    body = await request.read()
    try:
        verify(sys.argv[2], dict(request.headers), body)
    except Unverified as error:
        return web.Response(status=401, text=str(error))
    with open(f"{request.match_info['name']}.jsonl", "ab", buffering=0) as file:
        file.write(body + b"\n")
        os.fdatasync(file.fileno())
    return web.Response(status=204)


app = web.Application()
app.router.add_post("/{name:[a-z_]+}", take)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, shutdown_timeout=0.1)
