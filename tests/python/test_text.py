"""Names and errors from outside: no line of a log but ours, and none that costs a sweep its facts."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from memsweep import hosting

ODD = "7\n[INFO] node 3: 9 GiB\x1b[2J\u202e\udc80"


@given(st.text(st.characters(), max_size=50))
def test_any_string_of_python_can_be_shown(text):
    shown = hosting.plain(text)
    assert shown.splitlines() in ([shown], [])
    assert not set(shown) & {chr(code) for code in (*range(32), *range(127, 160), 0x202E, 0x2028)}
    shown.encode()
    if text.isascii() and text.isprintable():
        assert shown == text


def test_what_is_shown_says_what_was_there():
    assert hosting.plain(ODD) == "7\\n[INFO] node 3: 9 GiB\\x1b[2J\\u202e\\udc80"


class Host(hosting.TorchHost):
    """Reports no devices, and answers as told."""

    def __init__(self, answer=None, rows=()):
        self.answer, self.rows = answer, rows

    def devices(self):
        return json.dumps(list(self.rows))

    def release(self, action):
        return super().release(action) if self.answer is None else json.dumps(self.answer)


def notes_of(report):
    return [note["reason"] for note in report.to_dict()["notes"]]


def test_a_name_that_is_half_a_character_costs_no_facts():
    inventory = {
        "notes": [ODD],
        "models": [{"name": ODD, "device": "cpu", "bytes": 1, "loaded": True}],
        "connected": {"storages": [], "models": [0]},
    }
    report = hosting.sweep_with(Host(), {"level": "evict", "park": {"off": True}}, inventory)
    assert notes_of(report) == [ODD.replace("\udc80", "\\udc80")]
    text = str(report)
    assert len(text.splitlines()) == len(text.strip("\n").split("\n"))
    assert "\x1b" not in text and "\u202e" not in text
    assert "\n[INFO]" not in text and "\n[INFO]" not in report.summary


def test_names_that_differ_only_in_half_a_character_stay_apart():
    names = ["\ud800", "\ud801", "\\ud800", "\\\\ud800", "\U00010000", "\\", "ud800", '"\ud800\\"']
    facts = {"notes": names}
    report = hosting.sweep_with(Host(), {"level": "trim"}, facts)
    assert len(set(notes_of(report))) == len(names)
    # Without such a name, everything arrives as it is.
    facts = {"notes": [name for name in names if name.isascii()]}
    assert notes_of(hosting.sweep_with(Host(), {"level": "trim"}, facts)) == facts["notes"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=8), max_size=6, unique=True))
def test_different_names_never_become_the_same(names):
    report = hosting.sweep_with(Host(), {"level": "trim"}, {"notes": names})
    told = notes_of(report)
    # JSON itself joins the two halves of a pair; a string of Python can hold them apart.
    joined = {json.loads(json.dumps(name)) for name in names}
    assert len(set(told)) == len(joined)
    if all(name.encode("utf-8", "replace").decode() == name for name in names):
        assert told == names


def test_an_answer_and_a_device_with_half_a_character_are_read():
    host = Host({"kind": "done", "claimed": None, "detail": ODD}, [{"id": "cuda:\udc80", "used": 5}])
    report = hosting.sweep_with(host, {"level": "collect"}, {}).to_dict()
    rows = [row for row in report["rows"] if row["action"]["kind"] == "collect"]
    assert [row["outcome"]["kind"] for row in rows] == ["done"]
    assert [device["id"] for device in report["after"]["devices"]] == ["cuda:\\udc80"]


def test_a_summary_is_one_line_whatever_a_device_is_called():
    reports = [
        hosting.sweep_with(Host(rows=[{"id": f"cuda:0{end}", "used": 5}]), {"level": "trim"}, {})
        for end in ("", "\n", "\r\x1b[31m", "\u2028")
    ]
    assert {len(report.summary.splitlines()) for report in reports} == {1}
    assert {len(str(report).splitlines()) for report in reports} == {len(str(reports[0]).splitlines())}
