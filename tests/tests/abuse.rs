//! The attacks of `scripts/abuse` in their short form.

use std::path::Path;

use anyhow::{Context, Result};
use videosdgx_tests::run_python;

#[test]
fn every_bar_of_the_short_form_is_met() -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_fake-text"));
    let folder = program.parent().context("a program is in a folder")?.display().to_string();
    // Programs of a debug build on a machine that also runs other tests: answers of honest clients have more time.
    let table = run_python("abuse.py", ["--programs", &folder, "--clients", "20", "--honest-ms", "1000"])?;
    assert!(table.contains("| after all of it | fake-text | still running | yes | yes |"), "{table}");
    Ok(())
}
