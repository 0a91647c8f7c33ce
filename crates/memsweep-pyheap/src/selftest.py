# Builds objects of many kinds and closes over them the slow way, with gc.get_referents.
# Run by the walk once, before its first use; its functions are called from Rust.
import _thread
import collections
import contextvars
import functools
import gc
import sys
import types


class Slots:
    __slots__ = ("a", "__weakref__")


class Plain:
    pass


def function():
    pass


def build():
    variable = contextvars.ContextVar("memsweep_self_test")
    roots = []
    for number in range(40):
        leaf = Plain()
        leaf.number = number
        leaf.items = [number, (number, [leaf])]
        slots = Slots()
        slots.a = {Plain(): frozenset([Plain(), number])}
        cell = Plain()

        def closure(default=Slots(), *, keyword=Plain()):
            return cell

        closure.note = [Plain()]

        def generator(local):
            yield local

        running = generator([Plain()])
        next(running)
        context = contextvars.Context()
        context.run(variable.set, [Plain()])
        exposed = Plain()
        exposed.value = Slots()
        exposed.__dict__
        roots += [
            leaf,
            slots,
            closure,
            running,
            context,
            exposed,
            functools.partial(closure, Plain(), key=Slots()),
            collections.deque([Plain()]),
            {Plain()},
            slots.__init__,
            types.MappingProxyType({"a": Plain()}),
            types.SimpleNamespace(a=Plain()),
            iter([Plain()]),
        ]
    return roots


def closure(roots):
    boundary = (type, types.ModuleType, types.FrameType, types.CodeType)
    closed = {id(vars(m)) for m in list(sys.modules.values()) if isinstance(m, types.ModuleType)}
    found, stack = {}, list(roots)
    while stack:
        item = stack.pop()
        if id(item) in found or id(item) in closed:
            continue
        found[id(item)] = item
        if isinstance(item, boundary):
            continue
        children = gc.get_referents(item)
        if isinstance(item, types.FunctionType):
            children = [child for child in children if child is not item.__globals__]
        elif isinstance(item, types.GeneratorType):
            # On 3.10 a suspended generator keeps its variables in its frame.
            frames = [child for child in children if isinstance(child, types.FrameType)]
            children += [child for frame in frames for child in gc.get_referents(frame)]
        elif type(item) is Plain and hasattr(item, "value"):
            # 3.13 does not report a dictionary that shares the object's inline values.
            children.append(item.__dict__)
        stack += children
    return list(found.values())


def frames():
    """A suspended frame whose variables are known, and one that ran in a dictionary."""
    values = [Plain() for _ in range(24)]

    def framed(
        v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11,
        v12, v13, v14, v15, v16, v17, v18, v19, v20, v21, v22, v23,
    ):
        yield

    running = framed(*values)
    next(running)
    namespace = {}
    exec("import sys\nkept = sys._getframe()", {}, namespace)
    return {
        "values": values,
        "frame": running.gi_frame,
        "running": running,
        "function": framed,
        "named": namespace["kept"],
        "namespace": namespace,
    }


# Where the trial object lies: our functions, which calls hold on 3.10, must not lead to it. A signal
# handler or another thread may run the test at the same time, with a class of its own.
PLACE = f"_memsweep_self_test_{id(Plain)}"


def protection(ask):
    """Rows of: how many references another thread holds, how deep we call, what the walk says."""
    setattr(sys, PLACE, Plain())
    try:
        rows = [(0, 0, alone(ask))]
        for holders in range(1, 4):
            rows += beside(holders, ask)
        return rows
    finally:
        delattr(sys, PLACE)


def alone(ask):
    x = getattr(sys, PLACE)
    return ask([x])[0]


def deep(depth, x, ask):
    if depth == 0:
        return ask([getattr(sys, PLACE)])[0]
    return deep(depth - 1, x, ask)


def hold(holders, ready, go_on, gone):
    first = getattr(sys, PLACE)
    second = first if holders > 1 else None
    third = first if holders > 2 else None
    ready.release()
    go_on.acquire()
    del first, second, third
    gone.release()


def beside(holders, ask):
    """What the walk says of an object that another thread holds, from ever deeper calls."""
    ready, go_on, gone = locks = [_thread.allocate_lock() for _ in range(3)]
    for lock in locks:
        lock.acquire()
    try:
        # It is waited for below.
        _thread.start_new_thread(hold, (holders, ready, go_on, gone))  # noqa: TID251
    except RuntimeError as error:
        raise MemoryError(f"no thread for the self-test: {error}") from None
    ready.acquire()
    try:
        return [(holders, depth, deep(depth, getattr(sys, PLACE), ask)) for depth in range(5)]
    finally:
        go_on.release()
        gone.acquire()
