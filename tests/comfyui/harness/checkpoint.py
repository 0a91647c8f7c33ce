"""Makes the random-weight checkpoints that the tests and the demo run on.

    python checkpoint.py small|full OUT.safetensors

Both are detected by ComfyUI as Stable Diffusion 1.5 and give finite images
that change with the seed and with the prompt.  The weights are random but
the same on every machine, so nothing has to be fetched.

    small  289 MB: a UNet of one level (26M), CLIP-L (123M), TAESD (2.5M)
    full   2.0 GB: the real SD1.5 shape (UNet 860M, CLIP-L, AutoencoderKL)

ComfyUI's own classes give the names and shapes, so the tree is needed
(MEMSWEEP_COMFYUI, or the cache folder of `cargo xtask setup`).
"""

import math
import os
import sys
import zlib
from pathlib import Path

# Run as a script by the demo: the folder of the `harness` package must be known.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.paths import comfyui_tree  # noqa: E402

UNET_COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "context_dim": 768,
    "num_heads": 8, "use_spatial_transformer": True, "legacy": False,
}
UNET_SMALL = {
    "channel_mult": [1], "num_res_blocks": [1], "transformer_depth": [1],
    "transformer_depth_middle": 1, "transformer_depth_output": [1, 1],
}
UNET_FULL = {
    "channel_mult": [1, 2, 4, 4], "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
KL_CONFIG = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ("small", "full"):
        print("usage: checkpoint.py small|full OUT.safetensors", file=sys.stderr)
        return 2
    make(arguments[0], Path(arguments[1]))
    return 0


def make(preset: str, out: Path) -> None:
    """Writes the checkpoint, under a temporary name until it is complete."""
    say(f"{preset} checkpoint: reading the shapes from ComfyUI")
    shapes = checkpoint_shapes(preset)
    total = sum(math.prod(shape) for shape in shapes.values())
    say(f"{preset} checkpoint: {len(shapes)} tensors, {total / 1e6:.0f}M parameters")

    from safetensors.torch import save_file

    state = {}
    done, next_mark = 0, 0.25
    for name, shape in shapes.items():
        state[name] = weight(name, shape)
        done += math.prod(shape)
        if done >= next_mark * total:
            say(f"{preset} checkpoint: {100 * done // total}% of the weights made")
            next_mark += 0.25
    out.parent.mkdir(parents=True, exist_ok=True)
    # A name of our own process: two runs at once must not write one file.
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        save_file(state, str(temporary))
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    say(f"{preset} checkpoint: wrote {out} ({out.stat().st_size / 1e6:.0f} MB)")


def checkpoint_shapes(preset: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every tensor, from ComfyUI's classes on the meta device."""
    sys.path.insert(0, str(comfyui_tree()))
    # ComfyUI reads the command line and asks for a GPU on import, unless told first.
    sys.argv = sys.argv[:1]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import json

    import comfy.clip_model
    import comfy.ldm.models.autoencoder
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.ops
    import comfy.taesd.taesd
    import torch

    operations = comfy.ops.disable_weight_init
    with torch.device("meta"):
        unet = openaimodel.UNetModel(
            **UNET_COMMON, **(UNET_SMALL if preset == "small" else UNET_FULL),
            dtype=torch.float16, device="meta", operations=operations,
        )
        config = json.loads((comfyui_tree() / "comfy" / "sd1_clip_config.json").read_text())
        clip = comfy.clip_model.CLIPTextModel(config, torch.float16, "meta", operations)
        if preset == "small":
            vae = comfy.taesd.taesd.TAESD(latent_channels=4)
        else:
            vae = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=KL_CONFIG, embed_dim=4)

    shapes = {}
    for prefix, module in (
        ("model.diffusion_model.", unet),
        ("cond_stage_model.transformer.", clip),
        ("first_stage_model.", vae),
    ):
        for name, tensor in module.state_dict().items():
            # SD1.5 files carry no text projection, and ComfyUI would misname ours.
            if not name.startswith("text_projection"):
                shapes[prefix + name] = tuple(tensor.shape)
    return shapes


def weight(name: str, shape: tuple[int, ...]):
    """One tensor: decided by its name alone, so the order of making does not matter."""
    import torch

    if name.endswith("vae_scale"):
        # Brings the random model's large latents into the range where TAESD's
        # clamp still tells two latents apart.
        return torch.tensor(0.05)
    if name.endswith("vae_shift"):
        return torch.tensor(0.0)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator)
    if name.endswith("taesd_decoder.19.bias"):
        # The last layer: mid grey, so that a picture shows something to the eye.
        return (values * 0.02 + 0.5).to(torch.float16)
    if name.endswith("taesd_decoder.19.weight"):
        return (values * (3.0 / math.sqrt(math.prod(shape[1:])))).to(torch.float16)
    if len(shape) < 2:
        # Norm weights near one, biases near zero: signals keep their size.
        values = values * 0.02 + (1.0 if name.endswith("weight") else 0.0)
    elif "embedding" in name:
        values = values * 0.02
    else:
        values = values * (0.8 / math.sqrt(math.prod(shape[1:])))
    return values.to(torch.float16)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
