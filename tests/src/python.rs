//! Runs published Python clients.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Root folder of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Runs `tests/python/<script>` in the environment that `scripts/test` made (`.venv`, or `VIDEOSDGX_TEST_PYTHON`) and
/// returns what it printed.
///
/// # Errors
/// If the environment is missing or the exit status is not 0 (the error contains the output).
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn run_python<A: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let python = std::env::var_os("VIDEOSDGX_TEST_PYTHON")
        .map_or_else(|| root().join(".venv/bin/python"), PathBuf::from);
    let output = Command::new(&python)
        .arg(root().join("tests/python").join(script))
        .args(arguments)
        .current_dir(root())
        .output()
        .with_context(|| format!("cannot run {}: run scripts/test once", python.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{script} failed ({}):\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
