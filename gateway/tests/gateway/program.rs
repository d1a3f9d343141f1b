//! The program itself, as a process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::service::Service;

/// A gateway in a process of its own; killed when dropped.
struct Program {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Program {
    /// Starts it in front of `service`, with `stderr` as its standard error.
    fn start(service: &Service, stderr: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_videosdgx-gateway"))
            .env("VIDEOSDGX_LISTEN", "127.0.0.1:0")
            .env("VIDEOSDGX_UPSTREAMS", format!("fake={}", service.url()))
            .env("VIDEOSDGX_AUTH_DIR", folder.path())
            .env("LOG_LEVEL", "debug")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, url, _folder: folder }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_serves_while_its_log_cannot_be_written() {
    let service = Service::start("fake").await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut program = Program::start(&service, full.into());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, status) in [("/health", 200), ("/nothing", 401), ("/models/fake/health", 200)] {
        let answer = client.get(format!("{}{path}", program.url)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let id = program.child.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || program.child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "it stops gracefully too: {ended}");
}
