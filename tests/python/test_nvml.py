"""What a reading makes of NVIDIA's management library, in scripted situations.

The library is the stand-in of tests/stand_ins/nvml.c; everything else is the real code.
"""

import os
import subprocess

import pytest
import stand_ins

pytestmark = pytest.mark.skipif(not stand_ins.POSSIBLE, reason=stand_ins.WHY_NOT)

GIB = 2**30
FIRST, SECOND = "00000000:01:00.0", "00000000:02:00.0"
READ = "import json, memsweep; print(json.dumps(memsweep.reading().to_dict()['devices']))"
IN_THE_MACHINES_NAMESPACE = (
    os.path.exists("/proc/self/ns/pid") and os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"
)
numbered = pytest.mark.skipif(
    not IN_THE_MACHINES_NAMESPACE, reason="in a container our pid in the driver's list is unknown"
)


def card(bus=FIRST, used=10, reserved=1, total=80, number="GPU-aa", name="NVIDIA H100"):
    return f"card {bus} {number} {total * GIB} {reserved * GIB} {used * GIB} {name}\n"


def process(pid, used, bus=FIRST, kind="compute", instance="-", slice_="-"):
    size = used if used == "unknown" else used * GIB
    return f"process {bus} {kind} {pid} {size} {instance} {slice_}\n"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nvml")
    stand_ins.build("nvml.c", "libnvidia-ml.so.1", folder)
    return folder


def drivers_view(row):
    """A row with the driver's numbers beside the description of the card."""
    return {**row.get("driver", {}), **{key: value for key, value in row.items() if key not in ("driver", "torch", "comfyui")}}


@pytest.fixture
def devices(library, tmp_path):
    """The device rows of a reading with this script: what the driver says, without what is unknown."""

    def read(text, script=READ, folder=library, **others):
        path = tmp_path / "script"
        path.write_text(text)
        rows = stand_ins.run(script, folder, NVML_STAND_IN=path, **others)
        return [{key: value for key, value in drivers_view(row).items() if value is not None} for row in rows]

    return read


def test_a_card_and_its_processes_are_told_apart(devices):
    [row] = devices(card() + process(4242, 9))
    assert row == {
        "id": "nvml:0", "name": "NVIDIA H100", "pci": "0000:01:00.0", "uuid": "aa",
        "total": 79 * GIB, "used": 10 * GIB, "source": "nvml",
    }


@numbered
def test_our_share_and_that_of_others_are_what_the_driver_lists(devices):
    [row] = devices(card() + process("self", 3) + process(77, 5) + process("self", 3, kind="graphics"))
    assert (row["process"], row["others"]) == (3 * GIB, 5 * GIB)


def test_without_driver_or_cards_there_are_no_rows(devices):
    assert devices("fail nvmlInit_v2 9\n" + card()) == []
    assert devices("fail nvmlInit_v2 4\n" + card()) == [], "no permission"
    assert devices("") == []


def test_two_cards_are_two_rows(devices):
    rows = devices(card() + card(SECOND, used=20, number="GPU-bb"))
    assert [(row["id"], row["used"]) for row in rows] == [("nvml:0", 10 * GIB), ("nvml:1", 20 * GIB)]


@numbered
@pytest.mark.parametrize("code", (3, 4, 6, 999), ids=("not supported", "no permission", "not found", "other"))
@pytest.mark.parametrize("kind", ("Compute", "Graphics"))
def test_a_failed_list_of_processes_is_not_an_empty_one(devices, kind, code):
    other = "graphics" if kind == "Compute" else "compute"
    script = card() + process("self", 3, kind=other) + process(77, 5, kind=other)
    [row] = devices(f"{script}fail nvmlDeviceGet{kind}RunningProcesses_v3 {code}\n")
    assert row["process"] == 3 * GIB
    assert "others" not in row, "whoever the failed list holds is missing"
    assert row["used"] == 10 * GIB


@numbered
def test_a_list_that_is_longer_than_expected_is_read_whole(devices):
    crowd = "".join(process(100_000 + number, 0) for number in range(500))
    [row] = devices(card() + crowd + process(77, 5) + process("self", 3))
    assert (row["process"], row["others"]) == (3 * GIB, 5 * GIB)


@numbered
def test_windows_display_driver_reports_no_bytes(devices):
    [row] = devices(card() + process("self", "unknown") + process(77, "unknown"))
    assert "process" not in row and "others" not in row
    assert row["used"] == 10 * GIB


@numbered
def test_slices_of_a_card_add_up(devices):
    slices = process("self", 3, instance="7", slice_="0") + process("self", 1, instance="8", slice_="0")
    [row] = devices(card() + slices + process("self", 2, instance="8", slice_="1"))
    assert row["process"] == 6 * GIB


def test_an_older_driver_reports_memory_through_its_older_call(devices, tmp_path):
    stand_ins.build("nvml.c", "libnvidia-ml.so.1", tmp_path, "-DWITHOUT_MEMORY_V2")
    [row] = devices(card(), folder=tmp_path)
    assert (row["total"], row["used"]) == (80 * GIB, 11 * GIB)
    [row] = devices("fail nvmlDeviceGetMemoryInfo_v2 13\n" + card())
    assert (row["total"], row["used"]) == (80 * GIB, 11 * GIB)


def test_memory_that_the_driver_does_not_report_is_unknown(devices):
    [row] = devices("fail nvmlDeviceGetMemoryInfo_v2 3\n" + card(name="NVIDIA GB10"))
    assert "total" not in row and "used" not in row


def test_a_lost_card_has_no_row_and_the_others_stay(devices):
    [row] = devices(card() + card(SECOND, number="GPU-bb") + f"lost {FIRST}\n")
    assert (row["id"], row["pci"]) == ("nvml:1", "0000:02:00.0")


def test_a_card_that_is_pulled_out_between_two_readings_is_not_taken_for_the_next(devices):
    script = """
        import json, os, memsweep
        first = memsweep.reading().to_dict()["devices"]
        with open(os.environ["NVML_STAND_IN"], "w") as file:
            file.write(os.environ["LATER"])
        later = memsweep.reading().to_dict()["devices"]
        print(json.dumps(first + later))
    """
    before = card() + card(SECOND, used=20, number="GPU-bb")
    rows = devices(before, script, LATER=card(SECOND, used=20, number="GPU-bb"))
    assert [row["pci"][5:7] for row in rows] == ["01", "02", "02"]
    rows = devices(before, script, LATER=before + f"lost {SECOND}\n")
    assert [row["pci"][5:7] for row in rows] == ["01", "02", "01"]


def test_a_later_reading_makes_three_calls_per_card(devices, tmp_path):
    calls = tmp_path / "calls"
    script = f"""
        import json, os, memsweep
        memsweep.reading()
        os.truncate({str(calls)!r}, 0)
        memsweep.reading()
        print(json.dumps([{{"calls": open({str(calls)!r}).read().split()}}]))
    """
    [answer] = devices(f"calls {calls}\n" + card() + card(SECOND, number="GPU-bb"), script)
    assert len(answer["calls"]) == 1 + 2 * 3, answer


def test_a_number_of_another_namespace_is_not_ours(library, tmp_path):
    path = tmp_path / "script"
    # "self" is our number in the new namespace. In the driver's list it may be a stranger's.
    path.write_text(card() + process("self", 5) + process(77, 2))
    enter = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    try:
        allowed = subprocess.run([*enter, "true"], capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no namespaces for this user")
    [row] = stand_ins.run(READ, library, enter, NVML_STAND_IN=path)
    assert row["driver"] == {"used": 10 * GIB, "process": None, "others": None}


READ_WITH_TORCH = """
    import json, os
    from memsweep import _memsweep
    class Host:
        def devices(self): return os.environ["ROWS"]
    print(json.dumps(_memsweep.read(Host()).to_dict()["devices"]))
"""


@pytest.mark.parametrize(
    "torch_row",
    (
        '{"id": "cuda:0", "pci": "0000:02:00.0", "driver": {"used": 1}}',
        '{"id": "cuda:0", "uuid": "bb", "name": "NVIDIA H100", "driver": {"used": 1}}',
    ),
    ids=("address", "number only, as older torch"),
)
def test_torch_and_the_driver_describe_one_card(devices, torch_row):
    both = card() + card(SECOND, used=20, number="GPU-BB")
    rows = devices(both, READ_WITH_TORCH, ROWS=f"[{torch_row}]")
    assert [(row["id"], row["used"]) for row in rows] == [("cuda:0", 20 * GIB), ("nvml:0", 10 * GIB)]


def test_a_slice_is_not_shown_beside_its_card(devices):
    slice_ = f'{{"id": "cuda:0", "uuid": "mig-bb", "name": "NVIDIA H100 MIG 1g.10gb", "total": {10 * GIB}, "driver": {{"used": 7}}}}'
    rows = devices(card(), READ_WITH_TORCH, ROWS=f"[{slice_}]")
    assert [(row["id"], row["used"]) for row in rows] == [("cuda:0", 7)]


def test_other_threads_keep_running_while_the_driver_works(devices, tmp_path):
    door, calls = tmp_path / "door", tmp_path / "calls"
    # The driver waits for a file that another thread makes once the call has begun.
    script = f"""
        import json, pathlib, threading, time, memsweep
        def open_the_door():
            calls = pathlib.Path({str(calls)!r})
            while not (calls.exists() and "MemoryInfo" in calls.read_text()):
                time.sleep(0.001)
            pathlib.Path({str(door)!r}).touch()
        helper = threading.Thread(target=open_the_door)
        helper.start()
        rows = memsweep.reading().to_dict()["devices"]
        helper.join()
        print(json.dumps(rows))
    """
    text = f"wait nvmlDeviceGetMemoryInfo_v2 {door}\ncalls {calls}\n" + card()
    [row] = devices(text, script)
    assert row["used"] == 10 * GIB, "the driver gave up waiting"


def test_a_child_forked_while_the_driver_was_asked_does_not_hang(devices, tmp_path):
    door, calls = tmp_path / "door", tmp_path / "calls"
    script = f"""
        import json, os, pathlib, signal, threading, time, memsweep
        reader = threading.Thread(target=memsweep.reading)
        reader.start()
        calls = pathlib.Path({str(calls)!r})
        while not (calls.exists() and "nvmlInit" in calls.read_text()):
            time.sleep(0.001)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(len(memsweep.reading().to_dict()["devices"]))
        _, status = os.waitpid(child, 0)
        pathlib.Path({str(door)!r}).touch()
        reader.join()
        rows = memsweep.reading().to_dict()["devices"]
        print(json.dumps([{{"child": os.waitstatus_to_exitcode(status), "rows": len(rows)}}]))
    """
    text = f"wait nvmlInit_v2 {door}\ncalls {calls}\n" + card()
    assert devices(text, script) == [{"child": 0, "rows": 1}]
