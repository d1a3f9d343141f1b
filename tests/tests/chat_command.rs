//! `videosdgx chat` against a real gateway and service.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result};
use videosdgx_tests::{Service, Stack, binary};

fn chat(stack: &Stack, arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(binary("videosdgx")?)
        .arg("chat")
        .args(arguments)
        .env_clear()
        .env("VIDEOSDGX_URL", stack.gateway.url())
        // As where the gateway runs: the token is minted with its key.
        .env("VIDEOSDGX_AUTH_DIR", stack.folder().join("auth"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

#[tokio::test]
async fn questions_conversations_and_mistakes() -> Result<()> {
    let stack = Stack::of(Service::FakeText).start()?;
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let output = chat(&stack, &["say Bonjour, ça va?", "--stats"], "")?;
    assert_eq!(said(&output), "Bonjour, ça va?\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains(" tokens, the first after "), "{output:?}");
    let output = chat(&stack, &[], "count 4")?;
    assert_eq!(said(&output), "1 2 3 4\n");
    let output = chat(&stack, &["-i", "--max-tokens", "5"], "say one\nforever\n/reset\nsay two\n")?;
    assert_eq!(said(&output), "one\nabcde\ntwo\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cut off"), "{output:?}");

    for (arguments, status, words) in [
        (&["x", "--temperature", "7"][..], 3, "field temperature"),
        (&["x", "--model", "nobody"][..], 3, "model_not_found"),
        (&["forbidden"][..], 3, "forbidden"),
        (&["fail"][..], 6, "cut off"),
    ] {
        let output = chat(&stack, arguments, "")?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    Ok(())
}

#[tokio::test]
async fn the_small_model_knows_the_capital_of_france() -> Result<()> {
    let stack = Stack::of(Service::Text).env("VIDEOSDGX_DTYPE", "f32").start()?;
    let question = "What is the capital of France?";
    let output = chat(&stack, &[question, "--temperature", "0", "--max-tokens", "40"], "")?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(answer.contains("Paris"), "{answer}");
    Ok(())
}
