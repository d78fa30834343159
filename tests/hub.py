"""A stand-in of a model hub: its HTTP interface on the loopback, for writing and reading files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = ".safetensors"
"""Files of this name are large: they are sent on their own (LFS), and a commit names them."""
Files = dict[str, dict[str, bytes]]


class Hub(BaseHTTPRequestHandler):
    """What the hub answers to the calls that reading and writing files make."""

    files: Files
    large: dict[str, bytes]
    refuses = False

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_POST(self) -> None:
        body = self._body()
        if self.refuses:
            self._answer(403, b"{}", X_Error_Message="no permission to write")
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'user')}/{asked['name']}"
            self.files.setdefault(name, {})
            self._json({"url": f"https://huggingface.co/{name}"})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._json({"files": [_how(one["path"]) for one in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._upload(one) for one in objects]})
        else:
            name = "/".join(self.path.split("/")[3:5])
            lines = [json.loads(line) for line in body.splitlines() if line]
            self._commit(self.files[name], lines)
            url = f"https://huggingface.co/{name}/commit/{COMMIT}"
            self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where a large file is to be sent."""
        href = f"http://{self.headers['Host']}/large/{asked['oid']}"
        return {**asked, "actions": {"upload": {"href": href}}}

    def _commit(self, files: dict[str, bytes], lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]

    def do_PUT(self) -> None:
        body, named = self._body(), self.path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != named:
            self._answer(400)
            return
        self.large[named] = body
        self._answer(200)

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "api":
            self._json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": []})
            return
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        if name not in self.files:
            self._answer(404, X_Error_Code="RepoNotFound")
        elif file not in self.files[name]:
            self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            content = self.files[name][file]
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            headers = {"ETag": tag, "X_Repo_Commit": COMMIT, "X_Linked_ETag": tag}
            self._answer(200, content, **headers)

    do_HEAD = do_GET


def _how(path: str) -> dict[str, Any]:
    """How a file is to be sent."""
    mode = "lfs" if path.endswith(LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


@contextmanager
def serve() -> Iterator[tuple[str, type[Hub]]]:
    """Address of an empty hub, and what answers there."""
    answers = type("Answers", (Hub,), {"files": {}, "large": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", answers
    finally:
        server.shutdown()
        server.server_close()
