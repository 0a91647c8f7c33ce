"""Random graphs: the walk against a naive closure written in Python."""

from hypothesis import given, settings
from hypothesis import strategies as st
from memsweep import _memsweep as heap
from random_graphs import build, indices, naive, recipes
from extent import scaled


@st.composite
def graphs(draw):
    """Objects in creation order, and some of them as roots."""
    recipe = draw(recipes())
    roots = draw(indices(recipe, 3))
    made = build(recipe)
    return made, [made[root] for root in roots]


@settings(max_examples=scaled(60, 150, 3000), deadline=None)
@given(graphs())
def test_it_finds_what_the_naive_closure_finds(graph):
    made, roots = graph
    expected = naive(roots)
    known = {id(item) for item in made}
    walked = {id(item) for item in heap.reach(roots, (object,))}
    assert walked & known == expected.keys() & known


@settings(max_examples=scaled(30, 60, 1200), deadline=None)
@given(st.lists(graphs(), max_size=4))
def test_groups_do_not_leak_into_each_other(drawn):
    wanted = (object,)
    together = heap.reach_many([roots for _, roots in drawn], wanted)
    for (_, roots), found in zip(drawn, together, strict=True):
        alone = heap.reach(roots, wanted)
        assert [id(item) for item in found] == [id(item) for item in alone]
