"""The pack's folder is called like the library, and is where Python looks first.

Some packs put `custom_nodes` on `sys.path`. `import memsweep` then finds the folder and not the
library, and the nodes must find the library all the same. Each test is a Python of its own.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from extent import first, thorough
from harness.paths import REPOSITORY, comfyui_tree

HARNESS = REPOSITORY / "tests" / "comfyui"
FREED_NOTHING = "MemSweep freed nothing: its native module is not installed"

RUN = """
import sys
sys.path[:0] = [{harness!r}]
from harness import executor
executor.boot()
import asyncio, nodes
assert asyncio.run(nodes.load_custom_node({folder!r}))
sys.path.insert(0, {parent!r})
from workflows import node
{before}
runner = executor.Runner("CLASSIC")
result = runner.run({{
    "source": node("ToySource", label="source", seed=1),
    "sweep": node("CleanMemory_PurgeRAM", anything=["source", 0]),
}})
assert result.ok, result.error
print(result.text("sweep"))
{after}
"""


# Without ComfyUI: only what finds the library, under a name as ComfyUI gives it.
ASK = """
import importlib.util, sys
sys.path.insert(0, {parent!r})
spec = importlib.util.spec_from_file_location("pack_x_library", {folder!r} + "/comfyui/library.py")
library = importlib.util.module_from_spec(spec)
spec.loader.exec_module(library)
{before}
try:
    print(library.hosting().sweep().summary and "C heap")
except ImportError as error:
    print({freed_nothing!r}, error)
{after}
"""


@pytest.fixture
def folder(tmp_path):
    """custom_nodes/memsweep, with the pack in it."""
    parent = tmp_path / "custom_nodes"
    parent.mkdir()
    (parent / "memsweep").symlink_to(REPOSITORY)
    return parent / "memsweep"


def run(
    folder: Path, before: str = "", after: str = "", parent: Path | None = None, program: str = ASK
) -> str:
    script = program.format(
        freed_nothing=FREED_NOTHING, harness=str(HARNESS), folder=str(folder), parent=str(parent or folder.parent),
        before=textwrap.dedent(before), after=textwrap.dedent(after),
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300,
        env={**os.environ, "MEMSWEEP_COMFYUI": str(comfyui_tree())},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_swept(text: str) -> None:
    assert FREED_NOTHING not in text
    assert "C heap" in text, text


def test_the_pack_folder_on_the_path_does_not_hide_the_library(folder):
    check_swept(run(folder, program=RUN, after="""
        import memsweep
        assert memsweep.sweep(level="trim").to_dict()["level"] == "trim"
        assert memsweep.DestroyedError.__module__ == "memsweep.destroying"
    """))


@thorough
def test_nor_does_it_when_somebody_has_imported_it_by_that_name(folder):
    """What was imported stays what it is, for whoever holds it, and is the library as well."""
    check_swept(run(folder, program=RUN, before="""
        import memsweep
        theirs, classes = memsweep, memsweep.NODE_CLASS_MAPPINGS
        exported = memsweep.__all__
        assert not hasattr(memsweep, "sweep")
    """, after="""
        import memsweep, memsweep.comfyui
        assert memsweep is theirs and memsweep.NODE_CLASS_MAPPINGS is classes
        assert memsweep.__all__ is exported
        assert memsweep.reading().process_resident
    """))


@pytest.mark.parametrize("before", ("", "import memsweep; assert memsweep.__file__ is None"))
def test_a_folder_of_that_name_without_an_init_file_hides_nothing(tmp_path, folder, before):
    """Python prefers any package with one, unless the name was taken before the library's folder
    was on the path."""
    empty = tmp_path / "elsewhere"
    (empty / "memsweep" / "models").mkdir(parents=True)
    library = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    hide = f"""
        hidden = [entry for entry in sys.path if (entry in {library!r}) or "site-packages" in entry]
        kept = sys.path[:]
        sys.path[:] = [{str(empty)!r}, *(entry for entry in sys.path if entry not in hidden)]
        sys.path[:] = [entry for entry in sys.path if entry != {str(folder.parent)!r}]
        {before}
        sys.path[:] = [{str(empty)!r}, *kept]
    """
    hide = textwrap.dedent(hide)
    check_swept(run(folder, before=hide, parent=empty, after="""
        import memsweep
        assert memsweep.reading().process_resident
    """))


WITHOUT = """
    # As in a Python that never had it: nothing on the path holds the native module.
    from importlib.machinery import PathFinder
    find = PathFinder.find_spec
    def blind(name, path=None, target=None):
        return None if name == "memsweep._memsweep" else find(name, path, target)
    PathFinder.find_spec = blind
"""


@pytest.mark.parametrize("taken", first(1, ("", "import memsweep")))
def test_without_the_library_the_nodes_say_so_and_pass_their_data(folder, taken):
    program = ASK if taken else RUN
    text = run(folder, before=textwrap.dedent(WITHOUT) + taken, program=program)
    assert FREED_NOTHING in text
    assert "No module named 'memsweep._memsweep'" in text


def test_a_library_that_is_older_than_the_pack_is_named_as_such(folder):
    text = run(folder, before="""
        ours = sys.path.pop(0)
        import memsweep.hosting
        del memsweep.hosting.variables
        sys.path.insert(0, ours)
    """)
    assert FREED_NOTHING in text
    assert "the installed memsweep is older than this pack: upgrade it" in text


def test_a_library_that_cannot_be_loaded_leaves_what_had_the_name_as_it_was(folder, tmp_path):
    broken = tmp_path / "broken" / "memsweep"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("half = 1\nfrom memsweep._memsweep import Reading\n")
    (broken / "_memsweep.abi3.so").write_bytes(b"no module")
    (broken / "_memsweep.pyd").write_bytes(b"no module")
    text = run(folder, before=f"""
        import memsweep
        before = dict(vars(memsweep))
        sys.path.insert(0, {str(broken.parent)!r})
    """, after="""
        assert dict(vars(memsweep)) == before
    """)
    assert FREED_NOTHING in text


def test_somebody_elses_module_of_that_name_is_theirs(folder, tmp_path):
    (tmp_path / "memsweep.py").write_text("mine = 1\n")
    text = run(folder, before=f"sys.path.insert(0, {str(tmp_path)!r})", after="""
        import memsweep
        assert memsweep.mine == 1
    """)
    assert FREED_NOTHING in text
