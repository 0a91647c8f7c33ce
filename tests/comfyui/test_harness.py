"""The tests' own tools can fail: an oracle that always agrees would prove nothing."""

import sys

from harness.paths import PROBE_PACK
from workflows import OUR_NODES, SCENARIOS, Variation, bypass, is_link, text_to_image


def test_the_oracle_tells_seeds_and_texts_apart(oracle):
    images = [
        oracle.hashes(text_to_image(v))[0]
        for v in (Variation(), Variation(seed=2), Variation(text="a blue car at night"))
    ]
    assert len(set(images)) == 3


def test_bypassing_leaves_none_of_our_nodes_and_no_dangling_link():
    for scenario in SCENARIOS.values():
        with_ours = scenario.build(Variation())
        plain = bypass(with_ours)
        assert any(data["class_type"] in OUR_NODES for data in with_ours.values())
        assert not any(data["class_type"] in OUR_NODES for data in plain.values())
        links = [v for data in plain.values() for v in data["inputs"].values() if is_link(v)]
        assert links and all(source in plain for source, _ in links)


def test_every_node_of_ours_is_in_some_scenario():
    used = {data["class_type"] for s in SCENARIOS.values() for data in s.build(Variation()).values()}
    assert set(OUR_NODES) <= used


def test_a_damaged_bystander_is_noticed():
    sys.path.insert(0, str(PROBE_PACK))
    try:
        import bystanders
    finally:
        sys.path.remove(str(PROBE_PACK))
    assert len(bystanders.WAYS) == 13
    assert bystanders.damaged() == []
    bystanders.damage_one()
    assert bystanders.damaged() == ["module constant"]
