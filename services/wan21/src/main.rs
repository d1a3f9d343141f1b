//! The service `wan21`, configured by environment variables: see `docs/deployment.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_diffusion::main::<wan21::Wan21>()
}
