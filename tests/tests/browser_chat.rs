//! A page in a real browser uses the API as OpenAI's JavaScript library does: with its headers, from another origin.

use anyhow::Result;
use videosdgx_tests::{PageServer, Service, Stack};

/// A page that sends the headers of OpenAI's library 6.x and reads a stream.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><script type="module">
const [base, token] = ["BASE", "TOKEN"];
const report = (what) => fetch("/report", { method: "POST", body: JSON.stringify(what) });
const headers = {
  "Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json",
  "OpenAI-Organization": "org", "OpenAI-Project": "proj",
  "X-Stainless-Lang": "js", "X-Stainless-Package-Version": "6.9.1", "X-Stainless-OS": "Unknown",
  "X-Stainless-Arch": "unknown", "X-Stainless-Runtime": "browser:chrome", "X-Stainless-Runtime-Version": "140.0.0",
  "X-Stainless-Retry-Count": "0", "X-Stainless-Timeout": "600",
};
const body = JSON.stringify({ model: "MODEL", messages: [{ role: "user", content: "say hello" }], stream: true });
const ask = async (more) => {
  try {
    const response = await fetch(base + "/v1/chat/completions", { method: "POST", headers: { ...headers, ...more }, body });
    return { status: response.status, id: response.headers.get("x-request-id"), text: await response.text() };
  } catch (error) {
    return { error: String(error) };
  }
};
await report({ good: await ask({}), refused: await ask({ "Authorization": "Bearer nonsense" }), other: await ask({ "X-Other": "1" }) });
</script>"#;

#[tokio::test]
async fn a_page_of_a_listed_origin_chats_with_the_headers_of_openais_library() -> Result<()> {
    let server = PageServer::start().await?;
    let stack =
        Stack::of(Service::FakeText).gateway_env("VIDEOSDGX_CORS_ORIGINS", server.origin()).start()?;
    let page = PAGE
        .replace("BASE", stack.gateway.url())
        .replace("TOKEN", &stack.token("page", "generate")?)
        .replace("MODEL", stack.prefix().trim_start_matches("/models/"));
    let reported = server.report_of(&page).await?;
    assert_eq!(reported["good"]["status"], 200, "{reported}");
    assert!(
        reported["good"]["text"].as_str().is_some_and(|text| text.contains("data: [DONE]")),
        "{reported}"
    );
    assert!(reported["good"]["id"].is_string(), "{reported}");
    // The page can read why it was refused; a header that is not allowed stops the request in the browser.
    assert_eq!(reported["refused"]["status"], 401, "{reported}");
    assert!(reported["other"]["error"].is_string(), "{reported}");
    Ok(())
}
