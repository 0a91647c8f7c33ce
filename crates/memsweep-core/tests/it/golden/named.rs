//! A sweep between sampler and decoder, reported with the files and titles that people know.

use memsweep_core::action::Outcome;
use memsweep_core::level::Level;
use memsweep_core::reading::Reading;

use super::{Story, done, gpu, nothing, said, sd15_reading};
use crate::build;

/// After the sampler, a step fails and the decoder is still to run.
pub(super) fn story() -> Story {
    let inventory = build::inventory(
        "storages cuda:0=3438278656 cuda:0=246144000 cuda:0=335544320 65536 118272
        model BaseModel cuda:0 3438278656 kept=cpu file=sd15.safetensors part=diffusion_model
        model SD1ClipModel cuda:0 246144000 kept=cpu file=sd15.safetensors part=text_encoder
        model AutoencoderKL cuda:0 335544320 kept=cpu file=sd15.safetensors part=VAE
        model Upscaler cuda:0 67108864 kept=cpu
        entry - (s0 m0) (s1 m1) (s2 m2)
        entry - (s4)
        entry - (s3)
        entry - (m3)
        running 10
        node 4 CheckpointLoaderSimple title=Load_Checkpoint entry=0
        node 6 CLIPTextEncode title=A_red_fox entry=1 <- 4.1
        node 3 KSampler entry=2 <- 4.0 6.0
        node 10 CleanMemory_PurgePass title=Free_before_decoding pending <- 3.0
        node 8 VAEDecode title=VAE_Decode pending <- 10.0 4.2
        node 9 SaveImage title=Save_Image pending output <- 8.0
        connected s3",
    );
    let row = |seconds, ram, used, allocated, reserved| Reading {
        devices: vec![gpu("cuda:0", used, allocated, reserved)],
        ..sd15_reading(seconds, ram, 342)
    };
    Story {
        name: "named",
        inventory,
        policy: build::policy(Level::Evict),
        readings: vec![
            row(1.0, 1200, 4600, 3900, 4200),
            row(1.25, 1200, 4600, 3900, 4200), // evict
            row(1.5, 1200, 4600, 3900, 4200),  // collect
            row(2.0, 4480, 4600, 620, 4200),   // unload the diffusion model
            row(2.25, 4715, 4600, 385, 4200),  // the text encoder
            row(2.5, 4715, 4600, 385, 4200),   // what nobody knows
            row(2.75, 4715, 4600, 385, 4200),  // collect
            row(3.0, 4715, 800, 385, 400),     // device cache
            row(3.25, 4715, 800, 385, 400),    // page-locked cache
            row(3.5, 4700, 800, 385, 400),     // heap
        ],
        outcomes: vec![
            said("2 entries"),
            said("12 objects"),
            done(),
            done(),
            Outcome::Failed { error: "ComfyUI kept the model loaded".to_owned() },
            said("3 objects"),
            said("cuda:0"),
            nothing("nothing is free in it"),
            done(),
        ],
    }
}
