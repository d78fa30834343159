"""Plans on a hub: against a stand-in of its HTTP interface on the loopback."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = dict[str, dict[str, bytes]]


class _Hub(BaseHTTPRequestHandler):
    """What the hub answers to the calls that reading and writing one small file make."""

    files: Files
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

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuses:
            self._answer(403, b"{}", X_Error_Message="no permission to write")
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'user')}/{asked['name']}"
            self.files.setdefault(name, {})
            self._json({"url": f"https://huggingface.co/{name}"})
        elif "/preupload/" in self.path:
            given = json.loads(body)["files"]
            self._json(
                {
                    "files": [
                        {
                            "path": one["path"],
                            "uploadMode": "regular",
                            "shouldIgnore": False,
                            "oid": None,
                        }
                        for one in given
                    ]
                }
            )
        else:
            name = "/".join(self.path.split("/")[3:5])
            lines = [json.loads(line) for line in body.splitlines() if line]
            for line in (line for line in lines if line["key"] == "file"):
                self.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"https://huggingface.co/{name}/commit/{COMMIT}"
            self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

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
            headers = {"ETag": '"1"', "X_Repo_Commit": COMMIT, "X_Linked_ETag": '"1"'}
            self._answer(200, self.files[name][file], **headers)

    do_HEAD = do_GET


@pytest.fixture
def hub() -> Iterator[tuple[str, type[_Hub]]]:
    """Address of an empty hub, and what answers there."""

    answers = type("Answers", (_Hub,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


def _python(code: str, address: str, folder: Path, **environment: str) -> str:
    """What a line of Python prints, with that hub: its address is read when it is imported."""
    set_up = {"HF_ENDPOINT": address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_token"}
    done = subprocess.run(
        [sys.executable, "-c", f"from terratorch_simpler import PruningPlan\n{code}"],
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | set_up | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + (done.stderr.strip().splitlines() or [""])[-1]


def test_a_plan_comes_back_as_it_was_pushed(
    hub: tuple[str, type[_Hub]], make_plan: MakePlan, tmp_path: Path
) -> None:
    address, answers = hub
    plan = make_plan(4)
    plan.save(tmp_path / "plan.json")
    push = f"print(PruningPlan.load(r'{tmp_path / 'plan.json'}').push_to_hub('user/plans'))"
    assert COMMIT in _python(push, address, tmp_path)
    assert answers.files == {"user/plans": {"plan.json": plan.to_json().encode()}}
    back = _python("print(PruningPlan.from_hub('user/plans').to_json())", address, tmp_path)
    assert PruningPlan.from_json(back, "the hub") == plan
    # The cache holds it where the hub is gone.
    code = "print(PruningPlan.from_hub('user/plans').depth)"
    assert "4" in _python(code, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    # It is not replaced unasked.
    assert "overwrite=True" in _python(push, address, tmp_path)
    again = push.replace("'user/plans'", "'user/plans', overwrite=True")
    assert COMMIT in _python(again, address, tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("PruningPlan.from_hub('user/none')", "there is no plan.json in user/none"),
        ("PruningPlan.from_hub('user/plans', filename='x.json')", "there is no x.json"),
        ("PruningPlan.from_hub('a/b/c')", "'a/b/c' is no name of a repository: give user/name"),
        ("PruningPlan.from_hub('user/odd')", "plan.json of user/odd is not a plan"),
    ],
)
def test_what_is_not_there_is_said(
    hub: tuple[str, type[_Hub]], tmp_path: Path, code: str, message: str
) -> None:
    address, answers = hub
    answers.files |= {"user/plans": {}, "user/odd": {"plan.json": b"{}"}}
    assert message in _python(code, address, tmp_path)


def test_a_hub_that_cannot_be_reached_or_refuses_is_said(
    hub: tuple[str, type[_Hub]], make_plan: MakePlan, tmp_path: Path
) -> None:
    address, answers = hub
    code = "PruningPlan.from_hub('user/plans')"
    said = _python(code, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert "not in the hub's cache, and the hub cannot be reached" in said
    make_plan(4).save(tmp_path / "plan.json")
    answers.refuses = True
    push = f"PruningPlan.load(r'{tmp_path / 'plan.json'}').push_to_hub('user/plans')"
    assert "the hub refuses to write to user/plans" in _python(push, address, tmp_path)
    assert answers.files == {}
