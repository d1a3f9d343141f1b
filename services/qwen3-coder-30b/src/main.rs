//! The service `qwen3-coder-30b`: Qwen3-Coder-30B-A3B. Configured by environment variables: see `docs/deployment.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_text_backend::main("qwen3-coder-30b")
}
