//! The WebSocket protocol.

use std::{collections::BTreeSet, time::Duration};

use futures::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};

use videosdgx_testing::TestClient;

use crate::support::{Socket, TestService, TextClient as _, text_of};

#[actix_web::test]
async fn the_example_of_the_specification() {
    let service = TestService::start().await;
    let mut socket = service.tester().socket().await;
    socket
        .say(json!({"type": "generate", "prompt": "abc", "max_tokens": 4, "params": {"temperature": 0.0, "top_p": 0.9}}))
        .await;
    let heard = socket.hear_until("complete").await;
    assert_eq!(text_of(&heard), "defg");
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let expected =
        |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(
        fields(&heard[0]),
        expected(&["token", "type"]),
        "nothing that the specification does not have"
    );
    assert_eq!(fields(&heard[0]["token"]), expected(&["id", "latency_ms", "position", "text"]));
    let positions: Vec<u64> =
        heard[..4].iter().map(|message| message["token"]["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 1, 2, 3]);
    let end = heard.last().unwrap();
    assert_eq!((&end["summary"]["total_tokens"], &end["finish_reason"]), (&json!(4), &json!("length")));
    for field in
        ["average_token_latency_ms", "max_memory_usage_mb", "session_duration_sec", "p95_token_latency_ms"]
    {
        assert!(end["summary"][field].is_number(), "{end}");
    }
}

#[actix_web::test]
async fn several_generations_run_on_one_connection_and_one_is_cancelled() {
    let service = TestService::start_with(|test| {
        test.backend.step_time = Duration::from_millis(2);
        test.backend.max_context = 1 << 20;
    })
    .await;
    let tester = service.tester();
    let mut socket = tester.socket().await;
    for (name, tokens) in [("long", 100_000), ("short", 5)] {
        socket
            .say(json!({"type": "generate", "request_id": name, "prompt": "abc", "max_tokens": tokens}))
            .await;
    }
    let heard = socket.hear_until("complete").await;
    assert_eq!(heard.last().unwrap()["request_id"], "short");
    let started: Vec<&Value> = heard.iter().filter(|message| message["type"] == "started").collect();
    assert_eq!(started.len(), 2);
    socket.say(json!({"type": "generate", "request_id": "long", "prompt": "a"})).await;
    let taken = socket.hear_until("error").await.pop().unwrap();
    assert_eq!(taken["error"]["field"], "request_id");
    socket.say(json!({"type": "cancel", "request_id": "nobody"})).await;
    assert_eq!(socket.hear_until("error").await.pop().unwrap()["error"]["code"], "not_found");
    socket.say(json!({"type": "cancel", "request_id": "long"})).await;
    let end = socket.hear_until("complete").await.pop().unwrap();
    assert_eq!(
        (&end["request_id"], &end["cancelled"], &end["finish_reason"]),
        (&json!("long"), &json!(true), &Value::Null)
    );
    tester.until_running(0).await;
}

#[actix_web::test]
async fn reasoning_and_tool_calls_are_separate() {
    let service = TestService::start().await;
    let mut socket = service.tester().socket().await;
    socket.say(json!({"type": "generate", "system_prompt": "rules", "prompt": "think hm | yes", "params": {"temperature": 0}})).await;
    let heard = socket.hear_until("complete").await;
    let thoughts: String =
        heard.iter().filter_map(|message| message["token"]["reasoning"].as_str()).collect();
    assert_eq!((text_of(&heard).as_str(), thoughts.as_str()), ("yes", "hm"));
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    socket
        .say(json!({"type": "generate", "messages": [{"role": "user", "content": "call f {\"a\": 1}"}],
                    "params": {"temperature": 0, "tools": tools}}))
        .await;
    let heard = socket.hear_until("complete").await;
    let calls: Vec<&Value> = heard.iter().filter(|message| message["type"] == "tool_call").collect();
    assert_eq!(calls[0]["tool_call"]["name"], "f");
    let arguments: String =
        calls.iter().map(|call| call["tool_call"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"a": 1}));
    assert_eq!(heard.last().unwrap()["finish_reason"], "tool_calls");
}

#[actix_web::test]
async fn invalid_messages_are_reported_and_the_connection_continues() {
    let service = TestService::start().await;
    let mut socket = service.tester().socket().await;
    for (message, field) in [
        (json!({"type": "sing"}), "type"),
        (json!({"type": "generate"}), "prompt"),
        (json!({"type": "generate", "prompt": 5}), "prompt"),
        (json!({"type": "generate", "prompt": ""}), "prompt"),
        (json!({"type": "generate", "prompt": "a", "max_tokens": 0}), "max_tokens"),
        (json!({"type": "generate", "prompt": "a", "params": {"top_p": 0}}), "params.top_p"),
        (
            json!({"type": "generate", "prompt": "a", "params": {"structured_outputs": {"regex": "("}}}),
            "params.structured_outputs.regex",
        ),
        (json!({"type": "generate", "prompt": "a", "messages": []}), "messages"),
        (json!({"type": "generate", "messages": []}), "messages"),
        (json!({"type": "generate", "prompt": "a", "request_id": "x".repeat(200)}), "request_id"),
    ] {
        socket.say(message.clone()).await;
        let error = socket.hear().await;
        assert_eq!(
            (&error["type"], &error["error"]["field"]),
            (&json!("error"), &json!(field)),
            "{message}: {error}"
        );
        assert_eq!(error["error"]["recoverable"], false);
        assert!(error["error"]["code"].is_string() && error["error"]["message"].is_string());
    }
    socket.socket.send(Message::text("nonsense")).await.unwrap();
    assert_eq!(socket.hear().await["error"]["code"], "invalid_body");
    socket.say(json!({"type": "generate", "prompt": "a".repeat(5000)})).await;
    assert_eq!(socket.hear().await["error"]["code"], "context_length_exceeded");
    socket.say(json!({"type": "generate", "prompt": "abc", "max_tokens": 1})).await;
    socket.hear_until("complete").await;
}

#[actix_web::test]
async fn messagepack_has_the_same_messages() {
    let service = TestService::start().await;
    let tester = service.tester();
    let token = format!("Bearer {}", tester.token);
    let mut socket = tester
        .socket_with(&[("authorization", &token), ("sec-websocket-protocol", "videosdgx.v1.msgpack")])
        .await
        .unwrap();
    assert_eq!(socket.protocol.as_deref(), Some("videosdgx.v1.msgpack"));
    let message = json!({"type": "generate", "prompt": "abc", "max_tokens": 2, "params": {"temperature": 0}});
    socket.socket.send(Message::binary(rmp_serde::to_vec_named(&message).unwrap())).await.unwrap();
    let mut heard: Vec<Value> = Vec::new();
    while heard.last().is_none_or(|message| message["type"] != "complete") {
        let Message::Binary(bytes) = socket.frame().await else { panic!() };
        heard.push(rmp_serde::from_slice(&bytes).unwrap());
    }
    assert_eq!(text_of(&heard), "de");
    socket.socket.send(Message::text("{}")).await.unwrap();
    assert_eq!(socket.closed().await, CloseCode::Unsupported);
}

#[actix_web::test]
async fn a_browser_sends_its_token_as_a_subprotocol() {
    let service = TestService::start().await;
    let tester = service.tester();
    let offer = format!("bearer.{}, videosdgx.v1.json", tester.token);
    let own = tester.base.clone();
    let socket = tester.socket_with(&[("sec-websocket-protocol", &offer), ("origin", &own)]).await.unwrap();
    assert_eq!(socket.protocol.as_deref(), Some("videosdgx.v1.json"), "and the token is not sent back");
}

async fn refused(api: &TestClient, headers: &[(&str, &str)]) -> u16 {
    match api.socket_with(headers).await {
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Ok(_) => panic!("it was opened"),
        Err(other) => panic!("{other}"),
    }
}

#[actix_web::test]
async fn missing_tokens_foreign_origins_and_unknown_protocols_are_refused() {
    let service = TestService::start_with(|test| {
        test.settings.origins = vec!["https://studio.example".to_owned()];
    })
    .await;
    let tester = service.tester();
    let token = format!("Bearer {}", tester.token);
    assert_eq!(refused(&tester, &[]).await, 401);
    assert_eq!(
        refused(&tester, &[("sec-websocket-protocol", "bearer.nonsense, videosdgx.v1.json")]).await,
        401
    );
    let reader = service.client("reader", "read");
    assert_eq!(refused(&reader, &[("authorization", &format!("Bearer {}", reader.token))]).await, 403);
    assert_eq!(refused(&tester, &[("authorization", &token), ("origin", "https://evil.example")]).await, 403);
    assert_eq!(refused(&tester, &[("authorization", &token), ("sec-websocket-protocol", "chat")]).await, 400);
    tester.socket_with(&[("authorization", &token), ("origin", "https://studio.example")]).await.unwrap();
    // 426 says what the path needs.
    let plain = tester.request(reqwest::Method::GET, "/stream");
    let plain = tester.send(plain).await;
    let old = tester
        .request(reqwest::Method::GET, "/stream")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "8");
    let old = tester.send(old).await;
    for answer in [plain, old] {
        assert_eq!(answer.code(426), "invalid_body");
        assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-version")), ("websocket", "13"));
        assert!(answer.header("connection").split(", ").any(|option| option == "upgrade"));
    }
}

#[actix_web::test]
async fn invalid_frames_close_the_connection_with_their_code() {
    let service = TestService::start().await;
    let tester = service.tester();
    let mut socket = tester.socket().await;
    socket.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(socket.closed().await, CloseCode::Unsupported);

    let mut socket = tester.socket().await;
    let too_large = "x".repeat(5 << 20);
    // The service may close the connection while the message is being sent.
    let _ = socket.socket.send(Message::text(too_large)).await;
    assert_eq!(socket.closed().await, CloseCode::Size);

    let mut socket = tester.socket().await;
    send_raw(&mut socket, 0x81, b"\xff\xfe\xfd").await;
    assert_eq!(socket.closed().await, CloseCode::Invalid);

    // A reserved bit.
    let mut socket = tester.socket().await;
    send_raw(&mut socket, 0xc1, b"x").await;
    assert_eq!(socket.closed().await, CloseCode::Protocol);

    // A reserved opcode.
    let mut socket = tester.socket().await;
    send_raw(&mut socket, 0x83, b"x").await;
    assert_eq!(socket.closed().await, CloseCode::Protocol);

    let mut socket = tester.socket().await;
    for _ in 0..=100 {
        socket.socket.send(Message::text("nonsense")).await.unwrap();
    }
    assert_eq!(socket.closed().await, CloseCode::Policy);
}

#[actix_web::test]
async fn a_frame_over_the_limit_is_refused_by_its_header() {
    use tokio::io::AsyncWriteExt as _;
    let service = TestService::start().await;
    let mut socket = service.tester().socket().await;
    let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.socket.get_mut() else { panic!() };
    let length = 300_000_000_u64.to_be_bytes();
    // Nothing of the payload is sent.
    stream.write_all(&[&[0x81, 0xff][..], &length, &[0; 4]].concat()).await.unwrap();
    assert_eq!(socket.closed().await, CloseCode::Size);
}

/// Sends a frame with an all-zero mask.
async fn send_raw(socket: &mut Socket, first: u8, payload: &[u8]) {
    use tokio::io::AsyncWriteExt as _;
    let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.socket.get_mut() else { panic!() };
    let length = u8::try_from(payload.len()).unwrap();
    let frame = [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat();
    stream.write_all(&frame).await.unwrap();
}

#[actix_web::test]
async fn a_silent_client_is_disconnected() {
    let service = TestService::start_with(|test| {
        test.settings.socket_idle = Duration::from_millis(600);
    })
    .await;
    let tester = service.tester();
    let mut socket = tester.socket().await;
    // Answering pings keeps it open.
    let polite = tokio::time::timeout(Duration::from_millis(1500), socket.frame()).await;
    assert!(polite.is_err(), "{polite:?}");
    socket.say(json!({"type": "generate", "prompt": "abc", "max_tokens": 1})).await;
    socket.hear_until("complete").await;
    // Without reading the socket no ping is answered.
    let mut gone = false;
    for _ in 0..1000 {
        let text = tester.get("/metrics").await.text();
        gone = text.lines().any(|line| line == "videosdgx_websockets{service=\"fake\"} 0");
        if gone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(gone, "it is still there");
}

/// Breaks the connection without a close frame.
fn cut(socket: Socket) {
    drop(socket);
}

#[actix_web::test]
async fn a_stream_is_resumed_after_a_lost_connection() {
    let service = TestService::start_with(|test| {
        test.backend.step_time = Duration::from_millis(3);
        test.settings.buffer_size = 40;
    })
    .await;
    let tester = service.tester();
    let mut socket = tester.socket().await;
    socket
        .say(json!({"type": "generate", "request_id": "r", "resumable": true, "prompt": "abc", "max_tokens": 200,
                    "params": {"temperature": 0}}))
        .await;
    let mut heard = socket.hear_until("started").await;
    let stream_id = heard[0]["stream_id"].as_str().unwrap().to_owned();
    for _ in 0..10 {
        heard.push(socket.hear().await);
    }
    let position = heard.last().unwrap()["token"]["position"].as_u64().unwrap();
    cut(socket);

    // The stream continues until its buffer is full. Other principals cannot resume it.
    for _ in 0..2000 {
        if tester.engine().await["kept_streams"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let resume = json!({"type": "resume", "stream_id": stream_id, "position": position});
    let mut other = service.client("somebody else", "generate read").socket().await;
    other.say(resume.clone()).await;
    assert_eq!(other.hear().await["error"]["code"], "stream_not_found");

    let mut socket = tester.socket().await;
    socket.say(resume).await;
    heard.extend(socket.hear_until("complete").await);
    let expected: String = "abcdefghijklmnopqrstuvwxyz ".chars().cycle().skip(3).take(200).collect();
    assert_eq!(text_of(&heard), expected, "no token is missing or repeated");
    assert_eq!(heard.last().unwrap()["request_id"], "r");
    socket.say(json!({"type": "resume", "stream_id": "nothing"})).await;
    assert_eq!(socket.hear().await["error"]["code"], "stream_not_found");
}

#[actix_web::test]
async fn a_stream_that_is_not_resumed_frees_its_sequence() {
    let service = TestService::start_with(|test| {
        test.backend.step_time = Duration::from_millis(2);
        test.backend.max_context = 1 << 20;
        test.settings.resume = Duration::from_millis(300);
    })
    .await;
    let tester = service.tester();
    for resumable in [true, false] {
        let mut socket = tester.socket().await;
        socket
            .say(json!({"type": "generate", "request_id": "r", "resumable": resumable, "prompt": "abc", "max_tokens": 100_000}))
            .await;
        socket.hear_until("token").await;
        tester.until_running(1).await;
        cut(socket);
        tester.until_running(0).await;
        assert_eq!(tester.engine().await["kept_streams"], 0);
    }
}

#[actix_web::test]
async fn a_slow_reader_pauses_its_stream_without_loss() {
    let service = TestService::start_with(|test| {
        test.settings.buffer_size = 50;
        test.backend.max_context = 1 << 20;
    })
    .await;
    let tester = service.tester();
    let mut slow = tester.narrow_socket().await;
    let tokens = 12_000;
    slow.say(json!({"type": "generate", "request_id": "slow", "prompt": "abc", "max_tokens": tokens, "params": {"temperature": 0}}))
        .await;
    // Nothing is read until the sockets' buffers are full and the stream pauses.
    let mut still = 0;
    let mut before = Value::Null;
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let now = tester.engine().await["generated_tokens"].clone();
        still = if now == before && now.as_u64() > Some(100) { still + 1 } else { 0 };
        if still == 8 {
            break;
        }
        before = now;
    }
    assert!(before.as_u64().unwrap() < tokens, "it never paused");
    // Other streams continue.
    assert_eq!(tester.chat("say quick", json!({})).await.status, 200);
    let heard = slow.hear_until("complete").await;
    let expected: String = "abcdefghijklmnopqrstuvwxyz ".chars().cycle().skip(3).take(12_000).collect();
    assert!(text_of(&heard) == expected, "the text is whole");
    assert!(heard.len() < 12_000, "tokens came together, since it was slow");
    assert!(heard.iter().any(|message| message["token"]["count"].as_u64() > Some(1)));
}

#[actix_web::test]
async fn mobile_profiles_get_fewer_and_larger_messages() {
    let service = TestService::start().await;
    let mut socket = service.tester().socket().await;
    let mut counts = Vec::new();
    for profile in ["desktop", "mobile", "battery"] {
        socket
            .say(json!({"type": "generate", "prompt": "abc", "max_tokens": 100, "profile": profile, "params": {"temperature": 0}}))
            .await;
        let heard = socket.hear_until("complete").await;
        assert_eq!(text_of(&heard).len(), 100);
        counts.push(heard.len());
    }
    assert!(counts[1] <= 40 && counts[2] <= 12, "{counts:?}");
    assert!(counts[2] < counts[1] && counts[1] < counts[0], "{counts:?}");
}
