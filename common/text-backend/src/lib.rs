//! What the text services have in common: any checkpoint that [`videosdgx_decoder`] computes, behind the skeleton of
//! `videosdgx-text-service`. A service is a name, a port and [`main()`].

mod backend;
mod settings;

use std::process::ExitCode;

pub use backend::DecoderBackend;
pub use settings::{Settings, SettingsError};

/// All of a text service's `main`.
pub fn main(name: &'static str, port: u16) -> ExitCode {
    videosdgx_tensor::sleep_while_waiting();
    videosdgx_text_service::main(name, port, |config| {
        Settings::from_config(config).map(DecoderBackend::new).map_err(|error| error.to_string())
    })
}
