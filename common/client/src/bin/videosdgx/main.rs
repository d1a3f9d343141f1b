//! The `videosdgx` command: make videos, look after jobs, mint tokens, fetch checkpoints.

mod args;
mod connect;
mod failure;
mod generate;
mod jobs;
mod pull;
mod show;
mod token;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use failure::{Exit, Failure};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Dropping the work at Ctrl-C is safe: what was fetched is kept, and jobs go on at the server.
    let outcome = tokio::select! {
        outcome = run(args) => outcome,
        () = interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Generate(command) => generate::run(&args.server, command).await,
        Command::Jobs(command) => jobs::list(&args.server, command).await,
        Command::Job(command) => jobs::show(&args.server, command).await,
        Command::Cancel(command) => jobs::cancel(&args.server, command).await,
        Command::Download(command) => jobs::download(&args.server, command).await,
        Command::Models(command) => jobs::models(&args.server, command).await,
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
