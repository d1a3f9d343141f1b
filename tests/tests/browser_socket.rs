//! A page in a real browser uses a WebSocket through the gateway.

use anyhow::Result;
use videosdgx_tests::{PageServer, Service, Stack};

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
    let server = PageServer::start().await?;
    let stack =
        Stack::of(Service::FakeText).gateway_env("VIDEOSDGX_CORS_ORIGINS", server.origin()).start()?;
    let socket = format!("{}{}/stream", stack.gateway.url().replacen("http", "ws", 1), stack.prefix());
    let page = PAGE.replace("SOCKET", &socket).replace("TOKEN", &stack.token("page", "generate")?);
    let reported = server.report_of(&page).await?;

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
