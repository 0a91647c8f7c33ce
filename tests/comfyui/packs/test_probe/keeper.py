"""A pack that keeps a model of 1 GB in a global, as many do, outside ComfyUI's model management."""

import torch

MODELS: dict[str, torch.nn.Module] = {}
LAYERS, SIDE = 16, 4096


def _build() -> torch.nn.Module:
    generator = torch.Generator().manual_seed(5)
    layers = []
    for _ in range(LAYERS):
        layer = torch.nn.Linear(SIDE, SIDE, bias=False)
        with torch.no_grad():
            layer.weight.uniform_(-1, 1, generator=generator)
        layers.append(layer.requires_grad_(False))
    return torch.nn.Sequential(*layers)


class ProbeKeeper:
    """Tints an image with numbers computed from every page of the model's weights."""

    CATEGORY = "test"
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {}),
                # A different number makes the node run again.
                "turn": ("INT", {"default": 0}),
                "reload": ("BOOLEAN", {"default": False}),
            }
        }

    def run(self, image, turn, reload):
        if reload or "big" not in MODELS:
            MODELS["big"] = _build()
        tint = torch.stack([layer.weight.flatten()[::512].sum() for layer in MODELS["big"]])
        return (torch.clamp(image * 0.5 + (tint.sum() % 1) * 0.5, 0, 1),)
