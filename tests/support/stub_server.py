"""An HTTP server whose answers a test writes down, for the edges of a protocol."""

import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def stub_server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str, None]:
    """The URL of a server on loopback that answers every request with `handler`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        # What the backlog has no room for is dropped in silence, and knocks again after a second.
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024, ssl_context=tls).start()
        port = runner.addresses[0][1]
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def stub_client(handler: Handler, *, answer_within: float = 5.0, **config: Any) -> AsyncGenerator[Client, None]:
    """A client of such a server."""
    async with stub_server(handler) as url, Client(Config(server=url, **config), timeout=answer_within) as client:
        yield client


def status(code: int, reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    """A Status object as kube-apiserver sends it with a refusal."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return {**body, "reason": reason, "code": code, "details": details}


def refuse(code: int, reason: str, message: str = "no", *, retry_after: int | None = None) -> web.Response:
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return web.json_response(status(code, reason, message), status=code, headers=headers)


def service(name: str, version: int, namespace: str = "default", uid: str = "u1") -> dict[str, Any]:
    """A Service as a list has it: without apiVersion and kind."""
    return {"metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}}


def event(type_: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


async def stream(request: web.Request, *chunks: bytes) -> web.StreamResponse:
    """Begin a watch and send these chunks; the caller returns the response to end it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    return response
