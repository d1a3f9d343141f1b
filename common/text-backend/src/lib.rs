//! Runs any checkpoint that [`videosdgx_decoder`] supports in a service of `videosdgx-text-service`. A text service is an entry in
//! `services/manifest.toml` and a program that calls [`main()`].

mod backend;
mod settings;

use std::process::ExitCode;

pub use backend::DecoderBackend;
pub use settings::{Settings, SettingsError};

/// The `main` of a text service; its default port is the one in `services/manifest.toml`.
///
/// ```no_run
/// videosdgx_text_backend::main("qwen3-4b");
/// ```
pub fn main(name: &'static str) -> ExitCode {
    videosdgx_tensor::use_passive_waiting();
    videosdgx_text_service::main(name, videosdgx_manifest::port(name), |config| {
        Settings::from_config(config).map(DecoderBackend::new).map_err(|error| error.to_string())
    })
}
