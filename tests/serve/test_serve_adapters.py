"""Adapters that come and go while the server runs: by whom, from where, and what they are held to."""

import hashlib
import json
import shutil
from pathlib import Path

import openai
import pytest

NAME = "ft-for-travel"
TOKEN = "the-administrators-token"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def place(release, tmp_path):
    """A folder for adapters: in it "team/more", a release of one adapter for the same model, without the model."""
    folder = tmp_path / "adapters"
    more = folder / "team/more"
    more.mkdir(parents=True)
    shutil.copytree(release / "adapters", more / "adapters")
    (more / "adapters/cooking.onnx_adapter").unlink()
    (more / "adapters/travel.onnx_adapter").rename(more / "adapters/tours.onnx_adapter")
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["adapters"] = ["tours"]
    del manifest["files"]["adapters/cooking.onnx_adapter"]
    manifest["files"]["adapters/tours.onnx_adapter"] = manifest["files"].pop("adapters/travel.onnx_adapter")
    (more / "manifest.json").write_text(json.dumps(manifest))
    return folder


def change(more: Path, **files: bytes) -> None:
    """Write a file of the adapter's folder anew, its manifest with it."""
    for name, data in files.items():
        path = more / "adapters" / f"{name}.onnx_adapter"
        path.write_bytes(data)
        manifest = json.loads((more / "manifest.json").read_text())
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["files"][f"adapters/{path.name}"] = {**manifest["files"].get(f"adapters/{path.name}", {}), **entry}
        (more / "manifest.json").write_text(json.dumps(manifest))


def test_an_adapter_comes_answers_and_goes(release, place, serving, answers):
    with (
        serving("--folder", release, "--graph", "portable", "--adapter-folder", place, admin=TOKEN) as server,
        server.http(headers=ADMIN) as http,
    ):
        expected = next(answer for answer in answers if answer["adapter"] == "travel")
        asked = {"messages": [{"role": "user", "content": expected["prompt"]}], "max_tokens": 64}

        def said(model: str) -> str:
            return server.client().chat.completions.create(model=model, **asked).choices[0].message.content

        with pytest.raises(openai.NotFoundError):
            said(f"{NAME}:tours")
        found = http.post("/admin/adapters", json={"name": "tours", "folder": "team/more"})
        assert found.status_code == 201, found.text
        assert found.json()["model"] == f"{NAME}:tours"
        assert said(f"{NAME}:tours") == said(f"{NAME}:travel") == expected["text"]
        assert f"{NAME}:tours" in [one.id for one in server.client().models.list()]
        assert http.post("/admin/adapters", json={"name": "tours", "folder": "team/more"}).status_code == 409
        listed = {one["name"]: one for one in http.get("/admin/adapters").json()["data"]}
        assert listed.keys() == {"travel", "cooking", "tours"}
        assert listed["tours"]["sha256"] == listed["travel"]["sha256"]
        # one that is in use goes on to its end
        stream = server.client().chat.completions.create(model=f"{NAME}:tours", **asked, stream=True)
        pieces = [next(stream).choices[0].delta.content]
        assert http.delete("/admin/adapters/tours").status_code == 200
        pieces += [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(pieces) == expected["text"]
        with pytest.raises(openai.NotFoundError):
            said(f"{NAME}:tours")
        assert http.delete("/admin/adapters/tours").status_code == 404
        assert http.delete("/admin/adapters/cooking").status_code == 200
        with pytest.raises(openai.NotFoundError):
            said(f"{NAME}:cooking")
        assert http.post("/admin/adapters", json={"name": "tours", "folder": "team/more"}).status_code == 201


def test_what_is_no_adapter_of_this_model_is_refused(release, place, serving, tmp_path):
    more = place / "team/more"
    good = (more / "adapters/tours.onnx_adapter").read_bytes()
    shutil.copytree(release, tmp_path / "outside")
    (place / "link").symlink_to(tmp_path / "outside")
    with (
        serving("--folder", release, "--adapter-folder", place, admin=TOKEN) as server,
        server.http(headers=ADMIN) as http,
    ):

        def refused(folder: str, name: str = "tours") -> str:
            found = http.post("/admin/adapters", json={"name": name, "folder": folder})
            assert found.status_code == 400, found.text
            assert str(place) not in found.text
            return found.json()["error"]["message"]

        outside = ("../outside", str(tmp_path / "outside"), "link", ".", "", "nowhere", "x" * 999, "a\0b")
        for folder in outside:
            assert "no folder below the one for adapters" in refused(folder, "travel"), folder
        assert "no adapter 'other'" in refused("team/more", "other")
        assert "no adapter '../x'" in refused("team/more", "../x")
        (more / "adapters/tours.onnx_adapter").write_bytes(good[:-1] + b"x")
        assert "its SHA-256 is" in refused("team/more")
        change(more, tours=b"no adapter at all")
        assert "is no adapter of this model" in refused("team/more")
        change(more, tours=good)
        (more / "adapters/surplus.onnx_adapter").write_bytes(good)
        assert "not in manifest.json" in refused("team/more")
        (more / "adapters/surplus.onnx_adapter").unlink()
        manifest = json.loads((more / "manifest.json").read_text())
        other = json.loads(json.dumps(manifest))
        other["files"]["model/model.onnx.data"]["sha256"] = "0" * 64
        (more / "manifest.json").write_text(json.dumps(other))
        assert "is for another model" in refused("team/more")
        (more / "manifest.json").write_text("{")
        assert "is no manifest" in refused("team/more")
        (more / "manifest.json").write_text(json.dumps(manifest))
        assert http.post("/admin/adapters", json={"name": "tours", "folder": "team/more"}).status_code == 201


def test_only_the_administrator_may(release, place, serving, tmp_path):
    token, keys = tmp_path / "token", tmp_path / "keys"
    token.write_text(f"{TOKEN}\n")
    keys.write_text("a-key-of-an-ordinary-client\n")
    options = ("--folder", release, "--adapter-folder", place, "--api-keys", keys, "--admin-token-file", token)
    with serving(*options) as server:
        for header in ({}, {"Authorization": "Bearer a-key-of-an-ordinary-client"}, {"Authorization": TOKEN}):
            with server.http(headers=header) as http:
                assert http.get("/admin/adapters").status_code == 401
                assert http.post("/admin/adapters", json={"name": "x", "folder": "y"}).status_code == 401
                assert http.delete("/admin/adapters/travel").status_code == 401
        with server.http(headers=ADMIN) as http:
            assert len(http.get("/admin/adapters").json()["data"]) == 2
            assert http.get("/v1/models").status_code == 401
        assert TOKEN not in server.said
