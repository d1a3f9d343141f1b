//! Talking: the typed stream, and the command's questions and conversations.

#![expect(clippy::unwrap_used, reason = "a test stops where its premises fail")]

mod support;

use std::process::{Output, Stdio};

use support::talk::{
    Ending::{Cut, Error, Hanging, Refused, Whole},
    Talk,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use videosdgx_api::openai::{ChatMessage, ChatRequest, Role};
use videosdgx_client::{Client, ClientError};

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_videosdgx"));
    command
        .arg("chat")
        .args(arguments)
        .env_clear()
        .env("VIDEOSDGX_URL", url)
        .env("VIDEOSDGX_TOKEN", "canary-token")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn chat(url: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = command(url, arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input may be gone already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_stream_gives_its_chunks_and_says_how_it_ended() {
    let (talk, url) =
        Talk::serve(&[(&["Par", "is", "."], Whole), (&["Pa"], Error), (&["Pa"], Cut), (&[], Refused)]).await;
    let client = Client::new(&url, Some("t".to_owned().into())).unwrap();
    let messages = vec![ChatMessage::text(Role::User, "capital?")];
    let request = ChatRequest { model: Some("qwen3-4b".into()), messages, ..Default::default() };
    let mut endings = Vec::new();
    for _ in 0..4 {
        let mut said = String::new();
        let mut tokens = None;
        let outcome = async {
            let mut stream = client.chat_stream(&request).await?;
            while let Some(chunk) = stream.next().await? {
                tokens = chunk.usage.flatten().map(|usage| usage.completion_tokens).or(tokens);
                said.extend(chunk.choices.into_iter().filter_map(|choice| choice.delta.content.flatten()));
            }
            assert!(stream.next().await?.is_none());
            Ok::<_, ClientError>(())
        };
        let outcome = outcome.await;
        endings.push((said, tokens, outcome));
    }
    assert!(matches!(&endings[0], (said, Some(3), Ok(())) if said == "Paris."), "{endings:?}");
    assert!(matches!(&endings[1], (said, None, Err(ClientError::CutOff { code, .. }))
        if said == "Pa" && code == "memory_limit_exceeded"));
    assert!(matches!(&endings[2], (said, None, Err(ClientError::Broken { .. })) if said == "Pa"));
    assert!(matches!(&endings[3].2, Err(ClientError::Refused(problem)) if problem.status == 400));
    let asked = talk.asked.lock().unwrap();
    assert_eq!(
        (&asked[0]["stream"], &asked[0]["stream_options"]["include_usage"]),
        (&true.into(), &true.into())
    );
}

#[tokio::test]
async fn a_question_is_answered_on_standard_output() {
    let (talk, url) = Talk::serve(&[(&["The capital is", " Paris."], Whole), (&["two\n"], Whole)]).await;
    let arguments =
        ["capital?", "--system", "Be brief.", "--max-tokens", "9", "-t", "0.5", "--seed", "7", "--stats"];
    let output = chat(&url, &arguments, "").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "The capital is Paris.\n");
    assert!(text(&output.stderr).starts_with("2 tokens, the first after "), "{}", text(&output.stderr));
    assert_eq!(talk.messages(0), ["system: Be brief.", "user: capital?"]);
    {
        let asked = talk.asked.lock().unwrap();
        assert_eq!(asked[0]["model"], "qwen3-4b", "the first choice among those that make text");
        let told = (&asked[0]["max_completion_tokens"], &asked[0]["temperature"], &asked[0]["seed"]);
        assert_eq!(told, (&9.into(), &0.5.into(), &7.into()));
    }
    let output = chat(&url, &["-m", "glm47"], "how many?\nlines?").await;
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("two\n", ""));
    assert_eq!(talk.messages(1), ["user: how many?\nlines?"]);
    assert_eq!(talk.asked.lock().unwrap()[1]["model"], "glm47");
}

#[tokio::test]
async fn each_way_to_fail_has_its_status() {
    let (_talk, url) = Talk::serve(&[(&[], Refused), (&["Pa"], Error), (&["Pa"], Cut)]).await;
    for (input, arguments, status, said, words) in [
        ("", &["x", "-t", "9"][..], 3, "", "field temperature"),
        ("", &["x"][..], 6, "Pa\n", "the answer was cut off: no memory for the cache"),
        ("", &["x"][..], 5, "Pa\n", "the connection to 127.0.0.1"),
        (" \n", &[][..], 1, "", "it is empty"),
        ("", &["x", "--max-tokens", "0"][..], 2, "", "--max-tokens"),
    ] {
        let output = chat(&url, arguments, input).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), said);
        assert!(stderr.contains(words) && !stderr.contains("canary"), "{arguments:?}: {stderr}");
    }
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    assert_eq!(chat(&closed, &["x"], "").await.status.code(), Some(5));
}

#[tokio::test]
async fn a_conversation_is_remembered_until_it_is_reset() {
    let (talk, url) =
        Talk::serve(&[(&["one"], Whole), (&[], Error), (&["two"], Whole), (&["three"], Whole)]).await;
    let lines = "first\n\nlost\nsecond\n/what\n/reset\nthird\n/exit\nnever\n";
    let output = chat(&url, &["-i", "--system", "S"], lines).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "one\ntwo\nthree\n");
    assert!(text(&output.stderr).contains("cut off") && text(&output.stderr).contains("cleared"));
    assert_eq!(talk.messages(2), ["system: S", "user: first", "assistant: one", "user: second"]);
    assert_eq!(talk.messages(3), ["system: S", "user: third"]);
    assert_eq!(talk.asked.lock().unwrap().len(), 4);
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[tokio::test]
async fn ctrl_c_stops_an_answer_and_the_conversation_continues() {
    let (talk, url) = Talk::serve(&[(&["half an"], Hanging), (&["whole"], Whole), (&["x"], Hanging)]).await;
    let mut child = command(&url, &["-i"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdin.write_all(b"first\n").await.unwrap();
    let mut half = [0; 7];
    stdout.read_exact(&mut half).await.unwrap();
    assert_eq!(&half, b"half an", "it is shown as it is made");
    interrupt(&child);
    talk.saying(0).await;
    stdin.write_all(b"second\n").await.unwrap();
    let mut rest = String::new();
    stdout.read_line(&mut rest).await.unwrap();
    stdout.read_line(&mut rest).await.unwrap();
    assert_eq!(rest, "\nwhole\n");
    assert_eq!(talk.messages(1), ["user: first", "assistant: half an", "user: second"]);
    drop(stdin);
    assert!(child.wait().await.unwrap().success());

    // A single question is not a conversation.
    let mut child = command(&url, &["x"]).spawn().unwrap();
    let mut shown = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut shown).await.unwrap();
    interrupt(&child);
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
    talk.saying(0).await;
}
