"""Executors, caches, prompts and node classes of unknown shapes: what is not understood stays, the report
says what it was, and the rest is done."""

import collections
from unittest import mock

import pytest
from harness.executor import executor_locals, pack
from harness.reports import notes


@pytest.fixture
def case(request, comfy, toys, faults):
    made = faults.Case(comfy, toys, getattr(request, "param", "RAM_PRESSURE"))
    made.calls.append("armed")
    yield made
    made.mend()


def while_we_look(case, faults, change):
    """Arms a change that lasts as long as our node: the executor itself would stumble over it."""
    service = pack("service")
    run = service.run

    def odd(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            change(patch)
            return run(*arguments)

    case.arm(lambda: case.patch.setattr(service, "run", odd))


class Refusing(dict):
    """Has values, but never all of them at once."""

    def values(self):
        raise TypeError("not all at once")

    items = values


def raising(error):
    def call(*_arguments, **_named):
        raise error

    return call


def odd_node(prompt, answer):
    """`get_node` that is odd for a node that has run."""
    original = prompt.get_node

    def get_node(node_id):
        return answer() if node_id == "source" else original(node_id)

    return get_node


SHAPES = {
    "output cache: unknown": lambda el: ("output_cache", object()),
    "output cache: looks like none": lambda el: ("output_cache", mock.Mock(spec=["get_local"])),
    "output cache: refuses": lambda el: ("output_cache.cache_key_set.get_data_key", raising(RuntimeError("no key"))),
    "cache: no dict": lambda el: ("output_cache.cache", collections.UserDict(el.output_cache.cache)),
    "keys: unknown": lambda el: ("output_cache.cache_key_set", object()),
    "subcaches: a list": lambda el: ("output_cache.subcaches", ["odd"]),
    "subcaches: unknown in it": lambda el: ("output_cache.subcaches", {"odd": object()}),
    "subcaches: no dict in it": lambda el: ("output_cache.subcaches", {"odd": mock.Mock(spec=["cache"], cache=[1])}),
    "subcaches: itself": lambda el: ("output_cache.subcaches", {"odd": el.output_cache}),
    "subcaches: None": lambda el: ("output_cache.subcaches", None),
    "execution cache: refuses": lambda el: ("execution_cache", Refusing(el.execution_cache)),
    "execution cache: unknown in it": lambda el: ("execution_cache", dict.fromkeys(el.execution_cache, object())),
    "prompt: get_node raises": lambda el: ("dynprompt.get_node", odd_node(el.dynprompt, raising(KeyError("gone")))),
    "prompt: get_node gives None": lambda el: ("dynprompt.get_node", odd_node(el.dynprompt, lambda: None)),
    "prompt: get_node gives text": lambda el: ("dynprompt.get_node", odd_node(el.dynprompt, lambda: "source")),
    "prompt: ids raise": lambda el: ("dynprompt.all_node_ids", raising(RuntimeError("no ids"))),
    "prompt: ids of two kinds": lambda el: ("dynprompt.all_node_ids", lambda: {1, "sweep"}),
    "prompt: parents raise": lambda el: ("dynprompt.get_parent_node_id", odd_parent(el.dynprompt)),
    "pending: no dict": lambda el: ("pendingNodes", collections.UserDict(el.pendingNodes)),
}


def odd_parent(prompt):
    original = prompt.get_parent_node_id

    def get_parent_node_id(node_id):
        if node_id == "d":
            raise KeyError("no parent")
        return original(node_id)

    return get_parent_node_id


# Nested and flat.
@pytest.mark.parametrize("case", ("CLASSIC", "RAM_PRESSURE"), indirect=True)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_that_nobody_has_seen(case, faults, shape):
    def change(patch):
        el = executor_locals()["execution_list"]
        path, value = SHAPES[shape](el)
        *owners, name = path.split(".")
        for owner in owners:
            el = getattr(el, owner)
        patch.setattr(el, name, value, raising=False)

    while_we_look(case, faults, change)
    report = case.run()
    faults.check_refused(case, report, "executor was not recognised")


def entry_kinds():
    class Raising:
        outputs = property(raising(RuntimeError("no outputs")))
        ui = None

    class Uncountable(list):
        def __len__(self):
            raise RuntimeError("no length")

    from harness.toys import Refuser

    return {
        "object": object(), "number": 5, "text": "entry", "tuple": (1, 2), "dict": {"outputs": 1},
        "refuser": Refuser(), "raising": Raising(), "outputs a tuple": mock.Mock(spec=["outputs"], outputs=((1,),)),
        "outputs a number": mock.Mock(spec=["outputs"], outputs=3),
        "outputs without length": mock.Mock(spec=["outputs"], outputs=Uncountable()),
    }


@pytest.mark.parametrize("kind", (
    "object", "number", "text", "tuple", "dict", "refuser", "raising", "outputs a tuple", "outputs a number",
    "outputs without length",
))
def test_a_cached_entry_of_a_kind_that_nobody_has_seen_stays(case, faults, kind):
    """Entry `a` is not needed any more, so only its kind keeps it."""
    odd, kept = entry_kinds()[kind], []

    def change(patch):
        cache = executor_locals()["caches"].outputs
        key = cache.cache_key_set.get_data_key("a")
        patch.setitem(cache.cache, key, odd)
        undo = patch.undo
        patch.undo = lambda: (kept.append(cache.cache.get(key) is odd), undo())

    while_we_look(case, faults, change)
    report = case.run()
    assert kept == [True]
    said = "\n".join(notes(report) + [f"{row['what']}: {row['because']['kind']}" for row in report["kept"]])
    assert "a ToyApply: unreadable" in said or "executor was not recognised" in said, said
    faults.check_went_on(report)


@pytest.mark.parametrize("answer", ("raises", "None", "a list", "hidden a number", "hidden None"))
def test_a_pending_nodes_class_that_does_not_say_its_inputs(case, faults, toys, answer):
    """It may read any output: what this prompt made stays."""
    answers = {"None": None, "a list": [], "hidden a number": {"hidden": 5}, "hidden None": {"hidden": None}}
    asked = []

    def input_types(cls):
        asked.append(answer)
        return raising(RuntimeError("not now"))() if answer == "raises" else answers[answer]

    case.arm(lambda: case.patch.setattr(toys.TOYS["ToyView"], "INPUT_TYPES", classmethod(input_types)))
    report = case.run()
    assert asked
    assert case.gone == 0
    reasons = {row["because"]["kind"] for row in report["kept"]}
    assert "unreadable_node" in reasons
    assert any("unreadable_node" == row["because"]["kind"] and row["because"]["node"] == "#d ToyView" for row in report["kept"])
    faults.check_went_on(report)


def test_a_pending_nodes_class_that_is_gone(case, faults):
    import nodes

    while_we_look(case, faults, lambda patch: patch.delitem(nodes.NODE_CLASS_MAPPINGS, "ToyView"))
    report = case.run()
    assert case.gone == 0
    assert any(row["because"] == {"kind": "unreadable_node", "node": "#d ToyView"} for row in report["kept"])
