//! The service `wan21`: configuration by environment, see `docs/deployment.md`.

use std::process::ExitCode;

use wan21::{NAME, Settings, WanEngine};

fn main() -> ExitCode {
    videosdgx_tensor::use_passive_waiting();
    videosdgx_service::main(NAME, videosdgx_manifest::port(NAME), |config| {
        Settings::from_config(config).map(WanEngine::new).map_err(|error| error.to_string())
    })
}
