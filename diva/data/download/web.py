"""The web: one request with urllib, and what its answer or its failure means for whoever wants a file."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from diva.records.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 1 << 18
_ASK_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED})


class TransientError(Exception):
    """Asking again may help."""


class UnreachableError(TransientError):
    """The server did not even answer."""


class RefusedError(Exception):
    """This address will not give the file."""


class WholeError(Exception):
    """Status 416: there is nothing after the part; the file has `total` bytes, if the server says so."""

    def __init__(self, total: int | None) -> None:
        self.total = total


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, from https to https alone, and only within the web."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Part of the interface of urllib."""
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after != "https"):
            raise RefusedError(f"redirects from {before}: to {after}:, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What opens http, https and ftp through the proxies that the environment names, and nothing else: no file, no data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), urllib.request.FTPHandler(),
        urllib.request.UnknownHandler(), urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _Redirects(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def opened(url: str, headers: dict[str, str], timeout_s: float) -> Any:
    """The answer to a request; errors are sorted into those where asking again may help and those where it will not."""
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            raise _of_status(error) from None
    except urllib.error.URLError as error:
        raise _of_reason(error.reason) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _of_reason(error) from None


def _of_status(error: urllib.error.HTTPError) -> Exception:
    if error.code == 416:
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        return WholeError(int(total) if total.isascii() and total.isdigit() else None)
    if 300 <= error.code < 400:
        circle = "loop" in str(error.reason)
        return RefusedError("redirects in a circle" if circle else "redirects to what is not followed")
    said = f"answered {error.code} {printable(str(error.reason))[:80]}".rstrip()
    return TransientError(said) if error.code in _ASK_AGAIN else RefusedError(said)


def _of_reason(reason: object) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return RefusedError(
            f"its certificate is not trusted ({reason.verify_message}); SSL_CERT_FILE can name one that is"
        )
    if isinstance(reason, TimeoutError):
        return UnreachableError("did not answer in time")
    if isinstance(reason, socket.gaierror):
        return RefusedError("the name of the server is not known here; is there a network?")
    if isinstance(reason, OSError) and reason.errno in _NO_WAY:
        return UnreachableError(f"cannot be reached ({reason.strerror})")
    if isinstance(reason, (OSError, http.client.HTTPException)):
        return TransientError(f"broke off ({printable(str(reason))[:80] or type(reason).__name__})")
    return RefusedError(printable(str(reason))[:120])


def validator_of(headers: Any) -> str:
    """What names this version of a file so strictly that a piece of it may be asked for, "" when nothing does."""
    etag = str(headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(headers.get("Last-Modified", ""))


def next_block(read: Callable[[int], bytes]) -> bytes:
    """The next block of a body; an error of the network is not one of the disk."""
    try:
        return read(_BLOCK)
    except TimeoutError:
        raise TransientError("nothing more came in time") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransientError(
            f"the connection broke off ({printable(str(error))[:80] or type(error).__name__})"
        ) from None
