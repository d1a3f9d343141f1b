//! A program under test.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Longest time until a program listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running program that has printed `listening on http://…`; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` (a binary of this workspace) with `environment`, `PATH`, `HOME` and `LD_LIBRARY_PATH` only, and waits for the
    /// address that it prints. Its standard error is appended to `log`.
    ///
    /// # Errors
    /// If it is not built, ends early (the error contains the end of the log) or does not listen in time.
    pub fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        program: &str,
        environment: impl IntoIterator<Item = (K, V)>,
        log: &Path,
    ) -> Result<Self> {
        let binary = binary(program)?;
        let log_file = File::options().create(true).append(true).open(log)?;
        #[expect(clippy::disallowed_methods, reason = "settings of the test run")]
        let inherited = ["PATH", "HOME", "LD_LIBRARY_PATH"].map(|name| (name, std::env::var_os(name)));
        let mut child = Command::new(&binary)
            .env_clear()
            .envs(inherited.into_iter().filter_map(|(name, value)| Some((name, value?))))
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, receiver) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("listening on ") {
                    let _ = sender.send(url.to_owned());
                }
            }
        });
        let mut process = Self { child, url: String::new(), log: log.to_owned() };
        match receiver.recv_timeout(START_LIMIT) {
            Ok(url) => process.url = url,
            Err(_) => bail!("{program} does not listen; the end of its log:\n{}", process.log_tail()),
        }
        Ok(process)
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:<port>`, to start it again at the same address.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    /// Sends SIGKILL and waits until it has ended.
    ///
    /// # Errors
    /// If waiting fails.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends `signal`, for example `libc::SIGTERM`.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.pid())?;
        // SAFETY: kill(2) takes two integers; the child has not been waited for, so the id is still its own.
        if unsafe { libc::kill(pid, signal) } == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error().into())
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// If it has not ended within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("still running after {limit:?}; the end of its log:\n{}", self.log_tail());
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the system tells nobody when a child ends; tests poll on their own thread"
            )]
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// If its status cannot be read.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Its whole log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program of this workspace, built in the same profile as this suite.
///
/// # Errors
/// If it is not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let suite = std::env::current_exe()?;
    let folder = suite.parent().and_then(Path::parent).context("the suite runs outside a target folder")?;
    let path = folder.join(name);
    if !path.exists() {
        bail!("{} is missing: run `cargo build --workspace` first", path.display());
    }
    Ok(path)
}
