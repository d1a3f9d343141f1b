//! Published clients use text services through the gateway.

use anyhow::Result;
use videosdgx_tests::{Service, Stack, run_python};

#[tokio::test]
async fn the_official_client_talks_streams_and_keeps_to_schemas() -> Result<()> {
    // What it says is compared: not a matter of rounding.
    let stack = Stack::of(Service::Text).env("VIDEOSDGX_DTYPE", "f32").start()?;
    let token = stack.token("openai-user", "generate read")?;
    let printed = run_python("openai_chat.py", [stack.gateway.url(), &token, Service::Text.name(), "real"])?;
    assert_eq!(printed.trim(), "ok");
    Ok(())
}

#[tokio::test]
async fn the_official_client_calls_tools_and_sees_thoughts() -> Result<()> {
    let stack = Stack::of(Service::FakeText).start()?;
    let token = stack.token("openai-user", "generate read")?;
    let printed =
        run_python("openai_chat.py", [stack.gateway.url(), &token, Service::FakeText.name(), "fake"])?;
    assert_eq!(printed.trim(), "ok");
    Ok(())
}

#[tokio::test]
async fn a_websocket_client_generates_cancels_resumes_and_is_told_its_mistakes() -> Result<()> {
    let stack = Stack::of(Service::FakeText).start()?;
    let [mine, other] = ["socket-user", "somebody-else"].map(|name| stack.token(name, "generate"));
    let printed = run_python("websocket_client.py", [stack.gateway.url(), &stack.prefix(), &mine?, &other?])?;
    assert_eq!(printed.trim(), "ok");
    Ok(())
}

#[tokio::test]
async fn the_real_model_speaks_websocket_too() -> Result<()> {
    let stack = Stack::of(Service::Text).start()?;
    let [mine, other] = ["socket-user", "somebody-else"].map(|name| stack.token(name, "generate"));
    let printed = run_python("websocket_client.py", [stack.gateway.url(), &stack.prefix(), &mine?, &other?])?;
    assert_eq!(printed.trim(), "ok");
    Ok(())
}
