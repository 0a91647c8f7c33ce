"""The pack as users get it, on a real server: the registry's archive, and a clone.

The `archive` suite of `cargo xtask test` runs this on the newest and on the oldest ComfyUI; any
other run leaves it out.
"""

import functools
import json
import urllib.request
import zipfile
from pathlib import PurePosixPath

import pytest
from harness import installed
from harness.comfy_server import ComfyServer
from harness.paths import REPOSITORY
from harness.saved_workflow import to_prompt
from test_scenarios import check_prompt
from workflows import OUR_NODES, bypass

pytestmark = pytest.mark.archive

EXAMPLES = sorted(file.stem for file in (REPOSITORY / "example_workflows").glob("*.json"))

# ComfyUI reads `locales` of a pack; we have none yet.
SHIPPED_FOLDERS = {"comfyui", "example_workflows", "locales"}
SHIPPED_FILES = {"__init__.py", "requirements.txt", "pyproject.toml", "README.md", "CHANGELOG.md"}
KINDS = {".py", ".js", ".md", ".json", ".toml", ".txt", ""}
NEVER = {"test", "tests", "fixtures", "src", "scripts", "node_modules", "__pycache__", "target"}

WAYS = {
    "archive": {"is_packed": True, "has_wheel": True},
    "archive-without-the-wheel": {"is_packed": True, "has_wheel": False},
    "clone": {"is_packed": False, "has_wheel": True},
}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "memsweep"
    installed.clone(folder)
    return folder


@pytest.fixture(scope="session")
def archive(checkout):
    return installed.pack(checkout)


@pytest.fixture(scope="module", params=WAYS)
def server(request, archive):
    way = WAYS[request.param]
    place = functools.partial(installed.unpack, archive) if way["is_packed"] else installed.clone
    with installed.InstalledServer(place, way["has_wheel"]) as running:
        yield running


@pytest.fixture(scope="session")
def held(archive):
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def test_the_archive_is_the_pack_and_the_papers_of_the_project(held, checkout):
    """Derived from what git tracks, so that a new file of either kind is noticed."""

    def belongs(path: str) -> bool:
        return path.split("/")[0] in SHIPPED_FOLDERS or path in SHIPPED_FILES or path.startswith("LICENSE-")

    assert held == {path for path in installed.tracked(checkout) if belongs(path)}
    assert held >= SHIPPED_FILES


def test_the_archive_has_the_front_end_its_help_the_examples_and_no_source(held):
    assert "comfyui/web/memsweep.js" in held
    assert {f"comfyui/web/docs/{key}.md" for key in OUR_NODES} <= held
    assert {f"example_workflows/{name}.json" for name in EXAMPLES} <= held
    paths = [PurePosixPath(name) for name in held]
    assert [path for path in paths if path.suffix not in KINDS or NEVER & set(path.parts)] == []
    assert [path for path in paths if path.name.startswith(("test_", "."))] == []


def test_the_server_offers_the_nodes_the_front_end_the_help_and_the_examples(server):
    assert not server.pack.is_symlink()
    assert set(OUR_NODES) <= set(server.get("/object_info"))
    assert "/extensions/memsweep/memsweep.js" in server.get("/extensions")
    assert "registerExtension" in text(server, "/extensions/memsweep/memsweep.js")
    for key in OUR_NODES:
        assert text(server, f"/extensions/memsweep/docs/{key}.md").startswith("#"), key
    assert sorted(server.get("/workflow_templates")["memsweep"]) == EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_gives_the_image_it_gives_without_our_nodes(server, oracle, example):
    workflow = json.loads(text(server, f"/api/workflow_templates/memsweep/{example}.json"))
    prompt = shrunk(to_prompt(workflow, server.get("/object_info")))
    ours = [number for number, node in prompt.items() if node["class_type"] in OUR_NODES]
    assert ours
    server.free()
    result = server.run(prompt)
    if server.has_wheel:
        check_prompt(server, oracle, example, prompt, result, passes_ran=True)
        file = server.get("/probe/origin/memsweep")["file"]
        assert file == str(server.library / "memsweep" / "__init__.py")
        return
    assert result.ok, f"{result.error}\n{server.log_tail()}"
    assert result.image_hashes == oracle.hashes(bypass(prompt))
    for number in ours:
        answer = result.outputs[number]["memsweep"][0]
        assert answer["report"] is None
        assert answer["text"].startswith("MemSweep freed nothing: its native module is not installed")
        assert "pip install -r requirements.txt" in answer["text"]
    assert server.get("/probe/origin/memsweep")["file"] is None


def shrunk(prompt: dict) -> dict:
    """Examples are made for a graphics card, and a step takes a CPU twenty seconds: fewer and smaller ones here."""
    small = {"EmptyLatentImage": {"width": 64, "height": 64}, "KSampler": {"steps": 2}}
    for node in prompt.values():
        node["inputs"].update(small.get(node["class_type"], {}))
    return prompt


def text(server: ComfyServer, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
        return answer.read().decode()
