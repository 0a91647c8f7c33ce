"""Promise P1 on the server of another ComfyUI version: the one MEMSWEEP_COMFYUI names.

What that version pins differently comes from an overlay in front of PYTHONPATH.  The `matrix` suite
of `cargo xtask test` runs this once for each version; any other run leaves it out.
"""

import urllib.request
from dataclasses import replace
from importlib import metadata

import pytest
from harness.comfy_server import FAST_FLAGS, ComfyServer
from harness.paths import comfyui_tree
from packaging.requirements import Requirement
from test_scenarios import check_prompt
from workflows import OUR_NODES, SCENARIOS, Variation

pytestmark = pytest.mark.matrix

# One workflow for each way of ours to release something, and one that only reads.
CHOSEN = ("own-free-evict", "own-release-model", "own-report", "clean-FH", "clean-B", "free-FH")
# Only a page in a browser reads these, and an overlay leaves them out for their size.
PAGES = ("comfyui-workflow-templates", "comfyui-embedded-docs")


@pytest.fixture(scope="module")
def server():
    with ComfyServer(flags=FAST_FLAGS) as running:
        yield running


def test_the_environment_is_what_this_version_asks_for(server):
    """Without the overlay this fails, and the tests below would be about another program."""
    lines = [line.partition("#")[0].strip() for line in (comfyui_tree() / "requirements.txt").read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line]
    assert len(wanted) > 20
    held = {one.name: version_of(one.name) for one in wanted if one.name not in PAGES}
    wrong = {
        str(one): held[one.name] for one in wanted
        if one.name in held and (held[one.name] is None or held[one.name] not in one.specifier)
    }
    assert wrong == {}

    system = server.get("/system_stats")["system"]
    assert f'"{system["comfyui_version"]}"' in (comfyui_tree() / "comfyui_version.py").read_text()
    assert system["required_frontend_version"] == held["comfyui-frontend-package"]


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def test_the_server_offers_our_nodes_our_front_end_and_its_own(server):
    offered = server.get("/object_info")
    assert set(OUR_NODES) <= set(offered)
    for key, ours in OUR_NODES.items():
        assert len(offered[key]["output"]) >= len(ours.passes), key
    assert any(path.endswith("/memsweep/memsweep.js") for path in server.get("/extensions"))
    assert "<html" in page(server, "/")
    assert "registerExtension" in page(server, "/extensions/memsweep/memsweep.js")


def page(server: ComfyServer, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("name", CHOSEN)
def test_a_workflow_with_our_node_gives_the_image_it_gives_without(server, oracle, name):
    build, first = SCENARIOS[name].build, Variation()
    server.free()
    for step, variation in (("first", first), ("same", first), ("seed", replace(first, seed=2))):
        prompt = build(variation)
        check_prompt(server, oracle, step, prompt, server.run(prompt), passes_ran=step == "first")
    assert server.get("/probe/bystanders")["damaged"] == []
