//! Clients written by others.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Runs `tests/python/<script>` in the environment that `scripts/test` made (`.venv`, or `VIDEOSDGX_TEST_PYTHON`) and
/// returns what it printed.
///
/// # Errors
/// When the environment is missing or the script ends with another status than 0 (the error holds its output).
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
