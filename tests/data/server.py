"""A web server on 127.0.0.1 that serves files well or badly, as it is told for each request."""

from __future__ import annotations

import http.server
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256


@dataclass
class Served:
    """A file; `plan` says what happens to its first requests, afterwards it is served well."""

    content: bytes
    plan: list[Behaviour] = field(default_factory=list)
    etag: bool = True
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return f'"{sha256(self.content).hexdigest()[:16]}"'


class Server:
    """What is served, by path; `released` ends all that hang."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.files: dict[str, Served] = {}
        self.reached, self.released = threading.Event(), threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def serve(self, path: str, content: bytes, *plan: Behaviour, **how) -> str:
        """Offer a file; its address."""
        self.files[f"/{path}"] = Served(content, list(plan), **how)
        return self.url(path)

    def asked(self, path: str) -> list[str | None]:
        """The Range of each request for a path."""
        return [request.get("Range") for request in self.files[f"/{path}"].requests]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    here: Server

    def do_GET(self) -> None:
        served = self.here.files.get(self.path)
        self.close_connection = True
        if served is None:
            self.send_error(404)
            return
        served.requests.append(dict(self.headers.items()))
        (served.plan.pop(0) if served.plan else well)(self, served)

    def log_message(self, format: str, *args) -> None:
        """Say nothing."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


Behaviour = Callable[[Handler, Served], None]


def range_of(handler: Handler, served: Served) -> int | None:
    """The byte from which the rest is wanted and may be given."""
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range", served.tag) == served.tag
    return int(found[1]) if found and served.ranges and same else None


def announce(handler: Handler, served: Served, start: int | None, **changed: object) -> None:
    n = len(served.content)
    headers: dict[str, object] = {
        "Content_Length": n - (start or 0),
        **({"ETag": served.tag} if served.etag else {}),
        **served.headers,
    }
    if start is not None:
        headers["Content_Range"] = f"bytes {start}-{n - 1}/{n}"
    headers |= changed
    handler.head(200 if start is None else 206, **{k: v for k, v in headers.items() if v is not None})


def well(handler: Handler, served: Served) -> None:
    """As it should be."""
    start = range_of(handler, served)
    if start is not None and start >= len(served.content):
        handler.head(416, Content_Range=f"bytes */{len(served.content)}", Content_Length=0)
        return
    announce(handler, served, start)
    handler.wfile.write(served.content[start or 0 :])


def breaking_off_after(n: int) -> Behaviour:
    """The connection ends after n more bytes."""

    def serve(handler: Handler, served: Served) -> None:
        start = range_of(handler, served)
        announce(handler, served, start)
        handler.wfile.write(served.content[start or 0 :][:n])

    return serve


def hanging_after(n: int) -> Behaviour:
    """After n bytes nothing more comes, and the connection stays open."""

    def serve(handler: Handler, served: Served) -> None:
        start = range_of(handler, served)
        announce(handler, served, start)
        handler.wfile.write(served.content[start or 0 :][:n])
        handler.wfile.flush()
        handler.here.reached.set()
        handler.here.released.wait(60)

    return serve


def in_drops(size: int) -> Behaviour:
    """The whole file in tiny pieces."""

    def serve(handler: Handler, served: Served) -> None:
        announce(handler, served, None)
        for place in range(0, len(served.content), size):
            handler.wfile.write(served.content[place : place + size])
            handler.wfile.flush()

    return serve


def with_status(code: int, **headers: object) -> Behaviour:
    """An error."""
    return lambda handler, served: handler.head(code, Content_Length=0, **headers)


def redirecting_to(url: str, code: int = 302) -> Behaviour:
    """Somewhere else."""
    return lambda handler, served: handler.head(code, Location=url, Content_Length=0)


def claiming(length: int) -> Behaviour:
    """Another length than that of the body."""

    def serve(handler: Handler, served: Served) -> None:
        announce(handler, served, None, Content_Length=length)
        handler.wfile.write(served.content)

    return serve


def without_length(handler: Handler, served: Served) -> None:
    """The body ends when the connection does."""
    announce(handler, served, None, Content_Length=None)
    handler.wfile.write(served.content)


def in_chunks(handler: Handler, served: Served) -> None:
    """Chunked, and not ended as chunks should be when the file is called so."""
    announce(handler, served, None, Content_Length=None, Transfer_Encoding="chunked")
    for place in range(0, len(served.content), 1000):
        block = served.content[place : place + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
    handler.wfile.write(b"0\r\n\r\n")


def in_chunks_cut_off(handler: Handler, served: Served) -> None:
    """Chunked, the last one missing."""
    announce(handler, served, None, Content_Length=None, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n%s" % (len(served.content), served.content[:-10]))


def endless(handler: Handler, served: Served) -> None:
    """No length, and no end."""
    announce(handler, served, None, Content_Length=None)
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        handler.here.reached.set()


def with_range(text: str) -> Behaviour:
    """A part, with this Content-Range."""

    def serve(handler: Handler, served: Served) -> None:
        start = range_of(handler, served) or 0
        announce(handler, served, start, Content_Range=text)
        handler.wfile.write(served.content[start:])

    return serve


def other_content(content: bytes) -> Behaviour:
    """From now on another file has this address."""

    def serve(handler: Handler, served: Served) -> None:
        served.content = content
        well(handler, served)

    return serve


def page(handler: Handler, served: Served) -> None:
    """A log-in page, with status 200."""
    body = b"<html>Please log in"
    handler.head(200, Content_Type="text/html; charset=utf-8", Content_Length=len(body))
    handler.wfile.write(body)


def nothing(handler: Handler, served: Served) -> None:
    """The connection is closed without an answer."""


@contextmanager
def running() -> Iterator[Server]:
    """A server on a free port, in a thread of this process."""

    class Ours(Handler):
        pass

    class Listening(http.server.ThreadingHTTPServer):
        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)  # without looking up the name of this machine
            self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    with Listening(("127.0.0.1", 0), Ours) as listening:
        listening.daemon_threads = True
        Ours.here = server = Server(listening.server_port)
        listening.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients are killed in some tests
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            listening.shutdown()
            thread.join()
