//! The service `glm47`: GLM-4.7-Flash or GLM-4.7, depending on the checkpoint. Configured by environment variables: see `docs/deployment.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_text_backend::main("glm47")
}
