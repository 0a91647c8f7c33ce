"""Promise P1 on a real server: with our nodes every image is bit for bit what it is without them.

One server per cache mode; the scenarios follow each other, with POST /free between them.
"""

import pytest
from extent import LARGE, QUICK
from harness.comfy_server import CACHE_FLAGS, FAST_FLAGS, ComfyServer
from workflows import OUR_NODES, SCENARIOS, Variation, bypass, requested_level


DEFAULT, *OTHERS = CACHE_FLAGS


def played():
    """Which scenario in which cache mode: each in the default one and, by turns, in one of the others;
    a large run plays all of them."""
    for number, name in enumerate(SCENARIOS):
        turn = OTHERS[number % len(OTHERS)]
        modes = (DEFAULT,) if QUICK else CACHE_FLAGS if LARGE else (DEFAULT, turn)
        yield from ((mode, name) for mode in modes)


@pytest.fixture(scope="module")
def server(request):
    with ComfyServer(request.param, flags=FAST_FLAGS) as running:
        if not LARGE or request.param != DEFAULT:
            # ComfyUI's half million objects cost each of some five hundred sweeps a
            # third of a second. In a large run, the first mode has the collector as users have
            # it, as the servers of other tests always do.
            running.post("/probe/freeze")
        yield running


PLAYED = sorted(played(), key=lambda pair: pair[0])


@pytest.mark.parametrize(("server", "name"), PLAYED, indirect=["server"], scope="module")
def test_every_prompt_of_the_sequence_gives_the_oracles_image(server, oracle, name):
    scenario = SCENARIOS[name]
    server.free()

    if scenario.queued:
        batch = [scenario.build(variation) for variation in scenario.batch()]
        for i, (prompt, queued) in enumerate([(prompt, server.queue(prompt)) for prompt in batch]):
            check_prompt(server, oracle, f"batch item {i}", prompt, server.wait(queued), passes_ran=True)

    for step, variation in scenario.steps():
        prompt = scenario.build(variation)
        check_prompt(server, oracle, step, prompt, server.run(prompt), passes_ran=step == "first" and not scenario.queued)

    server.free()
    prompt = scenario.build(Variation())
    check_prompt(server, oracle, "after /free", prompt, server.run(prompt), passes_ran=True)

    bystanders = server.get("/probe/bystanders")
    assert len(bystanders["ways"]) == 13
    assert bystanders["damaged"] == []


def check_prompt(server, oracle, step, prompt, result, passes_ran):
    assert result.ok, f"{step}: {result.error}\n{server.log_tail()}"
    assert result.image_hashes == oracle.hashes(bypass(prompt)), f"{step}: the image changed"

    reports = result.reports()
    for node_id, data in prompt.items():
        if data["class_type"] not in OUR_NODES:
            continue
        if OUR_NODES[data["class_type"]].terminal or passes_ran:
            assert node_id in reports, f"{step}: {node_id} ({data['class_type']}) left no report"
        if node_id in reports:
            where = f"{step}, {node_id}"
            if data["class_type"] == "MemSweepReport":
                assert reports[node_id]["reading"]["process"]["resident"] > 0, where
            else:
                check_report(where, reports[node_id], requested_level(data))


def check_report(where, report, level):
    assert report["schema"] == 2, where
    if level is not None:
        assert report["requested_level"] == level, where
        assert report["level"] == level, where
    for moment in ("before", "after"):
        assert report[moment]["process"]["resident"] > 0, where
        assert report[moment]["process"]["anonymous"] > 0, where
    for row in report["rows"]:
        assert row["outcome"]["kind"] not in ("failed", "cancelled"), f"{where}: {row}"
