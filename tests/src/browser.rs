//! A page in headless Chromium.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Longest time until a page reports.
const REPORT_LIMIT: Duration = Duration::from_secs(60);

/// The server of one page, which posts what it has found to `/report`.
#[derive(Debug)]
pub struct PageServer {
    listener: TcpListener,
    origin: String,
}

impl PageServer {
    /// Listens on a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, origin })
    }

    /// The origin of the page.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Opens the page in a browser with a new profile and returns its report.
    ///
    /// # Errors
    /// If Chromium cannot be run or the page does not report in time.
    pub async fn report_of(&self, page: &str) -> Result<Value> {
        let _browser = Browser::open(&self.origin)?;
        let reported = tokio::time::timeout(REPORT_LIMIT, self.serve(page)).await;
        reported.context("the page did not report")?
    }

    /// Serves the page until it has posted its report. A browser also opens connections that it may never use.
    async fn serve(&self, page: &str) -> Result<Value> {
        let (reports, mut reported) = mpsc::channel(1);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (page, reports) = (page.to_owned(), reports.clone());
                    tokio::spawn(async move {
                        if let Ok(Some(report)) = answer(accepted?.0, &page).await {
                            reports.send(report).await?;
                        }
                        Ok::<_, anyhow::Error>(())
                    });
                }
                report = reported.recv() => return report.context("no report"),
            }
        }
    }
}

/// A running Chromium; ended when dropped.
struct Browser {
    process: Child,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let process = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(["--remote-debugging-port=0", url])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run chromium: scripts/test installs it where it may")?;
        Ok(Self { process, _profile: profile })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn answer(mut stream: TcpStream, page: &str) -> Result<Option<Value>> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut first = String::new();
    let mut length = 0;
    reader.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    );
    writer.write_all(head.as_bytes()).await?;
    writer.write_all(page.as_bytes()).await?;
    writer.shutdown().await?;
    if first.starts_with("POST /report ") { Ok(Some(serde_json::from_slice(&body)?)) } else { Ok(None) }
}
