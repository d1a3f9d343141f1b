//! The service `ltx2`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_diffusion::main::<ltx2::Ltx2>()
}
