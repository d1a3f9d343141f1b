//! The service `qwen3-4b`: Qwen3-4B-Instruct-2507. Configured by environment variables: see `docs/deployment.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    videosdgx_text_backend::main("qwen3-4b")
}
