//! What the text services have in common: any checkpoint that [`videosdgx_decoder`] computes, behind the skeleton of
//! `videosdgx-text-service`. A service is a name in `services/manifest.toml` and [`main()`].

mod backend;
mod settings;

use std::process::ExitCode;

pub use backend::DecoderBackend;
pub use settings::{Settings, SettingsError};

/// The `main` of a text service; its default port is the one in `services/manifest.toml`.
pub fn main(name: &'static str) -> ExitCode {
    videosdgx_tensor::use_passive_waiting();
    videosdgx_text_service::main(name, |config| {
        Settings::from_config(config).map(DecoderBackend::new).map_err(|error| error.to_string())
    })
}
