"""Reading files of the Hugging Face hub, whole or in part, with the standard library: bounded in bytes and in time.

`huggingface_hub` reads the whole answer, even that of a server which ignores the range that was asked for: it might fetch
weights. It also reads the environment but once, when it is imported. Models are named by their id, datasets by `datasets/`
and their id, as in the hub's own addresses.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from studio.errors import StudioError

DATASETS = "datasets/"
_ENDPOINT = "https://huggingface.co"
_TIMEOUT_SECONDS = 10.0
_DEADLINE_SECONDS = 60.0
_CHUNK_BYTES = 1 << 16
_MAX_LISTING_BYTES = 64_000_000
_TRUE = ("1", "ON", "YES", "TRUE")


class HubError(StudioError):
    """The hub cannot be reached, or does not give the file.

    `is_connection`: another time might give another answer. `is_missing_file`: the repository is there and the file is not.
    """

    def __init__(self, message: str, hint: str, *, is_connection: bool = False, is_missing_file: bool = False) -> None:
        super().__init__(message, hint)
        self.is_connection = is_connection
        self.is_missing_file = is_missing_file


@dataclass(frozen=True)
class Answer:
    """What came of one file: its bytes, the file's whole size, and the revision (a commit) that it is of."""

    content: bytes
    total_bytes: int
    commit: str


@dataclass(frozen=True)
class Hub:
    """One hub, as the environment names it."""

    endpoint: str = _ENDPOINT
    token: str = ""
    is_offline: bool = False
    timeout_seconds: float = _TIMEOUT_SECONDS

    @classmethod
    def of_environment(cls) -> Hub:
        """HF_ENDPOINT, HF_TOKEN (else the token that `hf auth login` keeps), HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT."""
        timeout = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
        offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
        return cls(
            endpoint=(os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/"),
            token=_token(),
            is_offline=offline.upper() in _TRUE,
            timeout_seconds=float(timeout) if re.fullmatch(r"[1-9]\d{0,3}", timeout) else _TIMEOUT_SECONDS,
        )

    def read(
        self, hub_id: str, revision: str, file: str, max_bytes: int, *, start: int = 0, only_begin: bool = False
    ) -> Answer:
        """At most `max_bytes` of a file, from `start`. A longer file is refused, unless `only_begin` says that part will do.

        Raises `HubError`.
        """
        headers = {"Range": f"bytes={start}-{start + max_bytes - 1}"} if only_begin else {}
        with self._opened_file(hub_id, revision, file, headers) as (response, commit):
            return replace(_read(response, hub_id, file, max_bytes, start, only_begin), commit=commit)

    def chunks(self, hub_id: str, revision: str, file: str, start: int) -> Iterator[bytes]:
        """The file from byte `start` on, piece by piece, until the server ends. Raises `HubError`."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._opened_file(hub_id, revision, file, headers) as (response, _):
            ahead = start if response.status != 206 else 0  # a server that knows no ranges begins at the beginning
            while chunk := response.read(_CHUNK_BYTES):
                if len(chunk) > ahead:
                    yield chunk[ahead:]
                ahead = max(0, ahead - len(chunk))

    def listing(self, hub_id: str, revision: str) -> dict[str, Any]:
        """What the hub says of one revision: commit (`sha`), card, and name, size and sums of each file. Raises `HubError`."""
        kind = "" if hub_id.startswith(DATASETS) else "models/"
        address = f"{self.endpoint}/api/{kind}{quote(hub_id)}/revision/{quote(revision, safe='')}?blobs=true"
        with self._opened(address, {}, (hub_id, revision, "")) as (response, _):
            told = json.loads(_read(response, hub_id, "The list of files", _MAX_LISTING_BYTES, 0, False).content)
        if not isinstance(told, dict):
            raise HubError(f"{self.endpoint} does not answer as a hub does.", "Check HF_ENDPOINT.")
        return told

    def _opened_file(
        self, hub_id: str, revision: str, file: str, headers: dict[str, str]
    ) -> AbstractContextManager[tuple[http.client.HTTPResponse, str]]:
        address = f"{self.endpoint}/{quote(hub_id)}/resolve/{quote(revision, safe='')}/{quote(file)}"
        return self._opened(address, headers, (hub_id, revision, file))

    @contextmanager
    def _opened(
        self, address: str, headers: dict[str, str], what: tuple[str, str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, str]]:
        """The answer of the hub, or of the server that it sends us to, and the commit that either names."""
        if self.is_offline:
            raise HubError(
                "HF_HUB_OFFLINE forbids it.",
                "Unset HF_HUB_OFFLINE, or choose what is on this computer.",
                is_connection=True,
            )
        if urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise HubError(f"HF_ENDPOINT is no web address: {self.endpoint[:80]!r}.", "Unset it, or correct it.")
        request = urllib.request.Request(address, headers=headers)
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        redirects = _Redirects(self.token, self.endpoint)
        try:
            with _opener(redirects).open(request, timeout=self.timeout_seconds) as response:
                yield response, _commit(response.headers) or redirects.commit
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error, *what) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.endpoint) from error


def _read(
    response: http.client.HTTPResponse, hub_id: str, file: str, max_bytes: int, start: int, only_begin: bool
) -> Answer:
    """Take no more than asked for, whatever the server sends, and give up on one that trickles."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    if start and response.status != 206:
        raise HubError(f"The hub sends {file} of {hub_id} as a whole only.", "Download it as a whole, then try again.")
    wanted, content = max_bytes if only_begin else max_bytes + 1, b""
    while len(content) < wanted:
        chunk = response.read(min(_CHUNK_BYTES, wanted - len(content)))
        if not chunk:
            break
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
    if len(content) > max_bytes:
        raise HubError(f"{file} of {hub_id} is far too large.", "Choose another upload of it.")
    return Answer(content, _total_bytes(response, len(content)), "")


def _total_bytes(response: http.client.HTTPResponse, num_read: int) -> int:
    stated = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if stated:
        return int(stated[1])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else num_read


def _commit(headers: Message) -> str:
    stated = headers.get("X-Repo-Commit", "")
    return stated if re.fullmatch(r"[0-9a-f]{40}", stated) else ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Files lie on other servers than the hub's own pages. The token goes to the hub alone."""

    def __init__(self, token: str, endpoint: str) -> None:
        self.commit = ""
        self._token = token
        self._home = urlsplit(endpoint)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """As its base, and with the token again where the address is still the hub's."""
        self.commit = self.commit or _commit(headers)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        place = urlsplit(newurl)
        if (
            request is not None
            and self._token
            and (place.scheme, place.netloc) == (self._home.scheme, self._home.netloc)
        ):
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return request


def _opener(redirects: _Redirects) -> urllib.request.OpenerDirector:
    """Web addresses and nothing else: a redirect to a file or an FTP server leads nowhere."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        redirects,
    ):
        opener.add_handler(handler)
    return opener


def _refused(error: urllib.error.HTTPError, hub_id: str, revision: str, file: str) -> HubError:
    """What the hub's own code says, else its status."""
    code, name = error.headers.get("X-Error-Code", ""), hub_id.removeprefix(DATASETS)
    what, is_first = ("dataset", not file) if hub_id != name else ("model", file.endswith("config.json"))
    if code == "GatedRepo" or (error.code in (401, 403) and not code):
        return HubError(
            f"The hub gives {name} only to those who accepted its terms, or who own it.",
            f"Accept them on the {what}'s page, then set HF_TOKEN to a token of yours.",
        )
    if code == "RevisionNotFound":
        return HubError(f"{name} has no revision {revision!r} on the hub.", "Leave it out, or correct it.")
    if code == "RepoNotFound" or (error.code == 404 and code != "EntryNotFound" and is_first):
        return HubError(
            f"There is no {what} {name!r} on this computer, and no such {what} on the hub that you may see.",
            "Check the spelling: owner/name. For a private one, set HF_TOKEN.",
        )
    if error.code == 404:
        return HubError(
            f"{name} has no {file} on the hub, so it is no {what} that can be used here.",
            "Choose the upload that holds the original weights." if what == "model" else "Choose another revision.",
            is_missing_file=True,
        )
    return HubError(
        f"The hub answered {error.code} when asked for {file or 'the list of files'} of {name}.",
        "Try again later.",
        is_connection=error.code == 429 or error.code >= 500,
    )


def _unreachable(endpoint: str) -> HubError:
    return HubError(
        f"{urlsplit(endpoint).netloc or endpoint} cannot be reached.",
        "Check the network connection, or choose what is on this computer.",
        is_connection=True,
    )


def _token() -> str:
    named = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if named:
        return "".join(named.split())
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return ""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    path = Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()
    try:
        return "".join(path.read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError):
        return ""
