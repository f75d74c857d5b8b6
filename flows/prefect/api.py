"""Prefect's REST API over the standard library: every answer within seconds or an error.

Prefect's own client takes two seconds to import in every stage, and repeats a call for minutes
before it gives up; reporting can afford neither.
"""

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any

from flows.bridge import api_url

#: Longest wait for one answer.
TIMEOUT_S = 3.0


class Refused(Exception):
    """The server understood and said no: asking again changes nothing."""


class Api:
    """One server; ``OSError`` or ``ValueError`` where it gives no proper answer."""

    def __init__(self) -> None:
        self.url = api_url()
        self._headers = {"Content-Type": "application/json"}
        if key := os.environ.get("PREFECT_API_KEY"):
            self._headers["Authorization"] = f"Bearer {key}"
        elif auth := os.environ.get("PREFECT_API_AUTH_STRING"):
            self._headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"

    def get(self, path: str) -> Any:
        """What the server says of something."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Make or ask for something."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Change something."""
        return self._ask("PATCH", path, body)

    def _ask(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            # 408 and 429 ask for patience; the rest of the 400s will not change
            if 400 <= error.code < 500 and error.code not in (408, 429):
                said = error.read(300).decode(errors="replace")
                raise Refused(f"{method} {path}: {error.code} {said}") from error
            raise
        return json.loads(text) if text else None
