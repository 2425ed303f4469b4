"""A Hugging Face hub of a few files on this computer: the addresses, headers and refusals of the real one."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONVERTED, CONVERTED_COMMIT = "refs/convert/parquet", "89abcdef0123456789abcdef0123456789abcdef"
_LARGE_BYTES = 1000


@dataclass
class FakeHub:
    """`models`: id -> file -> content, of datasets too (`datasets/owner/name`). `cards`: what the hub has read from the README.
    `converted`: what the hub itself has made of a dataset. `breaks_after`: a connection is lost after so many bytes.
    `waits_after`: no more than so many come until `goes_on` is set.
    `refusals`: id -> status and error code. `heard`: (path, headers) of each request."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    converted: dict[str, dict[str, bytes]] = field(default_factory=dict)
    breaks_after: int = 0
    waits_after: int = 0
    goes_on: threading.Event = field(default_factory=threading.Event)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    knows_ranges: bool = True
    elsewhere: str = ""
    url: str = ""
    sent_bytes: int = 0

    @property
    def files_asked_for(self) -> list[str]:
        return [path.rsplit("/", 1)[-1] for path, _ in self.heard]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.hub.heard.append((path, dict(self.headers.items())))
        match = re.fullmatch(r"/(?:cdn/)?((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+|refs/convert/parquet)/(.+)", path)
        listed = re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)/revision/(.+)", urlsplit(path).path)
        if match is None and listed is None:
            self._refuse(404, "")
            return
        model, revision, file = (*listed.groups(), "") if match is None and listed else match.groups()  # type: ignore[union-attr]
        is_converted = revision in (CONVERTED, CONVERTED_COMMIT)
        files = (self.hub.converted if is_converted else self.hub.models).get(model)
        if model in self.hub.refusals:
            self._refuse(*self.hub.refusals[model])
        elif model not in self.hub.models:
            self._refuse(401, "RepoNotFound")
        elif files is None or (revision not in ("main", COMMIT) and not is_converted):
            self._refuse(404, "RevisionNotFound")
        elif listed:
            self._send(json.dumps(self._listing(model, files, is_converted)).encode())
        elif file not in files:
            self._refuse(404, "EntryNotFound")
        elif self.hub.elsewhere and not path.startswith("/cdn/") and file != "config.json":
            self.send_response(302)
            self.send_header("Location", f"{self.hub.elsewhere}/cdn{self.path}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
        else:
            self._send(files[file])

    def _listing(self, model: str, files: dict[str, bytes], is_converted: bool) -> dict[str, Any]:
        """As the real hub answers with `blobs=true`: SHA-256 of large files, git's sum of small ones."""
        siblings: list[dict[str, Any]] = []
        for name, content in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            one = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) >= _LARGE_BYTES:
                one["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(one)
        return {
            "id": model.removeprefix("datasets/"),
            "sha": CONVERTED_COMMIT if is_converted else COMMIT,
            "gated": False,
            "cardData": self.hub.cards.get(model, {}),
            "siblings": siblings,
        }

    def _send(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = content
        if asked and self.hub.knows_ranges:
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            part = content[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        if 0 < self.hub.breaks_after < len(part):
            # One chunk that promises more than comes: what a client sees when its connection is lost.
            self.send_header("Transfer-Encoding", "chunked")
            part = b"%x\r\n" % len(part) + part[: self.hub.breaks_after]
        else:
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        try:
            for start in range(0, len(part), 1 << 14):
                if 0 < self.hub.waits_after <= start:
                    self.hub.goes_on.wait()
                self.wfile.write(part[start : start + (1 << 14)])
                self.hub.sent_bytes += len(part[start : start + (1 << 14)])
        except OSError:
            pass  # the reader has seen enough

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub at work on a free port of 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
