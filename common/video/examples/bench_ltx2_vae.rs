//! Times the decoding of random latents by LTX-2's autoencoder:
//! `bench_ltx2_vae FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]`, sizes in pixels. `THREADS` is 2 by default.

mod support;

use support::Arguments;
use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, catch_libtorch_errors};
use videosdgx_video::ltx2_vae::{Ltx2Vae, VaeParts};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::read()?;
    let vae = Ltx2Vae::load(&arguments.folder, VaeParts::Decoder, Device::Cpu, arguments.kind)?;
    let [height, width] = arguments.size.map(|side| side / vae.config().spatial_factor());
    let shape = [1, vae.config().latent_channels, arguments.latent_frames, height, width];
    let latents = Tensor::randn(shape, (Kind::Float, Device::Cpu));
    arguments.measure(|| {
        catch_libtorch_errors(|| vae.decode_frames(&latents, None, |_| Ok::<_, TensorError>(())))
    })?;
    Ok(())
}
