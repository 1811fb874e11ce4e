"""A stand-in of the Hugging Face hub: what its clients ask for, over HTTP, from folders.

`datasets`, `transformers` and `huggingface_hub` read where the hub is when they are imported, so they run in processes
of their own, with `environment(...)`. Layouts, headers and error codes are the hub's.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WIKIPEDIA, BOOKS = "wikimedia/wikipedia", "lucadiliello/bookcorpusopen"
GLUE, ALBERT, LARGE = "nyu-mll/glue", "albert/albert-base-v2", "org/large"

NAME = r"(?P<name>[^/]+/[^/]+?)"
INFO = re.compile(rf"/api/(?P<kind>models|datasets)/{NAME}(/revision/(?P<revision>[^/]+))?")
TREE = re.compile(rf"/api/(?P<kind>models|datasets)/{NAME}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?")
PATHS = re.compile(rf"/api/(?P<kind>models|datasets)/{NAME}/paths-info/(?P<revision>[^/]+)")
FILE = re.compile(rf"/((?P<kind>datasets)/)?{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Hub:
    """Repositories are folders: `models/org/name`, `datasets/org/name`.

    Attributes:
        root: Folder with the repositories.
        gated: Names that ask for a login.
        hiccups: Whether the first request of every address is answered 500.
        requests: How often each address was asked for, whatever the method.
        sent: Bytes of files.
    """

    root: Path
    url: str = ""
    gated: set[str] = field(default_factory=set)
    hiccups: bool = False
    requests: Counter[str] = field(default_factory=Counter)
    sent: int = 0


def environment(hub: Hub, home: Path, offline: bool = False) -> dict[str, str]:
    """What a client's process is to be told: only this hub, a cache of its own, no login."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline)), "HF_TOKEN": ""}


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    """The hub, on loopback, until the end of the block."""
    hub = Hub(root)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        address = unquote(url.path)
        self.served.requests[address] += 1
        found = next((match for pattern in (FILE, TREE, PATHS, INFO) if (match := pattern.fullmatch(address))), None)
        if found is None:
            return self._answer(404)
        asked = found.groupdict()
        folder = self.served.root / (asked["kind"] or "models") / asked["name"]
        if self.served.hiccups and self.served.requests[address] == 1:
            return self._answer(500)
        if not folder.is_dir():  # as the hub answers who is not logged in: it may be private
            return self._answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        commit = _commit(folder)
        if asked["revision"] not in (None, "main", commit):
            return self._answer(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        if found.re is INFO:
            return self._json({"id": asked["name"], "sha": commit, "siblings": [], "tags": [], "private": False})
        if found.re is TREE:
            start = folder / (asked["path"] or "")
            if not start.is_dir():
                return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            deep = parse_qs(url.query).get("recursive", ["false"])[0].lower() == "true"
            return self._json([_entry(folder, path) for path in sorted(start.rglob("*") if deep else start.iterdir())])
        if found.re is PATHS:
            asked_for = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            return self._json([_entry(folder, folder / path) for path in asked_for if (folder / path).exists()])
        if asked["name"] in self.served.gated and asked["path"] != "README.md":  # the card is for all
            return self._answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if not (folder / asked["path"]).is_file():
            missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self._answer(404, missing | {"X-Repo-Commit": commit})
        self._file(folder / asked["path"], commit)

    do_HEAD = do_POST = do_GET

    def _file(self, file: Path, commit: str) -> None:
        size = file.stat().st_size
        start, end, headers = 0, size, {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{_digest(file)}"'
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(wanted[1]), min(size, int(wanted[2] or size) + 1)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        with file.open("rb") as stream:
            stream.seek(start)
            content = stream.read(end - start)
        self._answer(206 if wanted else 200, headers, content)

    def _json(self, content: Any) -> None:
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _answer(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.served.sent += len(content)
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Silence: standard error is the test's."""


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    """A file or folder as the tree has it."""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
    return {"type": "file", "path": name, "oid": _digest(path), "size": path.stat().st_size}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()


def _commit(folder: Path) -> str:
    """Another whenever a file is."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha1("".join(f"{file.relative_to(folder)} {_digest(file)}\n" for file in files).encode()).hexdigest()
