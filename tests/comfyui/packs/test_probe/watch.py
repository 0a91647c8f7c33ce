"""Notes taken inside the server, without adding a node to the user's graph.

SaveImage's answer gains the SHA-256 of the float tensor it was given, and
routes report what ComfyUI has loaded and whether the bystanders are whole.
"""

import contextlib
import gc
import hashlib

RESETS = 0


def install() -> None:
    watch_save_image()
    watch_resets()
    add_routes()


def sha256_of(tensor) -> str:
    data = tensor.detach().cpu().contiguous()
    return hashlib.sha256(repr((tuple(data.shape), str(data.dtype))).encode() + data.numpy().tobytes()).hexdigest()


def watch_save_image() -> None:
    import nodes

    original = nodes.SaveImage.save_images

    def save_images(self, images, *arguments, **named):
        digest = sha256_of(images)
        answer = original(self, images, *arguments, **named)
        answer["ui"]["probe_sha256"] = [digest]
        return answer

    nodes.SaveImage.save_images = save_images


def watch_resets() -> None:
    """Counts the executor's resets, so that a test can wait for POST /free to be served."""
    import execution

    original = execution.PromptExecutor.reset

    def reset(self):
        global RESETS
        original(self)
        RESETS += 1

    execution.PromptExecutor.reset = reset


def loaded_models() -> list[dict]:
    """What ComfyUI's own list of loaded models holds."""
    import comfy.model_management as management

    return [
        {"name": type(loaded.model.model).__name__, "loaded_bytes": int(loaded.model_loaded_memory())}
        for loaded in list(management.current_loaded_models)
        if loaded.model is not None
    ]


def origin(module: str) -> str | None:
    """The file that a module was loaded from; None where it is not loaded."""
    import sys

    return getattr(sys.modules.get(module), "__file__", None)


def settle() -> dict:
    """What lives in this process once garbage and the C heap's free pages are gone."""
    import ctypes

    import torch

    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    # By class only: asking an object for its class may run anything.
    return {"tensors": sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())}


LEAKED: list = []


def leak(size: int) -> None:
    """Makes MemSweep keep that many bytes at every sweep: shows that a leak would be seen."""
    import sys

    import torch

    (service,) = (m for name, m in list(sys.modules.items()) if name.endswith("memsweep.comfyui.service"))
    original = service.run

    def run(*arguments):
        LEAKED.append(torch.ones(size, dtype=torch.uint8))
        return original(*arguments)

    service.run = run


def add_routes() -> None:
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    from aiohttp import web

    from . import bystanders

    @server.routes.get("/probe/bystanders")
    async def bystanders_route(_request):
        return web.json_response({"damaged": bystanders.damaged(), "ways": list(bystanders.WAYS)})

    @server.routes.post("/probe/damage")
    async def damage_route(_request):
        bystanders.damage_one()
        return web.json_response({})

    @server.routes.post("/probe/freeze")
    async def freeze_route(_request):
        gc.collect()
        gc.freeze()
        return web.json_response({})

    @server.routes.post("/probe/settle")
    async def settle_route(_request):
        return web.json_response(settle())

    @server.routes.post("/probe/leak")
    async def leak_route(request):
        leak((await request.json())["bytes"])
        return web.json_response({})

    @server.routes.get("/probe/models")
    async def models_route(_request):
        return web.json_response({"models": loaded_models()})

    @server.routes.get("/probe/resets")
    async def resets_route(_request):
        return web.json_response({"resets": RESETS})

    @server.routes.get("/probe/origin/{module}")
    async def origin_route(request):
        return web.json_response({"file": origin(request.match_info["module"])})
