"""A cancel at every step: it passes through, and the report of what was done by then comes with it."""

import json

import pytest
from memsweep import hosting


class Cancel(Exception):
    pass


class Host(hosting.TorchHost):
    """Cancelled when asked for the nth time, or in the nth step."""

    passing = (Cancel,)

    def __init__(self, at, where, stop):
        self.at, self.where, self.stop = at, where, stop
        self.checks = self.steps = 0

    def check_cancelled(self):
        if self.where == "before a step" and self.checks == self.at:
            raise self.stop
        self.checks += 1

    def release(self, action):
        answer = super().release(action)
        if self.where == "inside a step" and self.steps == self.at:
            raise self.stop
        self.steps += 1
        return answer


def rows(error):
    report = error.memsweep_report
    assert report.to_dict()["cancelled"] is True
    assert "; cancelled" in report.summary
    return [row["outcome"]["kind"] for row in report.to_dict()["rows"]]


@pytest.mark.parametrize("at", range(4))
def test_a_cancel_before_any_step_brings_the_report(at):
    stop = Cancel("stop")
    with pytest.raises(Cancel) as raised:
        hosting.sweep_with(Host(at, "before a step", stop), {"level": "collect"}, {})
    assert raised.value is stop
    outcomes = rows(stop)
    assert outcomes.index("cancelled") == at
    assert set(outcomes[at + 1 :]) <= {"skipped"}


@pytest.mark.parametrize("kind", [Cancel, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", range(3))
def test_a_cancel_inside_a_step_brings_the_report(at, kind):
    stop = kind("stop")
    with pytest.raises(kind) as raised:
        hosting.sweep_with(Host(at, "inside a step", stop), {"level": "collect"}, {})
    assert raised.value is stop
    assert "cancelled" in rows(stop)


@pytest.mark.parametrize("at", range(3))
def test_a_cancel_while_a_reading_is_taken_brings_the_report(at):
    class Reader(Host):
        def devices(self):
            if self.checks == self.at:
                raise KeyboardInterrupt
            return "[]"

    with pytest.raises(KeyboardInterrupt) as raised:
        hosting.sweep_with(Reader(at, "in a reading", None), {"level": "collect"}, {})
    rows(raised.value)


def test_a_cancel_while_parking_brings_the_report():
    class Parker(Host):
        def parking(self):
            raise Cancel("stop")

    with pytest.raises(Cancel) as raised:
        hosting.sweep_with(Parker(-1, "never", None), {"level": "park"}, {})
    assert "cancelled" in rows(raised.value)


def test_an_error_that_takes_no_report_passes_all_the_same():
    class Bare(Cancel):
        def __setattr__(self, name, value):
            raise RuntimeError("no attributes here")

    with pytest.raises(Bare) as raised:
        hosting.sweep_with(Host(1, "before a step", Bare()), {"level": "collect"}, {})
    assert not hasattr(raised.value, "memsweep_report")


def test_what_was_done_before_a_cancel_is_in_its_report():
    held = {"loop": None}
    held["loop"] = held
    stop = Cancel()
    with pytest.raises(Cancel):
        hosting.sweep_with(Host(1, "before a step", stop), {"level": "collect"}, {})
    report = json.loads(stop.memsweep_report.to_json())
    assert report["rows"][0]["outcome"]["kind"] == "done"
    assert report["headline"]["freed"], "what fell until then is measured"
