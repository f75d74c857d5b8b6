"""A stand-in for a model hub: the part of its HTTP interface that its library asks."""

import base64
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub_storage import Pointer, Storage, is_large

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """Commits, oldest first, each with all of its files."""

    private: bool = True
    commits: list[tuple[str, dict[str, bytes | Pointer]]] = field(default_factory=list)

    def files(self, revision: str) -> tuple[str, dict[str, bytes | Pointer]] | None:
        """Commit and files of a branch or commit."""
        if revision == "main":
            return self.commits[-1] if self.commits else ("0" * 40, {})
        return next((one for one in self.commits if one[0] == revision), None)

    def commit(self, changes: Mapping[str, bytes | Pointer | None]) -> str:
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
    storage: Storage
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def blob(content: bytes | Pointer) -> str:
    """How git calls a file; of a large one it has a few lines that name it."""
    if isinstance(content, Pointer):
        content = f"oid sha256:{content.oid}\nsize {content.size}\n".encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _told(content: bytes | Pointer) -> dict[str, Any]:
    """Size of a file, and what a list of files says of a large one."""
    if isinstance(content, bytes):
        return {"size": len(content)}
    large = {"oid": content.oid, "sha256": content.oid, "size": content.size, "pointerSize": 130}
    return {"size": content.size, "lfs": large}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _say(self, found: object, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        content = json.dumps(found).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
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

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_PUT(self) -> None:
        tag = self.hub.storage.put(self._path()[1:], self._body())
        if tag is None:
            return self._say({"error": "that is another file"}, 400)
        return self._say({}, headers={"ETag": f'"{tag}"'})

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self) -> None:
        body = self._body()
        path = self._path()
        if path[0] == "lfs":  # its address is enough to be let in
            is_there = self.hub.storage.finish(path[1:], json.loads(body))
            return self._say({}, 200 if is_there else 400)
        if not self._is_known():
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
        if path[-3:] == ["lfs", "objects", "batch"]:
            return self._say(self.hub.storage.offer(json.loads(body), self.hub.url))
        repository = self.hub.repositories["/".join(path[2:4])]
        if path[4] == "preupload":
            files = json.loads(body)["files"]
            return self._say({"files": [
                {"path": f["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if is_large(f["path"], f["size"]) else "regular"}
                for f in files
            ]})  # fmt: skip
        changes: dict[str, bytes | Pointer | None] = {}
        for line in body.decode().splitlines():
            one = json.loads(line)
            if one["key"] == "file":
                changes[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            elif one["key"] == "lfsFile":
                told = Pointer(one["value"]["oid"], one["value"]["size"])
                if not self.hub.storage.has(told):
                    return self._say({"error": f"{told.oid} was not uploaded"}, 400)
                changes[one["value"]["path"]] = told
            elif one["key"] == "deletedFile":
                changes[one["value"]["path"]] = None
        oid = repository.commit(changes)
        return self._say({"commitUrl": f"{self.hub.url}/{path[2]}/{path[3]}/commit/{oid}",
                          "commitOid": oid, "success": True})  # fmt: skip

    def do_GET(self) -> None:
        path = self._path()
        if path[0] == "lfs":
            return self._give(self.hub.storage.objects[path[1]], {})
        if path[0] == "api" and path[4:5] in (["xet-write-token"], ["xet-read-token"]):
            if path[4] == "xet-write-token" and not self._is_known():
                return self._say({"error": "who are you?"}, 401)
            access = self.hub.storage.xet_access()
            return self._say(access, headers={
                "X-Xet-Cas-Url": access["casUrl"], "X-Xet-Access-Token": access["accessToken"],
                "X-Xet-Token-Expiration": str(access["exp"]),
            })  # fmt: skip
        if path[0] == "api":
            repository = self.hub.repositories.get("/".join(path[2:4]))
            found = repository and repository.files(path[5] if len(path) > 5 else "main")
            if not repository or not found:
                return self._say({"error": "no such repository"}, 404)
            oid, files = found
            if path[4:5] == ["tree"]:
                return self._say([
                    {"type": "file", "path": n, "oid": blob(c), **_told(c)}
                    for n, c in files.items()
                ])  # fmt: skip
            siblings = [{"rfilename": n, "blobId": blob(c), **_told(c)}
                        for n, c in files.items()]  # fmt: skip
            return self._say({"id": "/".join(path[2:4]), "modelId": "/".join(path[2:4]),
                              "sha": oid, "private": repository.private,
                              "siblings": siblings, "tags": []})  # fmt: skip
        repository = self.hub.repositories.get("/".join(path[:2]))
        found = repository and repository.files(path[3])
        name = "/".join(path[4:])
        if not found or name not in found[1]:
            return self._say({"error": "no such file"}, 404)
        content, commit = found[1][name], {"X-Repo-Commit": found[0]}
        if isinstance(content, bytes):
            return self._give(content, {"ETag": f'"{blob(content)}"', **commit})
        headers = {"X-Linked-Etag": f'"{content.oid}"', "X-Linked-Size": str(content.size)}
        if xet_name := self.hub.storage.xet_name(content.oid):
            headers["X-Xet-Hash"] = xet_name
            headers["X-Xet-Refresh-Route"] = (
                f"{self.hub.url}/api/models/{'/'.join(path[:2])}/xet-read-token/{found[0]}"
            )
        # elsewhere, as on the hub: the library follows no address of the hub itself
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
        headers["Location"] = f"{elsewhere}/lfs/{content.oid}"
        return self._say({}, 302, {**headers, **commit})

    def _give(self, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on this machine, until the end."""
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub("", Storage(Path(folder)))
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
