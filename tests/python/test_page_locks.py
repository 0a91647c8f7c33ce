"""Memory that a driver has locked in place is found by its address, in scripted situations.

The drivers are the stand-ins of tests/stand_ins; everything else is the real code.
"""

import pytest
import stand_ins

pytestmark = pytest.mark.skipif(not stand_ins.POSSIBLE, reason=stand_ins.WHY_NOT)

PAGES = 64
# `locked(first, last)` asks after half of the pages of `block` are ready; `lock` sets what is locked.
PRELUDE = f"""
    import ctypes, json, mmap, os, sys
    driver = ctypes.CDLL(os.environ["DRIVER"]) if "DRIVER" in os.environ else None
    from memsweep._memsweep import page_locked
    PAGE = mmap.PAGESIZE
    block = mmap.mmap(-1, {PAGES} * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    def number(name, kind=ctypes.c_ulonglong): return kind.in_dll(driver, name)
    def code(value): number("stand_in_code", ctypes.c_int).value = value
    def lock(first, end):
        number("stand_in_start").value, number("stand_in_end").value = start + first, start + end
        return page_locked(start, {PAGES} * PAGE)
"""


@pytest.fixture(scope="module")
def cuda(tmp_path_factory):
    return stand_ins.build("cuda.c", "libcuda.so.1", tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module")
def rocm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rocm")
    return stand_ins.build("rocm.c", "libhsa-runtime64.so.1", folder)


def test_nothing_is_locked_and_nothing_is_loaded_while_no_driver_is(cuda):
    answer = stand_ins.run(
        PRELUDE + """
    before = open("/proc/self/maps").read().count(".so")
    locked = page_locked(start, 64 * PAGE)
    maps = open("/proc/self/maps").read()
    print(json.dumps([locked, maps.count(".so") - before, "libcuda" in maps]))
    """,
        cuda.parent,
    )
    assert answer == [False, 0, False], "the loader could have found it"


@pytest.mark.parametrize("driver", ("cuda", "rocm"))
def test_a_lock_on_any_part_is_found(driver, request):
    answer = stand_ins.run(
        PRELUDE + """
    code(-1)
    parts = {"nothing": (0, 0), "first page": (0, PAGE), "in the middle": (30 * PAGE, 33 * PAGE),
             "last page": (63 * PAGE, 64 * PAGE), "across pages": (40 * PAGE + 700, 41 * PAGE + 9),
             "the neighbour before": (-PAGE, 0), "the neighbour behind": (64 * PAGE, 65 * PAGE)}
    print(json.dumps([name for name, part in parts.items() if lock(*part)]))
    """,
        DRIVER=request.getfixturevalue(driver),
    )
    assert answer == ["first page", "in the middle", "last page", "across pages"]


def test_a_driver_that_nobody_started_has_locked_nothing_and_is_not_started(cuda):
    answer = stand_ins.run(
        PRELUDE + """
    found = []
    for asleep in (3, 4, 34, 100):
        code(asleep)
        found.append(lock(0, 64 * PAGE))
    print(json.dumps([found, number("stand_in_started", ctypes.c_int).value]))
    """,
        DRIVER=cuda,
    )
    assert answer == [[False] * 4, 0]


@pytest.mark.parametrize("driver", ("cuda", "rocm"))
def test_a_driver_that_gives_no_clear_answer_counts_as_one_that_has_locked_it(driver, request):
    answer = stand_ins.run(
        PRELUDE + """
    found = []
    for unclear in (201, 700, 999):
        code(unclear)
        found.append(lock(0, 0))
    print(json.dumps([found, page_locked(start, 0)]))
    """,
        DRIVER=request.getfixturevalue(driver),
    )
    assert answer == [[True] * 3, False], "of no memory, nothing is locked"


def test_a_driver_without_the_question_counts_too(tmp_path):
    library = stand_ins.build("rocm.c", "libcuda.so.1", tmp_path)
    answer = stand_ins.run(PRELUDE + "\n    print(json.dumps(page_locked(start, PAGE)))", DRIVER=library)
    assert answer is True


def test_a_driver_under_a_longer_name_is_found(tmp_path):
    library = stand_ins.build("cuda.c", "libcuda.so.580.159.04", tmp_path)
    answer = stand_ins.run(PRELUDE + "\n    code(-1)\n    print(json.dumps(lock(0, PAGE)))", DRIVER=library)
    assert answer is True


def test_each_page_is_asked_for_once(cuda):
    answer = stand_ins.run(
        PRELUDE + """
    code(-1)
    lock(0, 0)
    print(json.dumps(number("stand_in_questions", ctypes.c_ulong).value))
    """,
        DRIVER=cuda,
    )
    assert answer == PAGES


TENSORS = PRELUDE + """
    import numpy, torch
    from memsweep import _memsweep
    def is_locked(value):
        [(device, address, size)] = _memsweep.blocks([value])
        return page_locked(address, size)
    def lock_part(value):
        [(device, address, size)] = _memsweep.blocks([value])
        middle = address + size // 2
        number("stand_in_start").value = middle & ~(PAGE - 1)
        number("stand_in_end").value = (middle & ~(PAGE - 1)) + PAGE
    code(-1)
"""


def test_a_tensor_and_an_array_of_which_a_part_is_locked_are_found_by_their_whole_block(cuda):
    pytest.importorskip("torch")
    answer = stand_ins.run(
        TENSORS + """
    tensor, array = torch.zeros(2**20), numpy.zeros(2**20)
    found = []
    for value in (tensor, tensor[-16:], array, array[::2], torch.from_numpy(array)):
        lock_part(value)
        found.append(is_locked(value))
    number("stand_in_end").value = 0
    found += [is_locked(tensor), is_locked(array), torch.cuda.is_initialized()]
    print(json.dumps(found))
    """,
        DRIVER=cuda,
    )
    assert answer == [True] * 5 + [False] * 3


def test_destroy_leaves_a_tensor_of_which_a_part_is_locked(cuda):
    pytest.importorskip("torch")
    answer = stand_ins.run(
        TENSORS + """
    import memsweep
    kept = [torch.ones(2**20)]
    lock_part(kept[0])
    outcome = [row["outcome"] for row in memsweep.sweep(level="destroy").to_dict()["rows"]
               if row["action"]["kind"] == "destroy"][0]
    refused = [(row["because"]["kind"], row["blocks"], row["bytes"]) for row in outcome["refused"]]
    print(json.dumps([refused, float(kept[0].sum())]))
    """,
        DRIVER=cuda,
    )
    assert answer == [[["page_locked", 1, 2**22]], 2.0**20]


def test_park_leaves_what_is_locked_also_when_that_happens_after_it_was_chosen(cuda):
    pytest.importorskip("torch")
    answer = stand_ins.run(
        TENSORS + """
    import memsweep
    from memsweep.parking import Parking
    kept = [torch.ones(2**20)]
    def refused():
        outcome = [row["outcome"] for row in memsweep.park(kept).to_dict()["rows"]
                   if row["action"]["kind"] == "park"][0]
        return [row["because"]["kind"] for row in outcome["refused"]]
    lock_part(kept[0])
    found = [refused()]
    number("stand_in_end").value = 0
    Parking.progress = lambda self, done, total: lock_part(kept[0])
    found.append(refused())
    print(json.dumps([found, float(kept[0].sum())]))
    """,
        DRIVER=cuda,
    )
    assert answer == [[["page_locked_by_driver"]] * 2, 2.0**20]
