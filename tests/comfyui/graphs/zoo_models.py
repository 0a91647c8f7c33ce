"""Toy models for random workflows: real ModelPatcher objects around a network of 64 numbers.

The wrappers have the shape of ComfyUI's own (CLIP and VAE hold a patcher, a ControlNet is a
`ControlBase`), so that the real nodes for texts, latents and ControlNets work on them. Results use
element-wise arithmetic only: a sum could change in its last bit with the alignment of a buffer.
"""

import comfy.controlnet
import comfy.model_management
import comfy.model_patcher
import torch
from harness.toys import toy

from graphs.zoo_flow import litter
from graphs.zoo_state import SHARED

SIDE = 8
CPU = torch.device("cpu")


class Network(torch.nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        self.layer = torch.nn.Linear(SIDE, SIDE)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(torch.rand(parameter.shape, generator=generator))


def patcher(seed: int) -> comfy.model_patcher.ModelPatcher:
    return comfy.model_patcher.ModelPatcher(Network(seed), load_device=CPU, offload_device=CPU)


def weights(model: comfy.model_patcher.ModelPatcher) -> torch.Tensor:
    """The weights as they are while the model is loaded, patches included."""
    litter()
    comfy.model_management.load_models_gpu([model])
    return model.model.layer.weight.detach().clone()


class Clip:
    """What CLIPTextEncode and CLIPSetLastLayer ask of a text encoder."""

    def __init__(self, patcher, layer=-1):
        self.patcher, self.layer = patcher, layer

    def clone(self):
        return Clip(self.patcher.clone(), self.layer)

    def clip_layer(self, layer):
        self.layer = layer

    def tokenize(self, text):
        return [ord(letter) for letter in text[:SIDE]]

    def encode_from_tokens_scheduled(self, tokens):
        scale = torch.tensor([*tokens, *[0] * (SIDE - len(tokens))], dtype=torch.float32) / 100
        encoded = weights(self.patcher) * scale + self.layer
        return [[encoded.reshape(1, SIDE, SIDE), {"pooled_output": encoded[0].clone()}]]


class Vae:
    """What VAEDecode and VAEEncode ask of a VAE."""

    def __init__(self, patcher):
        self.patcher = patcher

    def decode(self, samples):
        return (samples * weights(self.patcher)[0, 0]).movedim(1, -1)[..., :3].clone()

    def encode(self, pixels):
        scaled = pixels.movedim(-1, 1)[:, :3] * weights(self.patcher)[0, 1]
        return torch.cat([scaled, scaled[:, :1]], dim=1)


class Control(comfy.controlnet.ControlBase):
    """A ControlNet: copies share one model, and each knows the one before it in the chain."""

    def __init__(self, patcher):
        super().__init__()
        self.patcher = patcher

    def copy(self):
        copied = Control(self.patcher)
        self.copy_to(copied)
        return copied

    def get_models(self):
        return [*super().get_models(), self.patcher]

    def push(self) -> torch.Tensor:
        own = weights(self.patcher)[0, 0] * self.cond_hint_original.flatten()[0] * self.strength
        return own if self.previous_controlnet is None else own + self.previous_controlnet.push()


def shared_model(seed: int) -> comfy.model_patcher.ModelPatcher:
    """A patched model that is kept in a global, as packs keep what several executors use."""
    if seed not in SHARED:
        SHARED[seed] = patcher(seed + 40)
        SHARED[seed].add_patches({"layer.weight": (torch.full((SIDE, SIDE), 8.0),)}, 0.5)
    return SHARED[seed]


@toy(outputs=("MODEL",))
def ToyShared(seed):
    return (shared_model(seed),)


@toy()
def ToySharedUse(model, value):
    return (value * weights(model)[0, 0],)


@toy(outputs=("MODEL", "CLIP", "VAE"))
def ToyCheckpoint(seed):
    """Three models in one cache entry."""
    return (patcher(seed), Clip(patcher(seed + 10)), Vae(patcher(seed + 20)))


@toy(outputs=("CONTROL_NET",))
def ToyControlLoader(seed):
    return (Control(patcher(seed + 30)),)


@toy(outputs=("MODEL", "CLIP"))
def ToyLora(model, clip, seed):
    """Clones with a patch each, as LoraLoader makes them."""
    patch = {"layer.weight": (torch.full((SIDE, SIDE), float(seed)),)}
    model, clip = model.clone(), clip.clone()
    model.add_patches(patch, 0.5)
    clip.patcher.add_patches(patch, 0.25)
    return (model, clip)


@toy(outputs=("MODEL",))
def ToyHook(model, seed):
    """A clone that carries a closure over a tensor, as many packs leave one in the options."""
    held = torch.full((SIDE,), float(seed))
    model = model.clone()
    model.model_options["toy_hook"] = lambda: held
    return (model,)


@toy(outputs=("LATENT",))
def ToySampler(model, positive, negative, latent_image, seed):
    """Loads the model and the ControlNets of both texts, and mixes all that it was given."""
    texts = [*positive, *negative]
    controls = [options["control"] for _, options in texts if "control" in options]
    comfy.model_management.load_models_gpu([model, *(m for c in controls for m in c.get_models())])
    noise = torch.rand(
        latent_image["samples"].shape, generator=torch.Generator().manual_seed(seed)
    )
    samples = latent_image["samples"] + noise * weights(model)[0, 0]
    hook = model.model_options.get("toy_hook")
    if hook is not None:
        samples = samples + hook()[0]
    for encoded, _ in texts:
        samples = samples + encoded.flatten()[1]
    for control in controls:
        samples = samples + control.push()
    return ({**latent_image, "samples": samples},)


@toy(outputs=("IMAGE",))
def ToyUpscaleWithModel(model, image):
    return (image * weights(model)[1, 1] + 0.5,)
