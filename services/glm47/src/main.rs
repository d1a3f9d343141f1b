//! The service `glm47`: GLM-4.7-Flash or GLM-4.7, by the checkpoint it finds. Configuration by environment, see `docs/deployment.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_text_backend::main("glm47")
}
