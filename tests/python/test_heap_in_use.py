"""What counts as in use although a traversal, a count or a getter says otherwise; and that asking leaves no trace."""

import ctypes
import gc
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import memsweep
import pytest
from memsweep import _memsweep as heap

KEPT = {}
LARGE = 2 * 2**20


@pytest.fixture(autouse=True)
def _empty():
    KEPT.clear()
    gc.collect()
    yield
    KEPT.clear()


def answer(*names, frames=None):
    return heap.pinned([KEPT[name] for name in names], frames)


# An extension type that keeps a borrowed pointer and reports it. The collector ignores that for objects
# that it does not track, so the mistake never shows.
PEEK = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
typedef struct { PyObject_HEAD PyObject *borrowed; } Peek;
static int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Peek *)self)->borrowed);
    return 0;
}
static int init(PyObject *self, PyObject *arguments, PyObject *keywords) {
    return PyArg_ParseTuple(arguments, "O", &((Peek *)self)->borrowed) ? 0 : -1;
}
static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    type->tp_free(self);
    Py_DECREF(type);
}
static PyType_Slot slots[] = {
    {Py_tp_traverse, traverse}, {Py_tp_init, init}, {Py_tp_dealloc, dealloc}, {0, 0}};
static PyType_Spec spec = {
    "peek.Peek", sizeof(Peek), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "peek", 0, -1, 0};
PyMODINIT_FUNC PyInit_peek(void) {
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddObject(module, "Peek", PyType_FromSpec(&spec));
    return module;
}
"""


@pytest.fixture(scope="module")
def peek(tmp_path_factory):
    headers = Path(sysconfig.get_path("include"))
    if shutil.which("cc") is None or not (headers / "Python.h").exists():
        pytest.skip("needs a C compiler and Python's headers")
    folder = tmp_path_factory.mktemp("peek")
    (folder / "peek.c").write_text(PEEK)
    library = folder / f"peek{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(
        ["cc", "-shared", "-fPIC", f"-I{headers}", str(folder / "peek.c"), "-o", str(library)],
        check=True,
    )
    sys.path.insert(0, str(folder))
    try:
        import peek
    finally:
        sys.path.remove(str(folder))
    return peek


@pytest.mark.parametrize("derived", [False, True])
def test_what_an_unknown_traversal_reports_explains_nothing(peek, derived):
    class Derived(peek.Peek):
        pass

    for name in ("lent", "other"):
        KEPT[name] = bytearray(LARGE)
    KEPT["peek"] = (Derived if derived else peek.Peek)(KEPT["lent"])
    assert answer("other") == [False]
    ready, done = threading.Event(), threading.Event()

    def use():
        lent, other = KEPT["lent"], KEPT["other"]
        ready.set()
        done.wait()
        return lent, other

    thread = threading.Thread(target=use)
    thread.start()
    try:
        ready.wait()
        assert answer("lent", "other") == [True, True]
    finally:
        done.set()
        thread.join()


def count_of(value):
    return ctypes.c_uint32.from_address(id(value))


def test_an_object_that_is_met_more_often_than_it_is_counted_is_in_use():
    KEPT["first"] = KEPT["second"] = bytearray(LARGE)
    assert answer("first") == [False]
    count_of(KEPT["first"]).value -= 1
    try:
        assert answer("first") == [True]
    finally:
        count_of(KEPT["first"]).value += 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no object is immortal")
def test_an_immortal_object_is_in_use_with_what_it_reaches():
    KEPT["bytes"] = bytes(LARGE)
    KEPT["list"] = [bytearray(LARGE)]
    KEPT["inside"] = KEPT["list"][0]
    assert answer("bytes", "list", "inside") == [False] * 3
    counts = [count_of(KEPT["bytes"]), count_of(KEPT["list"])]
    before = [count.value for count in counts]
    for count in counts:
        count.value = 0xC0000000
    try:
        assert answer("bytes", "list", "inside") == [True] * 3
    finally:
        for count, value in zip(counts, before, strict=True):
            count.value = value


@pytest.mark.parametrize("level", ["park", "destroy"])
@pytest.mark.parametrize("place", ["function", "module"])
def test_a_sweep_leaves_the_callers_names_as_they_were(level, place):
    body = (
        "exec('y = 1')\n"
        "a = 1\n"
        "snapshot = locals()\n"
        "a = 2\n"
        f"memsweep.sweep(level={level!r}, parking={{'off': True}})\n"
        "memsweep.park([bytearray(2**21)])\n"
        "kept.append(dict(snapshot))\n"
        "exec('seen.append(y)')\n"
        "seen.append(a)\n"
    )
    if place == "function" and sys.version_info >= (3, 13):
        # What `exec` binds there is forgotten at once, whoever looks at the frame.
        body = body.replace("exec('y = 1')", "y = 1")
    if place == "function":
        body = "def f(seen, kept):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        body += "f(seen, kept)\n"
    seen, kept = [], []
    exec(body, {"memsweep": memsweep, "seen": seen, "kept": kept})
    assert seen == [1, 2]
    # A snapshot is what it was when it was taken; a module's is its own dictionary.
    assert kept[0]["a"] == (1 if place == "function" else 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park")
@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_made_for_the_call_puts_nothing_to_use(container):
    KEPT["bytes"] = bytearray(LARGE)
    report = memsweep.park(container([KEPT["bytes"]])).to_dict()
    outcome = next(row["outcome"] for row in report["rows"] if row["action"]["kind"] == "park")
    if outcome["kind"] == "unsupported":
        pytest.skip(outcome["reason"])
    # Before 3.11 the caller keeps what it passes, and of a tuple another holder would not be seen.
    stays = container is tuple and sys.version_info < (3, 11)
    assert (outcome.get("bytes", 0) + outcome.get("already", 0) == 0) == stays, outcome


def test_variables_of_a_frame_are_read_without_a_trace():
    class Target:
        pass

    def outer(argument, *, keyword=None):
        local, in_cell = Target(), [5]
        unbound = 1
        del unbound

        def inner():
            return in_cell, heap.variables(sys._getframe(1)), heap.variables(sys._getframe())

        return local, inner()

    local, (_, of_outer, of_inner) = outer("a", keyword="k")
    assert of_outer["local"] is local
    assert (of_outer["argument"], of_outer["keyword"], of_outer["in_cell"]) == ("a", "k", [5])
    assert "unbound" not in of_outer
    assert of_inner == {"in_cell": [5]}
    with pytest.raises(TypeError):
        heap.variables(5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can park")
def test_a_park_does_not_hinder_one_on_another_thread(monkeypatch):
    from memsweep.parking import Parking

    KEPT["blocks"] = [bytearray(b"x" * LARGE) for _ in range(20)]
    second = []

    def sweep():
        blocks = KEPT["blocks"]
        rows = memsweep.sweep(level="park").to_dict()["rows"]
        second.append(next(r["outcome"] for r in rows if r["action"]["kind"] == "park"))
        return blocks

    def progress(self, done, total):
        # The first has written and not moved anything yet.
        if done == 0 and threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=sweep)
            thread.start()
            thread.join()

    monkeypatch.setattr(Parking, "progress", progress)

    def first():
        blocks = KEPT["blocks"]
        memsweep.sweep(level="park")
        return blocks

    first()
    assert second[0]["kind"] == "parked", second
    assert second[0]["bytes"] >= 0.9 * 20 * LARGE, second
    assert all(set(block) == {ord("x")} for block in KEPT["blocks"])


def test_a_thread_that_leaves_a_park_while_another_looks_uses_what_it_holds(monkeypatch):
    """An event of the walk lets other threads run; one that waited until then may be computing."""
    from memsweep.parking import Parking

    KEPT.update(mine=bytearray(LARGE), other=bytearray(LARGE))
    inside, leave, left, end = (threading.Event() for _ in range(4))

    def progress(self, done, total):
        if threading.current_thread() is thread:
            inside.set()
            leave.wait(60)

    def work():
        mine = KEPT["mine"]
        memsweep.park([KEPT["other"]])
        left.set()
        end.wait(60)
        return mine

    def hook(name, arguments):
        ours = threading.current_thread() is threading.main_thread()
        if ours and name == "gc.get_objects" and not left.is_set():
            leave.set()
            left.wait(60)

    monkeypatch.setattr(Parking, "progress", progress)
    thread = threading.Thread(target=work)
    thread.start()
    if not inside.wait(30):
        end.set()
        pytest.skip("nothing can be parked here")
    sys.addaudithook(hook)
    try:
        rows = memsweep.park([KEPT["mine"]]).to_dict()["rows"]
    finally:
        end.set()
        thread.join()
    outcome = next(row["outcome"] for row in rows if row["action"]["kind"] == "park")
    assert left.is_set() and outcome["bytes"] == 0, outcome
    assert [row["reason"] for row in outcome["refused"]] == ["in use"]


numpy = pytest.importorskip("numpy")


class Target:
    pass


STRUCTURES = {
    "object": "O",
    "field": [("a", "i4"), ("held", "O"), ("b", "f8")],
    "unaligned": [("a", "i1"), ("held", "O")],
    "title": [(("title", "held"), "O"), ("b", "f8")],
    "nested": [("a", "i1"), ("inner", [("b", "f4"), ("held", "O")])],
    "part": [("a", "i2"), ("held", "O", (2, 3))],
    "nested part": [("inner", [("held", "O"), ("b", "i1")], (2,)), ("other", "O")],
}


def fill(array, made):
    """Puts new objects everywhere."""
    if array.dtype.names:
        for name in array.dtype.names:
            fill(array[name], made)
    elif array.dtype.kind == "O":
        for index in numpy.ndindex(array.shape):
            made.append(Target())
            array[index] = made[-1]


@pytest.mark.parametrize("kind", STRUCTURES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_objects_in_arrays_are_reached_and_counted_wherever_they_lie(kind, shape):
    array = numpy.zeros(shape, dtype=STRUCTURES[kind])
    made = []
    fill(array, made)
    numbers = {id(target) for target in made}
    count = len(made)
    made.clear()
    assert {id(target) for target in heap.reach([array], (Target,))} == numbers
    KEPT["array"] = array
    # Views show the same objects and hold none of them.
    KEPT["views"] = [array[...], array.reshape(-1)[::-1]]
    del array
    found = heap.candidates([], (Target,))
    assert (len(found.hits), found.pinned) == (count, 0)
    del found
    del KEPT["array"]
    found = heap.candidates([], (Target,))
    assert (len(found.hits), found.pinned) == (count, 0)


def test_an_object_held_by_an_array_and_a_thread_is_in_use():
    KEPT["array"] = numpy.array([Target(), None], dtype=object)
    KEPT["view"] = KEPT["array"][:]
    held = KEPT["array"][0]
    assert heap.pinned([held]) == [True]
    assert heap.pinned([held], [sys._getframe()]) == [False]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_large_array_of_records_costs_no_copy_of_them():
    def resident(name):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

    rows = 600_000
    array = numpy.zeros(rows, [("name", "O"), *((f"f{n}", "f8") for n in range(10))])
    array["name"] = "x"
    for n in range(10):
        array[f"f{n}"] = numpy.arange(rows) + 0.5
    KEPT["array"] = array
    heap.candidates([], (Target,))
    # Reset the peak: an earlier test's may have been higher.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    heap.candidates([], (Target,))
    # As Python objects the rows take eight times the array's own size.
    assert resident("VmHWM") - before < 2 * array.nbytes


def test_a_cpp_owner_is_seen_beside_a_view_of_the_array():
    torch = pytest.importorskip("torch")
    KEPT["array"] = numpy.empty(1, object)
    KEPT["array"][0] = torch.ones(2**20)
    KEPT["view"] = KEPT["array"][:]
    assert heap.pinned([KEPT["array"][0]]) == [False]
    capsule = torch.utils.dlpack.to_dlpack(KEPT["array"][0])
    assert heap.pinned([KEPT["array"][0]]) == [True]
    del capsule
    assert heap.pinned([KEPT["array"][0]]) == [False]


def test_a_gradient_stays_with_the_parameter_that_a_graph_holds():
    torch = pytest.importorskip("torch")
    parameter = KEPT["parameter"] = torch.nn.Parameter(torch.ones(2**19))
    parameter.sum().backward()
    KEPT["gradient"] = parameter.grad
    del parameter
    assert answer("parameter", "gradient") == [False, False]
    # What a backward pass holds while it adds to the gradient.
    graph = (KEPT["parameter"] * 2).sum()
    assert answer("parameter", "gradient") == [True, True]
    del graph
