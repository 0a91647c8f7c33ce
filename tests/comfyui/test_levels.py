"""How far the sweep of each node goes, by what its widgets say."""

import pytest
from harness.executor import pack

CASES = (
    ("FreeMemoryImage", {"aggressive": False}, "collect"),
    ("FreeMemoryImage", {"aggressive": True}, "evict"),
    ("FreeMemoryString", {"aggressive": 1}, "evict"),
    ("FreeMemoryString", {}, "collect"),
    ("CleanMemory_PurgePass", {"mode": "VRAM"}, "unload"),
    ("CleanMemory_PurgePass", {"mode": "RAM"}, "park"),
    ("CleanMemory_PurgePassMultiInput", {"mode": "VRAM"}, "unload"),
    # Saved before there was a widget.
    ("CleanMemory_PurgePassMultiInput", {}, "park"),
    ("CleanMemory_PurgeAll", {}, "park"),
    ("CleanMemory_PurgeAll", {"leftovers": "park"}, "park"),
    ("CleanMemory_PurgeAll", {"leftovers": "destroy"}, "destroy"),
    ("CleanMemory_PurgeVRAM", {}, "unload"),
    ("CleanMemory_PurgeRAM", {}, "park"),
    ("CleanMemory_PurgeRAMProtectedMulti", {}, "park"),
    ("MemSweepReleaseModel", {}, "evict"),
    ("MemSweepReport", {}, "trim"),
    # Another widget of this name decides nothing.
    ("CleanMemory_PurgeVRAM", {"level": "park", "mode": "RAM", "aggressive": True}, "unload"),
    *(("MemSweepFree", {"level": level}, level) for level in ("trim", "collect", "unload", "evict", "park")),
)


@pytest.fixture
def specs(comfy):
    return {spec.key: spec for spec in pack("spec").SPECS}


@pytest.mark.parametrize(("key", "widgets", "level"), CASES)
def test_a_node_asks_for_the_level_that_its_widgets_say(specs, key, widgets, level):
    assert specs[key].level_for(widgets) == level


def test_every_node_has_its_row(specs):
    import nodes

    ours = pack("nodes").__name__.removesuffix(".comfyui.nodes")
    offered = {key for key, node in nodes.NODE_CLASS_MAPPINGS.items() if node.__module__.startswith(ours)}
    assert offered == set(specs)


def test_every_value_that_a_widget_offers_has_its_level(specs):
    decided = {key: spec for key, spec in specs.items() if not isinstance(spec.level, str)}
    assert len(decided) == 9
    for key, spec in decided.items():
        kind, options = {**spec.widgets, **spec.optional_widgets}[spec.level.name]
        offered = [False, True] if kind == "BOOLEAN" else kind
        assert list(spec.level.levels) == list(offered), key
        assert spec.level.absent == options["default"], key


def test_a_value_that_no_widget_offers_is_handed_on_and_refused(comfy, specs, toys):
    from memsweep import hosting

    assert specs["MemSweepFree"].level_for({"level": "everything"}) == "everything"
    with pytest.raises(ValueError, match="everything"):
        hosting.policy_of({"level": "everything"})
