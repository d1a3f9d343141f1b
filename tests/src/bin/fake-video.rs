//! A video service with an engine that has no model: the prompt determines what it does
//! (`abort`, `panic`, `fail`, `slow 30`, see `FakeEngine`).

use std::process::ExitCode;

use videosdgx_service::fake::FakeEngine;

fn main() -> ExitCode {
    videosdgx_service::main("fake", |config| {
        Ok(FakeEngine { checkpoint: config.checkpoint.clone(), ..FakeEngine::default() })
    })
}
