//! The service `qwen3-vl-2b`: Qwen3-VL-2B, which also reads pictures. Configured by environment variables: see `docs/deployment.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_text_backend::main("qwen3-vl-2b")
}
