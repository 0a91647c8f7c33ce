# Builds objects of many kinds and closes over them the slow way, with gc.get_referents.
# Run by the walk once, before its first use; `build` and `closure` are called from Rust.
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
