//! A page in a real browser uses a WebSocket through the gateway.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use videosdgx_tests::{Service, Stack};

/// A page that opens a WebSocket with its token as a subprotocol, requests a generation, and posts what it received to this test.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><script type="module">
const [url, token] = ["SOCKET", "TOKEN"];
const report = (what) => fetch("/report", { method: "POST", body: JSON.stringify(what) });
const talk = (protocols) => new Promise((resolve) => {
  const seen = { protocol: null, text: "", tokens: 0, summary: null, code: null };
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => {
    seen.protocol = socket.protocol;
    socket.send(JSON.stringify({ type: "generate", request_id: "a", prompt: "Hello", max_tokens: 12 }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "token") { seen.tokens += 1; seen.text += message.token.text; }
    if (message.type === "error") { seen.error = message.error; socket.close(); }
    if (message.type === "complete") { seen.summary = message.summary; socket.close(1000, "thank you"); }
  };
  socket.onclose = ({ code }) => { seen.code = code; resolve(seen); };
});
const good = await talk(["videosdgx.v1.json", "bearer." + token]);
const bad = await talk(["videosdgx.v1.json", "bearer.nonsense"]);
await report({ good, bad });
</script>"#;

#[tokio::test]
async fn a_page_of_a_listed_origin_generates_over_a_websocket() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let stack = Stack::of(Service::FakeText).gateway_env("VIDEOSDGX_CORS_ORIGINS", &origin).start()?;
    let socket = format!("{}{}/stream", stack.gateway.url().replacen("http", "ws", 1), stack.prefix());
    let page = PAGE.replace("SOCKET", &socket).replace("TOKEN", &stack.token("page", "generate")?);

    let profile = tempfile::tempdir()?;
    let mut browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--remote-debugging-port=0", &origin])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run chromium: scripts/test installs it where it may")?;
    let reported = tokio::time::timeout(Duration::from_secs(60), serve(&listener, &page)).await;
    browser.kill()?;
    browser.wait()?;
    let reported = reported.context("the page did not report")??;

    let good = &reported["good"];
    assert_eq!(good["protocol"], "videosdgx.v1.json", "{reported}");
    assert_eq!(good["tokens"], 12, "{reported}");
    assert_eq!(good["summary"]["total_tokens"], 12, "{reported}");
    assert_eq!(good["code"], 1000, "{reported}");
    assert!(good["text"].as_str().is_some_and(|text| !text.is_empty()), "{reported}");
    // Refused before it was opened: a browser tells no more.
    assert_eq!(
        (&reported["bad"]["code"], &reported["bad"]["tokens"]),
        (&1006.into(), &0.into()),
        "{reported}"
    );
    Ok(())
}

/// Serves the page until it has posted its report. A browser also opens connections that it may never use.
async fn serve(listener: &TcpListener, page: &str) -> Result<Value> {
    let (reports, mut reported) = mpsc::channel(1);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
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
