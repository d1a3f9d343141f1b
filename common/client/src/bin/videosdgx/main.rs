//! The `videosdgx` command: make videos, chat with models, manage jobs, mint tokens, download checkpoints.

mod args;
mod chat;
mod connect;
mod failure;
mod generate;
mod jobs;
mod loras;
mod pull;
mod settings;
mod show;
mod token;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use failure::{Exit, Failure};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        // In a conversation Ctrl-C ends an answer, not the program.
        Command::Chat(command) => chat::run(&args.server, command).await,
        command => tokio::select! {
            outcome = run(args.server, command) => outcome,
            // Dropping the work is safe: received data is kept, and jobs continue on the server.
            () = interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        },
    };
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

/// Completes when Ctrl-C is pressed.
pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn run(server: args::Server, command: Command) -> Result<(), Failure> {
    match command {
        Command::Chat(command) => chat::run(&server, command).await,
        Command::Generate(command) => generate::run(&server, command).await,
        Command::Jobs(command) => jobs::list(&server, command).await,
        Command::Job(command) => jobs::show(&server, command).await,
        Command::Cancel(command) => jobs::cancel(&server, command).await,
        Command::Download(command) => jobs::download(&server, command).await,
        Command::Models(command) => jobs::models(&server, command).await,
        Command::Loras(command) => loras::list(&server, command).await,
        Command::Token(command) => token::run(command),
        Command::Pull(command) => pull::run(command).await,
        Command::Health(command) => {
            let listen = command.listen;
            let check = tokio::task::spawn_blocking(move || videosdgx_client::health::check(&listen)).await;
            check
                .unwrap_or_else(|error| Err(error.to_string()))
                .map_err(|reason| Failure::new(Exit::Unavailable, reason))
        }
    }
}
