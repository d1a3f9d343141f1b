//! `videosdgx chat`: one question, or a conversation.

mod answer;
mod lines;

use std::io::{IsTerminal, Read, Write};

use answer::{Answer, End};
use lines::Lines;
use videosdgx_api::openai::{ChatMessage, ChatRequest, ModelKind, Role};
use videosdgx_client::Client;

use crate::{
    args::{Chat, Server},
    connect,
    failure::{Exit, Failure},
    interrupted,
};

/// Largest question that is read from standard input.
const MAX_QUESTION: u64 = 4 << 20;

const HELP: &str = "/reset clears the conversation · /exit or Ctrl-D quits · Ctrl-C stops an answer";

pub(crate) async fn run(server: &Server, command: Chat) -> Result<(), Failure> {
    let converses = command.interactive || command.question.is_none() && std::io::stdin().is_terminal();
    let question = match (&command.question, converses) {
        (Some(question), _) => Some(question.clone()),
        (None, true) => None,
        (None, false) => Some(whole_input()?),
    };
    let client = connect::client(server)?;
    let model = tokio::select! {
        model = connect::model(&client, command.model.clone(), ModelKind::Text) => model?,
        () = interrupted() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    let mut conversation = Conversation::new(model, &command);
    if converses {
        return converse(&client, &mut conversation, question, command.stats).await;
    }
    let question = question.unwrap_or_default();
    match conversation.ask(&client, question, command.stats).await? {
        End::Whole => Ok(()),
        End::Interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

/// One question per line until the end of the input or `/exit`.
async fn converse(
    client: &Client,
    conversation: &mut Conversation,
    first: Option<String>,
    stats: bool,
) -> Result<(), Failure> {
    eprintln!("{} · {HELP}", conversation.request.model.as_deref().unwrap_or_default());
    let mut lines = Lines::new();
    let mut given = first;
    loop {
        let line = match given.take() {
            Some(line) => line,
            None => {
                eprint!("> ");
                let _ = std::io::stderr().flush();
                tokio::select! {
                    line = lines.next() => match line {
                        Some(line) => line,
                        None => {
                            eprintln!();
                            return Ok(());
                        }
                    },
                    () = interrupted() => {
                        eprintln!();
                        return Err(Failure::new(Exit::Interrupted, "interrupted"));
                    }
                }
            }
        };
        match line.trim() {
            "" => {}
            "/exit" | "/quit" | "/bye" => return Ok(()),
            "/reset" => {
                conversation.reset();
                eprintln!("cleared");
            }
            command if command.starts_with('/') && !command.contains(char::is_whitespace) => {
                eprintln!("{HELP}")
            }
            _ => match conversation.ask(client, line, stats).await {
                Ok(End::Whole) => {}
                Ok(End::Interrupted) => eprintln!("(stopped)"),
                // The next question may succeed.
                Err(failure) => failure.print(),
            },
        }
    }
}

/// The messages so far and the parameters of requests.
struct Conversation {
    request: ChatRequest,
    /// Number of messages that a reset keeps.
    kept: usize,
}

impl Conversation {
    fn new(model: String, command: &Chat) -> Self {
        let messages: Vec<ChatMessage> =
            command.system.iter().map(|system| ChatMessage::text(Role::System, system)).collect();
        let kept = messages.len();
        let request = ChatRequest {
            model: Some(model),
            messages,
            max_completion_tokens: command.max_tokens,
            temperature: command.temperature,
            seed: command.seed,
            ..ChatRequest::default()
        };
        Self { request, kept }
    }

    fn reset(&mut self) {
        self.request.messages.truncate(self.kept);
    }

    /// Sends a question and prints the answer. Even a partial answer is added to the conversation; a question without an
    /// answer is removed from it.
    async fn ask(&mut self, client: &Client, question: String, stats: bool) -> Result<End, Failure> {
        let messages = &mut self.request.messages;
        let before = messages.len();
        messages.push(ChatMessage::text(Role::User, question));
        let mut answer = Answer::new();
        let ended = tokio::select! {
            ended = answer.receive(client, &self.request) => ended.map(|()| End::Whole),
            () = interrupted() => Ok(End::Interrupted),
        };
        answer.finish();
        if stats && ended.is_ok() {
            eprintln!("{}", answer.statistics());
        }
        let text = answer.into_text();
        if text.is_empty() {
            self.request.messages.truncate(before);
        } else {
            self.request.messages.push(ChatMessage::text(Role::Assistant, text));
        }
        ended
    }
}

/// All of standard input.
fn whole_input() -> Result<String, Failure> {
    let cannot = |reason: String| Failure::new(Exit::Local, format!("cannot read standard input: {reason}"));
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_QUESTION + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(error.to_string()))?;
    if bytes.len() as u64 > MAX_QUESTION {
        return Err(cannot(format!("a question has at most {MAX_QUESTION} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8".to_owned()))?;
    if text.trim().is_empty() {
        return Err(cannot("it is empty".to_owned()));
    }
    Ok(text)
}
