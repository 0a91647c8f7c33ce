"""Memory that the real driver has locked in place, found by its address."""

import json

import pytest

PRELUDE = """
    import ctypes, json, threading, torch
    from memsweep._memsweep import page_locked
    PAGE = 4096
    block = torch.zeros(64 * PAGE, dtype=torch.uint8)
    base = -(-block.data_ptr() // PAGE) * PAGE
    whole = (base, 60 * PAGE)
"""


def test_before_a_device_is_in_use_nothing_is_locked_and_asking_starts_none(in_fresh_process):
    printed = in_fresh_process(PRELUDE + """
    answer = page_locked(*whole)
    print(json.dumps([answer, torch.cuda.is_initialized(), torch._C._cuda_hasPrimaryContext(0)]))
    """)
    assert json.loads(printed) == [False, False, False]


@pytest.mark.parametrize("first", (0, 30, 59))
def test_a_page_that_the_driver_locked_is_found_in_every_thread(in_fresh_process, first):
    printed = in_fresh_process(PRELUDE + f"""
    torch.cuda.init()
    torch.zeros(1, device="cuda")
    runtime = torch.cuda.cudart()
    found = [page_locked(*whole)]
    thread = threading.Thread(target=lambda: found.append(page_locked(*whole)))
    thread.start(); thread.join()
    assert int(runtime.cudaHostRegister(base + {first} * PAGE, PAGE, 0)) == 0
    found.append(page_locked(*whole))
    thread = threading.Thread(target=lambda: found.append(page_locked(*whole)))
    thread.start(); thread.join()
    assert int(runtime.cudaHostUnregister(base + {first} * PAGE)) == 0
    found.append(page_locked(*whole))
    print(json.dumps(found))
    """)
    assert json.loads(printed) == [False, False, True, True, False]


def test_torchs_own_pinned_memory_is_found(in_fresh_process):
    printed = in_fresh_process("""
    import json, torch
    from memsweep import _memsweep
    pinned = torch.zeros(2**20).pin_memory()
    blocks = _memsweep.blocks([pinned, pinned[7:], torch.zeros(2**20)])
    print(json.dumps([_memsweep.page_locked(address, size) for _, address, size in blocks]))
    """)
    assert json.loads(printed) == [True, True, False]
