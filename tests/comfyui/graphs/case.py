"""Random cases: workflows, sweeps in them, and a sequence of prompts, drawn so that they shrink.

A case is plain data. Links only lead to earlier nodes, so that every drawn graph is acyclic, and
a failing case shrinks to few nodes, few sweeps and few prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from graphs.kinds import (
    FAILURES,
    KINDS,
    LOOP_BODY,
    LOOP_CLOSES,
    LOOP_END,
    LOOP_START,
    LOOPED,
    PASSING,
    PIECE,
    SHOWS,
    TERMINAL,
    Kind,
    SweepKind,
)


def weighted(kinds: tuple) -> tuple:
    return tuple(kind for kind in kinds for _ in range(kind.weight))


DRAWN, DRAWN_PASSING, DRAWN_TERMINAL = weighted(KINDS), weighted(PASSING), weighted(TERMINAL)
DRAWN_LOOPED = weighted(LOOPED)
# Only tensors that are large enough to be parked are destroyed, and only those that a pack still
# holds when no cached output shows them any more. Left to chance that is one case in thousands.
KEEPING = tuple(kind for kind in KINDS if kind.node.startswith("ToyKeep") and len(kind.gives) == 2)
DESTROYING = tuple(kind for kind in TERMINAL if kind.widgets.get("leftovers") == "destroy")
Link = tuple[int, int]


@dataclass(frozen=True)
class Spec:
    """One node: its kind, its links as (node, slot), its widget values."""

    kind: Kind
    links: dict[str, Link]
    widgets: dict[str, object]

    def __repr__(self) -> str:
        return written(self.kind.node, self.links, self.widgets)


@dataclass(frozen=True)
class Sweep:
    """A sweep on the link into one input of a node, or at the end of the workflow."""

    kind: SweepKind
    on: Link
    # The node and input it sits before; None for a terminal node.
    before: tuple[int, str] | None
    also: dict[str, Link]

    def __repr__(self) -> str:
        at = "at the end" if self.before is None else f"before n{self.before[0]}"
        return f"{written(self.kind.node, {'on': self.on, **self.also}, self.kind.widgets)} {at}"


@dataclass(frozen=True)
class Workflow:
    specs: tuple[Spec, ...]
    sweeps: tuple[Sweep, ...]

    def __repr__(self) -> str:
        lines = [f"n{number} = {spec}" for number, spec in enumerate(self.specs)]
        return "\n    ".join(["", *lines, *map(repr, self.sweeps)])

    def shows(self) -> list[int]:
        return [number for number, spec in enumerate(self.specs) if spec.kind.shows]


@dataclass(frozen=True)
class Turn:
    """One prompt, and what happened before it."""

    workflow: int
    # Widgets that the user has changed since: (node, widget, value); they stay changed.
    edits: tuple[tuple[int, str, object], ...] = ()
    # ToyFail nodes fail this time.
    failure: str | None = None
    # POST /free came first.
    free: bool = False
    # Only these of the workflow's ends were asked for; empty for all.
    only: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    workflows: tuple[Workflow, ...]
    turns: tuple[Turn, ...]
    # Look through the whole heap at each sweep: expensive, so only now and then.
    looks_for_hidden: bool = False
    # Tensors are large enough to be parked, and are: just as expensive.
    parks: bool = False
    # During this turn another executor is in the middle of sampling, with this model: the one that every
    # executor shares, or one of its own.
    beside: tuple[int, str] | None = None

    def __repr__(self) -> str:
        workflows = "\n  and".join(map(repr, self.workflows))
        parks = "\n  with parking" if self.parks else ""
        if self.beside is not None:
            parks += f"\n  beside another executor in turn {self.beside[0]}, {self.beside[1]} model"
        return f"{workflows}\n  " + "\n  ".join(map(repr, self.turns)) + parks

    def _repr_pretty_(self, printer, _cycle) -> None:
        """hypothesis would print the fields of every node kind."""
        printer.text(repr(self))


def written(node: str, links: dict[str, Link], widgets: dict[str, object]) -> str:
    sockets = [f"{name}=n{number}.{slot}" for name, (number, slot) in links.items()]
    values = [f"{name}={value!r}" for name, value in widgets.items()]
    return f"{node}({', '.join(sockets + values)})"


@dataclass
class _Draft:
    specs: list[Spec] = field(default_factory=list)
    sockets: list[tuple[Link, str]] = field(default_factory=list)

    def available(self, socket: str) -> list[Link]:
        return [link for link, found in self.sockets if found == socket]

    def without(self, *nodes: str) -> list[Link]:
        """Sockets of which none of these nodes is an ancestor."""
        tainted: set[int] = set()
        for number, spec in enumerate(self.specs):
            above = {source for source, _ in spec.links.values()}
            if spec.kind.node in nodes or tainted & above:
                tainted.add(number)
        return [link for link, _ in self.sockets if link[0] not in tainted]

    def add(self, kind: Kind, links: dict[str, Link], widgets: dict[str, object]) -> int:
        number = len(self.specs)
        self.specs.append(Spec(kind, links, widgets))
        self.sockets += [((number, slot), socket) for slot, socket in enumerate(kind.gives)]
        return number


@st.composite
def workflows(draw, longest: int = 24, large: bool = False) -> Workflow:
    draft = _Draft()

    def add(kind: Kind, **more) -> int:
        links = {name: recent(draw, draft.available(socket)) for name, socket in kind.takes.items()}
        links |= more.pop("links", {})
        widgets = {name: draw(st.sampled_from(values)) for name, values in kind.widgets.items()}
        return draft.add(kind, links, {**kind.fixed, **widgets, **more})

    for _ in range(draw(st.integers(longest // 3, longest))):
        sockets = {socket for _, socket in draft.sockets}
        kinds = [kind for kind in DRAWN if sockets.issuperset(kind.takes.values())]
        # One node that fails: of two, the order decides which is first.
        fails = any(spec.kind.node == "ToyFail" for spec in draft.specs)
        kind = draw(st.sampled_from([k for k in kinds if not (fails and k.node == "ToyFail")]))
        add(kind)
        if large and draft.available(PIECE) and draw(st.integers(0, 5)) == 5:
            add(draw(st.sampled_from(KEEPING)))
    if draft.available(PIECE) and draw(st.booleans()):
        loop(draw, draft, add, depth=0)
    if draft.available(PIECE) and draw(st.integers(0, 9)) == 9:
        body = add(LOOP_BODY)
        add(LOOP_END, links={"value": (body, 0)}, body=f"n{body}")
    for _ in range(draw(st.integers(1, 3))):
        shown = [link for link, socket in draft.sockets if socket in SHOWS]
        if shown:
            link = recent(draw, shown)
            kind = SHOWS[dict(draft.sockets)[link]]
            draft.add(kind, {next(iter(kind.takes)): link}, {"name": f"show{len(draft.specs)}"})
    return Workflow(tuple(draft.specs), tuple(sweeps(draw, draft, large)))


def loop(draw, draft: _Draft, add, depth: int) -> None:
    """A loop of a few nodes, perhaps with another in it. What its end reads comes from its body."""
    start = add(LOOP_START)
    for _ in range(draw(st.integers(1, 4))):
        sockets = {socket for _, socket in draft.sockets}
        kinds = [kind for kind in DRAWN_LOOPED if sockets.issuperset(kind.takes.values())]
        add(draw(st.sampled_from(kinds)))
        if depth == 0 and draw(st.integers(0, 5)) == 5:
            loop(draw, draft, add, depth=1)
    add(draw(st.sampled_from(LOOP_CLOSES)), links={"flow": (start, 0)})


def recent(draw, links: list[Link]) -> Link:
    """One of the links, the last ones more often, so that chains grow long."""
    return links[-1 - draw(st.integers(0, len(links) - 1).map(lambda n: n // 2))]


def sweeps(draw, draft: _Draft, large: bool):
    # What ties a loop's end to its start is no value that could pass through a node.
    places = [
        (number, name)
        for number, spec in enumerate(draft.specs)
        for name in spec.links
        if name != "flow"
    ]
    # A sweep makes what is connected to it run. A node that fails must not be reached by a sweep
    # alone; and ComfyUI lets no node run that has a blocked input, so a node with several inputs passes a
    # block from one on to the others, as any node does.
    sound = draft.without("ToyFail")
    free = draft.without("ToyFail", "ToyBlock", "ToyBlockedList")
    # Late in the workflow there is something that no later node needs.
    late = st.integers(0, 2 * len(places) - 1).map(lambda n: places[-1 - n // 4])
    for number, name in draw(st.lists(late, max_size=2, unique=True)) if places else ():
        kind = draw(st.sampled_from(DRAWN_PASSING))
        earlier = [link for link in free if link[0] < number]
        also = some(draw, kind.also, earlier)
        if kind.also_model:
            held = ("model", "clip", "vae", "control")
            models = [link for link in earlier if dict(draft.sockets)[link] in held]
            # Without a model, it is asked to release something that is not one.
            also["model"] = draw(st.sampled_from(models or [draft.specs[number].links[name]]))
        yield Sweep(kind, draft.specs[number].links[name], (number, name), also)
    for _ in range(draw(st.integers(0, 3)) // 2):
        kind = draw(st.sampled_from(DRAWN_TERMINAL + DESTROYING * 6 * large))
        if sound:
            yield Sweep(kind, recent(draw, sound), None, some(draw, kind.also, free))


def some(draw, names: tuple[str, ...], links: list[Link]) -> dict[str, Link]:
    """Links for some of these inputs."""
    return {name: draw(st.sampled_from(links)) for name in names if links and draw(st.booleans())}


@st.composite
def turns(draw, made: list[Workflow]) -> Turn:
    # Zero is the first workflow, so that shrinking leaves one.
    number = draw(st.integers(0, 3)) // 3 if len(made) > 1 else 0
    workflow = made[number]
    widgets = [
        (node, name, value)
        for node, spec in enumerate(workflow.specs)
        for name, values in spec.kind.widgets.items()
        for value in values
    ]
    # A prompt that was queued again unchanged leaves a sweep at its end little to do, so most are not.
    count = draw(st.sampled_from((0, 1, 2, 3, 4, 4))) if widgets else 0
    edits = [draw(st.sampled_from(widgets)) for _ in range(count)]
    failure = None
    if any(spec.kind.node == "ToyFail" for spec in workflow.specs):
        failure = draw(st.sampled_from((None, None, *FAILURES)))
    only = ()
    if len(workflow.shows()) > 1 and draw(st.integers(0, 4)) == 4:
        only = (draw(st.sampled_from(workflow.shows())),)
    return Turn(number, tuple(edits), failure, draw(st.integers(0, 9)) == 9, only)


@st.composite
def cases(draw) -> Case:
    special = draw(st.integers(0, 5))
    parks = special in (3, 4)
    made = [draw(workflows(large=parks))]
    if draw(st.integers(0, 2)) == 2:
        made.append(draw(workflows(longest=6, large=parks)))
    first = Turn(0)
    later = draw(st.lists(turns(made), min_size=1, max_size=4))
    # ComfyUI's own unloads, of which the other executor is not asked either, would be in the way.
    calm = [n for n, turn in enumerate((first, *later)) if not turn.free and turn.failure is None]
    beside = None
    if draw(st.integers(0, 5)) == 5:
        beside = (draw(st.sampled_from(calm)), draw(st.sampled_from(("its own", "the shared"))))
    return Case(tuple(made), (first, *later), special == 5, parks, beside)
