"""The HTTP side: files of the page, headers, the check of Origin and Host, the upgrade to the socket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

from robosteer_teleop.server.hub import Hub
from robosteer_teleop.server.transport import WebSocketTransport

HEARTBEAT_S = 5.0  # a peer that vanished without a word is noticed after this and a half; its poses after 100 ms
FILES = {
    "/": ("index.html", "text/html"),
    "/main.js": ("main.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def security_headers(host: str, secure: bool) -> dict[str, str]:
    """Headers of every answer: nothing from elsewhere is loaded, nobody frames the page."""
    socket = f"{'wss' if secure else 'ws'}://{host}"
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self' {socket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Permissions-Policy": "xr-spatial-tracking=(self), camera=(), microphone=(), geolocation=()",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def make_app(
    hub: Hub, origins: Callable[[], frozenset[str]], about: Callable[[], dict[str, str]], max_message: int
) -> web.Application:
    """The web application of one hub.

    Args:
        hub: where sockets go.
        origins: exact origins under which the page is served; asked at each request.
        about: what `/about.json` tells.
        max_message: bytes of the largest message up.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in {origin.partition("://")[2] for origin in origins()}:
            raise web.HTTPMisdirectedRequest(text="this host name is not served\n")
        return await handler(request)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(security_headers(request.host, request.secure))

    async def socket(request: web.Request) -> web.StreamResponse:
        origin = request.headers.getall("Origin", [])
        if len(origin) != 1 or origin[0] not in origins():
            raise web.HTTPForbidden(text="this origin is not served\n")
        response = web.WebSocketResponse(compress=False, max_msg_size=max_message, heartbeat=HEARTBEAT_S)
        await response.prepare(request)
        await hub.serve(WebSocketTransport(response, request))
        return response

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(about()), content_type="application/json")

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/ws", socket)
    app.router.add_get("/about.json", tell)
    for route, (name, kind) in FILES.items():
        app.router.add_get(route, _file(name, kind))
    return app


def _file(name: str, kind: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        content = (files("robosteer_teleop") / "web/dist" / name).read_bytes()
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return handler
