"""A stand-in for a model hub: the part of its HTTP interface that its library asks."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """Commits, oldest first, each with all of its files."""

    private: bool = True
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a branch or commit."""
        if revision == "main":
            return self.commits[-1] if self.commits else ("0" * 40, {})
        return next((one for one in self.commits if one[0] == revision), None)

    def commit(self, changes: dict[str, bytes | None]) -> str:
        """Add, replace and (None) delete files."""
        files = {**self.files("main")[1], **changes}  # type: ignore[index]
        kept = {name: content for name, content in files.items() if content is not None}
        told = json.dumps([len(self.commits), sorted(kept)]).encode()
        self.commits.append((hashlib.sha1(told).hexdigest(), kept))
        return self.commits[-1][0]


@dataclass
class Hub:
    """What the server holds and what it was asked."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def blob(content: bytes) -> str:
    """How git calls a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _say(self, found: object, status: int = 200) -> None:
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _path(self) -> list[str]:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        return path.strip("/").split("/")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self._path()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._say({"error": "who are you?"}, 401)
        if path == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in self.hub.repositories:
                return self._say({"error": "there already", "url": f"{self.hub.url}/{name}"}, 409)
            private = asked.get("private", asked.get("visibility") == "private")
            self.hub.repositories[name] = Repository(bool(private))
            return self._say({"url": f"{self.hub.url}/{name}", "id": name})
        if path == ["api", "validate-yaml"]:
            return self._say({"errors": [], "warnings": []})
        repository = self.hub.repositories["/".join(path[2:4])]
        if path[4] == "preupload":
            files = json.loads(body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            return self._say({"files": [{"path": f["path"], **plain} for f in files]})
        changes: dict[str, bytes | None] = {}
        for line in body.decode().splitlines():
            one = json.loads(line)
            if one["key"] == "file":
                changes[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            elif one["key"] == "deletedFile":
                changes[one["value"]["path"]] = None
        oid = repository.commit(changes)
        return self._say({"commitUrl": f"{self.hub.url}/{path[2]}/{path[3]}/commit/{oid}",
                          "commitOid": oid, "success": True})  # fmt: skip

    def do_GET(self) -> None:
        path = self._path()
        if path[0] == "api":
            repository = self.hub.repositories.get("/".join(path[2:4]))
            found = repository and repository.files(path[5] if len(path) > 5 else "main")
            if not repository or not found:
                return self._say({"error": "no such repository"}, 404)
            oid, files = found
            if path[4:5] == ["tree"]:
                return self._say([
                    {"type": "file", "path": n, "oid": blob(c), "size": len(c)}
                    for n, c in files.items()
                ])  # fmt: skip
            siblings = [{"rfilename": n, "size": len(c), "blobId": blob(c)}
                        for n, c in files.items()]  # fmt: skip
            return self._say({"id": "/".join(path[2:4]), "modelId": "/".join(path[2:4]),
                              "sha": oid, "private": repository.private,
                              "siblings": siblings, "tags": []})  # fmt: skip
        repository = self.hub.repositories.get("/".join(path[:2]))
        found = repository and repository.files(path[3])
        name = "/".join(path[4:])
        if not found or name not in found[1]:
            return self._say({"error": "no such file"}, 404)
        content = found[1][name]
        self.send_response(200)
        self.send_header("ETag", f'"{blob(content)}"')
        self.send_header("X-Repo-Commit", found[0])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    do_HEAD = do_GET


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on this machine, until the end."""
    hub = Hub("")
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
