"""A server that speaks OpenAI's protocol: asked again while it is busy, and its refusals told in its own words."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from toolkit.errors import ConfigError, ServerError

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""statuses after which the same request may well be answered"""
LONGEST_PAUSE = 30.0
"""seconds"""
_HERE = ("localhost", "127.0.0.1", "::1")
_NOBODY = (ConnectionRefusedError, socket.gaierror)


class _Busy(Exception):
    """A request that is worth sending again, after so many seconds at least."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


@dataclass
class Server:
    """Where to send requests; used by many threads at once."""

    url: str
    """up to and including `/v1`"""
    timeout: float
    """seconds without a byte after which a request is given up"""
    retries: int
    """how often a request that failed is sent again"""
    api_key: str = field(default="", repr=False)
    pause: float = 1.0
    """seconds before the first retry; before each further one twice as long"""
    _opener: OpenerDirector = field(init=False, repr=False)
    _reached: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"server.url is such as http://localhost:8000/v1, not '{self.url}'")
        self.url = self.url.rstrip("/")
        # What runs on this machine is never behind the proxy that leads out of it.
        self._opener = build_opener(*([ProxyHandler({})] if parts.hostname in _HERE else []))

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request, a GET where there is no body, and return the JSON that comes back.

        Raises:
            ServerError: nobody is there, the server refuses, or it is still busy after all retries.
        """
        pause = self.pause
        for left in range(self.retries, -1, -1):
            try:
                return self._once(path, body)
            except _Busy as busy:
                if not left:
                    raise ServerError(f"{self.url}{path}: {busy} (asked {self.retries + 1} times)") from busy
                time.sleep(min(max(pause, busy.after), LONGEST_PAUSE))
                pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def models(self) -> list[str]:
        """Return the names of what is served; none where the server does not tell."""
        try:
            return [str(model["id"]) for model in self._once("/models", None)["data"]]
        except (ServerError, _Busy, KeyError, TypeError):
            return []  # only asked for the message of another error, which must not be lost over it

    def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, {"Content-Type": "application/json"})
        if self.api_key:
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                content = response.read()
        except HTTPError as error:
            raise self._refusal(path, error) from error
        except (OSError, HTTPException) as error:
            raise self._silence(error) from error
        self._reached = True
        try:
            return json.loads(content)
        except ValueError as error:
            raise ServerError(
                f"{self.url}{path} answers no JSON but {_short(content)!r}: is server.url that of an OpenAI-compatible "
                "server, with the /v1 at its end?"
            ) from error

    def _refusal(self, path: str, error: HTTPError) -> Exception:
        """Make of a status that is no success what to raise."""
        with error:
            said = _short(error.read())
        self._reached = True
        told = f"status {error.code}, {said or error.reason}"
        if error.code in BUSY:
            after = error.headers.get("Retry-After") or ""
            return _Busy(told, float(after) if after.isdecimal() else 0.0)
        hint = ""
        if error.code in (401, 403):
            hint = "; the server's key is taken from the environment variable OPENAI_API_KEY"
        elif error.code == 404:
            hint = "; server.url ends in /v1 for most servers"
        return ServerError(f"{self.url}{path} refuses: {told}{hint}")

    def _silence(self, error: Exception) -> Exception:
        """Make of a broken connection what to raise: before anybody has answered, that nobody is there."""
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, _NOBODY) and not self._reached:
            return ServerError(
                f"nobody answers at {self.url} ({reason}): start a server, such as `transformers serve MODEL`, and "
                "wait until it listens, or name another one in server.url"
            )
        return _Busy(f"{type(reason).__name__}: {reason}")


def _short(content: bytes) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    return text if len(text) <= 500 else f"{text[:500]} ..."
