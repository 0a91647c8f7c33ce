"""Settings for parking, from the environment and from calls: understood, or refused in clear words."""

import collections
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import memsweep
import pytest
from memsweep.parking import VARIABLES, settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("word", ["off", "0", "false", "no", "disable", "Disabled", " OFF ", "none", "never"])
def test_every_word_for_off_switches_parking_off(monkeypatch, word):
    monkeypatch.setenv("MEMSWEEP_PARK", word)
    assert settings() == {"off": True}
    report = memsweep.sweep(level="park").to_dict()
    assert report["level"] == "evict"


@pytest.mark.parametrize("word", ["on", "1", "TRUE", "yes", "enable", "enabled"])
def test_every_word_for_on_leaves_it_on(monkeypatch, word):
    monkeypatch.setenv("MEMSWEEP_PARK", word)
    assert settings() == {"off": False}


def test_settings_may_be_any_mapping_of_any_numbers():
    numpy = pytest.importorskip("numpy")
    parking = types.MappingProxyType({"bytes": numpy.int64(2**20), "seconds": numpy.float32(1), "off": numpy.bool_(True)})
    goal = collections.UserDict(ram_available=numpy.int64(1))
    assert memsweep.sweep(level="collect", goal=goal, parking=parking, dry_run=True)
    with pytest.raises(ValueError, match="set is neither"):
        memsweep.sweep(level="collect", goal={"ram_available": {1}})


@pytest.mark.parametrize("word", ["offf", "disable it", "2", "-1", "y\n", "of\x1b[31mf", "\u0660", "x" * 5000, "\udcff"])
def test_an_unknown_word_is_refused_and_the_known_ones_are_named(monkeypatch, word):
    monkeypatch.setitem(os.environ, "MEMSWEEP_PARK", word)
    with pytest.raises(ValueError, match="MEMSWEEP_PARK is .*disable.*enable") as refused:
        settings()
    assert str(refused.value).isascii() and str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "number",
    ["1_000", "\uff11\uff10", "\u0661", "nan", "inf", "-1", "+1", "1e9", "1.5", "0x10", "9" * 20, "9" * 5000, "4 GiB", "\udc80"],
)
def test_bytes_are_plain_digits(monkeypatch, number):
    monkeypatch.setitem(os.environ, "MEMSWEEP_PARK_BYTES", number)
    with pytest.raises(ValueError, match="MEMSWEEP_PARK_BYTES is .* whole number of bytes"):
        settings()


@pytest.mark.parametrize("number", ["nan", "inf", "-0.5", "1_0", "1e3", ".", "\u0665", "9" * 400, "60 s"])
def test_seconds_are_plain_digits(monkeypatch, number):
    monkeypatch.setenv("MEMSWEEP_PARK_SECONDS", number)
    with pytest.raises(ValueError, match="MEMSWEEP_PARK_SECONDS is .* number of seconds"):
        settings()


def test_valid_numbers_arrive(monkeypatch):
    monkeypatch.setenv("MEMSWEEP_PARK_BYTES", " 9999999999999999999 ")
    monkeypatch.setenv("MEMSWEEP_PARK_SECONDS", "0.25")
    assert settings() == {"bytes": 9999999999999999999, "seconds": 0.25}
    memsweep.park([bytearray(10)])


def test_what_a_call_gives_wins_over_a_setting_that_is_wrong(monkeypatch):
    monkeypatch.setenv("MEMSWEEP_PARK", "perhaps")
    monkeypatch.setenv("MEMSWEEP_PARK_BYTES", "many")
    assert settings({"off": False, "bytes": 5}) == {"off": False, "bytes": 5}
    assert settings({"off": True}) == {"off": True}


def test_a_folder_may_be_any_path_whose_name_is_text(tmp_path):
    for folder in (tmp_path, str(tmp_path), os.fsencode(tmp_path)):
        assert settings({"folder": folder}) == {"folder": str(tmp_path)}
    for folder in (b"/var/tmp/\xff", "/var/tmp/\udcff", 7):
        with pytest.raises(ValueError, match="the folder for parking is .* UTF-8"):
            memsweep.sweep(parking={"folder": folder})


@pytest.mark.skipif(os.name == "nt", reason="names are bytes elsewhere only")
def test_a_folder_from_the_environment_that_is_not_text_is_refused_in_words():
    script = "import memsweep\ntry: memsweep.sweep(level='park')\nexcept ValueError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=300,
        env={**os.environb, b"MEMSWEEP_PARK_FOLDER": b"/var/tmp/\xe9t\xe9"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"the folder for parking is '/var/tmp/\\udce9t\\udce9': use a folder whose name is UTF-8 text\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parks on Linux only")
def test_a_program_may_have_its_spill_folder_beneath_any_name():
    """As ComfyUI's temporary folder may be: the host names it, not the settings."""
    from memsweep import hosting

    # Not in /tmp, which is memory on many machines.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as above:
        folder = os.fsdecode(os.fsencode(above) + b"/\xe9t\xe9")
        Path(folder).mkdir()
        outcome = parked_beneath(hosting, folder)
    if outcome["kind"] == "unsupported" and "UTF-8" not in outcome["reason"]:
        pytest.skip(outcome["reason"])
    assert outcome["kind"] == "parked" and outcome["bytes"] > 7 << 20, outcome


def parked_beneath(hosting, folder):
    class Host(hosting.TorchHost):
        def parking(self):
            return hosting.Parking(None, folder)

    block = bytearray(os.urandom(1 << 20) * 8)
    del block[-1:]
    held = [block]
    del block
    report = hosting.sweep_with(Host(), {"level": "park"}, {}).to_dict()
    (row,) = [row for row in report["rows"] if row["action"]["kind"] == "park"]
    assert len(held[0]) == (8 << 20) - 1
    return row["outcome"]
