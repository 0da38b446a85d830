"""A stand-in for the Hugging Face hub on this machine: what uploads and downloads of small files ask for."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Hub(ThreadingHTTPServer):
    """Repositories of models and data sets as dictionaries of files; those of "forbidden" accept nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, dict[str, bytes]] = {}

    def sha_of(self, repository: str) -> str:
        content = b"".join(name.encode() + data for name, data in sorted(self.repositories[repository].items()))
        return hashlib.sha1(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        path = self.path.split("?")[0]
        body = self._body()
        if path == "/api/repos/create":
            fields = json.loads(body)
            repository = f"{fields.get('organization') or 'someone'}/{fields['name']}"
            if repository.startswith("forbidden/"):
                self._send(403, {"error": "You have no rights there"})
                return
            self.server.repositories.setdefault(repository, {})
            self._send(200, {"url": f"{self.server.endpoint}/{repository}"})
        elif path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+?)/(preupload|commit)/main", path):
            repository, action = found.groups()
            if action == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self._send(200, {"files": files})
                return
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repositories[repository][line["value"]["path"]] = content
            sha = self.server.sha_of(repository)
            url = f"{self.server.endpoint}/{repository}/commit/{sha}"
            self._send(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})
        else:
            self._send(404, {"error": f"the stand-in has no {path}"})

    def do_GET(self) -> None:
        path = self.path.split("?")[0].replace("/api/datasets/", "/api/models/").removeprefix("/datasets")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.*)?", path):
            repository = found[1]
            files = self.server.repositories.get(repository)
            if files is None:
                self._refuse("RepoNotFound")
                return
            siblings = [{"rfilename": name} for name in files]
            self._send(
                200,
                {"id": repository, "modelId": repository, "sha": self.server.sha_of(repository), "siblings": siblings},
            )
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+(/.*)?", path):
            files = self.server.repositories.get(found[1], {})
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            self._send(200, [] if found[2] else entries)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            repository, name = found.groups()
            files = self.server.repositories.get(repository)
            if files is None or name not in files:
                self._refuse("RepoNotFound" if files is None else "EntryNotFound")
                return
            headers = {
                "ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"',
                "X-Repo-Commit": self.server.sha_of(repository),
            }
            if first_last := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                first, last = map(int, first_last.groups())
                headers["Content-Range"] = f"bytes {first}-{last}/{len(files[name])}"
                self._send(206, files[name][first : last + 1], headers)
                return
            self._send(200, files[name], headers)
        else:
            self._send(404, {"error": f"the stand-in has no {path}"})

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _refuse(self, code: str) -> None:
        self._send(404, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
