//! Times the decoding of random latents of LTX-2's sound, then the vocoder on the result:
//! `bench_ltx2_audio FOLDER (f32|bf16) 0 0 LATENT_FRAMES [REPEATS]`. The folder has `audio_vae` and `vocoder`. `THREADS` is 2
//! by default. `tests/reference/bench_ltx2_audio.py` measures diffusers.

mod support;

use support::Arguments;
use tch::{Device, Kind, Tensor};
use videosdgx_tensor::catch_libtorch_errors;
use videosdgx_video::ltx2_audio::{Ltx2AudioVae, Ltx2Vocoder};
use videosdgx_video::wan_vae::VaeParts;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::read()?;
    if arguments.size != [0, 0] {
        return Err("sound has no height and width: give 0 0".into());
    }
    let folder = &arguments.folder;
    let vae = Ltx2AudioVae::load(&folder.join("audio_vae"), VaeParts::Decoder, Device::Cpu, arguments.kind)?;
    let vocoder = Ltx2Vocoder::load(&folder.join("vocoder"), Device::Cpu)?;
    let shape = [1, vae.config().latent_channels, arguments.latent_frames, vae.config().latent_bins()];
    let latents = Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let mut mel = Tensor::new();
    arguments.measure(|| {
        mel = catch_libtorch_errors(|| vae.decode(&latents))?;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    arguments.measure(|| {
        let waveform = catch_libtorch_errors(|| vocoder.synthesize(&mel))?;
        assert_eq!(waveform.size()[1], mel.size()[2] * vocoder.config().samples_per_frame());
        Ok(())
    })
}
