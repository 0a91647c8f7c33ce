"""The demo can fail, and shows what was measured and nothing else. No server is started here."""

import json

from demo import PLACEMENTS, Row, Run, Sizes, conclude, picture, table
from workflows import bypass, is_link

OWN_FREE = Sizes(None, [None])
PURGE_ALL = PLACEMENTS[0]


def rows(identical: bool = True, resident: int = 115, report: dict | None = None) -> list[Row]:
    return [Row(PURGE_ALL, [Run(report, resident, identical)])]


def test_a_different_image_a_missing_report_and_a_large_server_fail():
    assert conclude(rows(report={}), 100, OWN_FREE, limited=True)
    assert not conclude(rows(report={}, identical=False), 100, OWN_FREE, limited=True)
    assert not conclude(rows(report=None), 100, OWN_FREE, limited=True)
    assert not conclude(rows(report={}, resident=116), 100, OWN_FREE, limited=True)
    # There is a promise only for the full shape.
    assert conclude(rows(report={}, resident=116), 100, OWN_FREE, limited=False)


def test_a_node_that_parks_too_little_the_second_time_fails(capsys):
    placement = next(one for one in PLACEMENTS if one.parks)

    def run(parked: int, refused: int) -> Run:
        refused = [{"reason": "in use", "blocks": 1, "bytes": refused << 20}]
        outcome = {"kind": "parked", "bytes": parked << 20, "already": 0, "refused": refused}
        return Run({"rows": [{"action": {"kind": "park"}, "outcome": outcome}]}, 100, True)

    assert conclude([Row(placement, [run(300, 10), run(80, 20)])], 100, OWN_FREE, limited=False)
    assert "300 MiB of 310 MiB, then 80 MiB of 100 MiB" in capsys.readouterr().out
    assert not conclude([Row(placement, [run(300, 0), run(0, 312)])], 100, OWN_FREE, limited=False)
    assert "TOO LITTLE" in capsys.readouterr().out
    # Where nothing can be parked, nothing is promised.
    assert conclude([Row(placement, [Run({}, 100, True)])], 100, OWN_FREE, limited=False)


def test_a_row_shows_what_the_report_says():
    report = {
        "level": "evict", "requested_level": "park",
        "before": {"process": {"resident": 1300 << 20}},
        "after": {"process": {"resident": 900 << 20}},
        "freed": {"process_resident": 400 << 20},
    }
    text = table([Row(PURGE_ALL, [Run(report, 900 << 20, True), Run(None, 900 << 20, False)])])
    for part in ("evict (of park)", "1300 -> 900 MiB", " 400 MiB", "identical", "DIFFERS", "no report"):
        assert part in text
    assert text.count("not known") == 2


def test_what_was_let_go_has_the_names_of_files_and_nodes():
    def row(action, outcome="done", **because):
        return {"action": action, "outcome": {"kind": outcome}, "because": because}

    report = {
        "level": "evict",
        "rows": [
            row({"kind": "evict"}, entries=["#4 Load Checkpoint", "#6 A red fox"]),
            row({"kind": "unload", "name": "sd15.safetensors, text encoder"}),
            row({"kind": "unload", "name": "sd15.safetensors, VAE"}, outcome="failed"),
            row({"kind": "collect"}),
        ],
    }
    lines = table([Row(PURGE_ALL, [Run(report, None, True), Run(None, None, True)])]).splitlines()
    assert lines[4:] == [
        "  - sd15.safetensors, text encoder",
        "  - outputs of #4 Load Checkpoint, #6 A red fox",
    ]


def test_an_unreadable_number_is_not_zero():
    report = {"level": "trim", "before": None, "freed": {"process_resident": None}}
    text = table([Row(PURGE_ALL, [Run(report, None, True)])])
    assert text.count("not known") == 3
    assert " 0 MiB" not in text


def test_sizes_are_shown_as_ratios():
    told = Sizes(800 << 20, [880 << 20, None]).told("x")
    assert told == "idle server 800 MiB; after x: 880 MiB = 1.10 x, then not known"
    assert Sizes(0, [1]).ratios == [None]


def test_every_link_leads_to_a_node_and_ours_is_connected():
    for placement in PLACEMENTS:
        prompt = placement.into(picture(3, full=False))
        links = [value for data in prompt.values() for value in data["inputs"].values() if is_link(value)]
        assert all(source in prompt for source, _ in links)
        assert any(map(is_link, prompt["ours"]["inputs"].values()))
        assert bypass(prompt) == picture(3, full=False), placement.label


def test_two_pictures_share_nothing_but_the_loader_and_the_empty_latent():
    one, two = picture(3, full=False), picture(4, full=False)
    same = {name for name in one if json.dumps(one[name]) == json.dumps(two[name])}
    assert not {"positive", "sampler"} & same
    assert {"loader", "empty"} <= same
