//! The official OpenAI client through the gateway.

use anyhow::Result;
use videosdgx_tests::{Service, Stack, run_python};

#[tokio::test]
async fn the_official_client_makes_polls_lists_downloads_and_deletes() -> Result<()> {
    let stack = Stack::of(Service::Wan21).start()?;
    let token = stack.token("openai-user", "generate read")?;
    let printed = run_python("openai_videos.py", [stack.gateway.url(), &token, "wan21"])?;
    assert_eq!(printed.trim(), "ok");
    Ok(())
}
