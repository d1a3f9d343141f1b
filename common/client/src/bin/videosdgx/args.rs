use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use videosdgx_api::{JobId, JobStatus};
use videosdgx_auth::Scopes;

use crate::settings::SettingArgs;

/// Make videos from prompts and talk to models, with a VideosDGX gateway.
#[derive(Debug, Parser)]
#[command(name = "videosdgx", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit status: 0 success · 1 local error (a file, a checksum) · 2 wrong usage · 3 the server refused the request ·
4 token missing, invalid or without the required scope · 5 the server cannot be reached or cannot serve now ·
6 the job failed or the answer was cut off · 7 the job was cancelled · 130 interrupted (the job continues)

The token comes from VIDEOSDGX_TOKEN, or is minted with the gateway's key folder (VIDEOSDGX_AUTH_DIR, default
state/auth) if this user may read it.";

/// The gateway to use.
#[derive(Debug, ClapArgs)]
pub(crate) struct Server {
    /// The gateway's address.
    #[arg(long, env = "VIDEOSDGX_URL", default_value = videosdgx_client::DEFAULT_URL, global = true)]
    pub(crate) url: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a video from a prompt; waits for it and saves it by default.
    Generate(Box<Generate>),
    /// Chat with a model; the answer appears while it is generated.
    Chat(Chat),
    /// List your jobs, newest first.
    Jobs(Jobs),
    /// Show one job.
    Job(Job),
    /// Cancel a job.
    Cancel(Cancel),
    /// Save the video of a completed job; continues an interrupted download.
    Download(Download),
    /// List the models.
    Models(Models),
    /// List the LoRAs that `generate --lora` can name.
    Loras(Loras),
    /// Mint a token with the gateway's key.
    Token(Token),
    /// Download an official checkpoint; continues an interrupted download.
    Pull(Pull),
    /// Check the health of a program on this machine (for containers).
    Health(Health),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Generate {
    /// Prompt: what the video shows.
    pub(crate) prompt: String,
    /// The model. Default: wan21, or the only one.
    #[arg(short, long, env = "VIDEOSDGX_MODEL")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Wait and save the video (the default).
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Only submit, and print the job's id.
    #[arg(long, overrides_with = "wait")]
    pub(crate) no_wait: bool,
    /// File to save it to. Default: the job's id with the extension of its format.
    #[arg(short, long, value_name = "FILE", conflicts_with = "no_wait")]
    pub(crate) output: Option<PathBuf>,
    /// Requests with the same key make one job, so that sending again is safe.
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Chat {
    /// The question. Default: all of standard input, or a conversation when that is a terminal.
    pub(crate) question: Option<String>,
    /// The model. Default: qwen3-4b, or the only text model.
    #[arg(short, long, env = "VIDEOSDGX_CHAT_MODEL")]
    pub(crate) model: Option<String>,
    /// System prompt: instructions that precede the conversation.
    #[arg(short, long)]
    pub(crate) system: Option<String>,
    /// Most tokens of an answer.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_tokens: Option<u64>,
    /// Sampling temperature: 0 (always the most likely token) to 2.
    #[arg(short, long)]
    pub(crate) temperature: Option<f64>,
    /// Same seed, same answer.
    #[arg(long)]
    pub(crate) seed: Option<i64>,
    /// A conversation, one line of standard input at a time, even when that is not a terminal.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Print the number of tokens and their rate after each answer.
    #[arg(long)]
    pub(crate) stats: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Jobs {
    /// The model. Default: wan21, or the only one.
    #[arg(short, long, env = "VIDEOSDGX_MODEL")]
    pub(crate) model: Option<String>,
    /// Only jobs with this status.
    #[arg(long, value_parser = named::<JobStatus>)]
    pub(crate) status: Option<JobStatus>,
    /// Largest number of jobs.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// Print them as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Job {
    /// The job.
    pub(crate) id: JobId,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Cancel {
    /// The job.
    pub(crate) id: JobId,
    /// Also delete the job and its video, even if it has already ended.
    #[arg(long)]
    pub(crate) forget: bool,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Download {
    /// The job.
    pub(crate) id: JobId,
    /// File to save it to. Default: the job's id with the extension of its format.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Models {
    /// Print them as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Loras {
    /// The model. Default: wan21, or the only one.
    #[arg(short, long, env = "VIDEOSDGX_MODEL")]
    pub(crate) model: Option<String>,
    /// Print them as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Token {
    /// Subject of the token; jobs belong to a subject.
    #[arg(long, default_value_t = crate::connect::user())]
    pub(crate) subject: String,
    /// Scopes: generate, read, admin.
    #[arg(long, default_value = "generate read")]
    pub(crate) scope: Scopes,
    /// Lifetime: 90s, 30m, 12h, 30d.
    #[arg(long, default_value = "30d", value_parser = seconds)]
    pub(crate) ttl: std::time::Duration,
    /// The gateway's key folder.
    #[arg(long, env = "VIDEOSDGX_AUTH_DIR")]
    pub(crate) auth_dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Pull {
    /// A name from `--list`, or a repository (owner/name).
    #[arg(required_unless_present = "list")]
    pub(crate) checkpoint: Option<String>,
    /// List the checkpoints that can be pulled by name.
    #[arg(long)]
    pub(crate) list: bool,
    /// The folder of all checkpoints.
    #[arg(long, env = "VIDEOSDGX_MODELS_DIR", default_value = "models")]
    pub(crate) models_dir: PathBuf,
    /// The service that will serve it. Default for named checkpoints: their service.
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Make the service use this checkpoint, even if it uses another one now.
    #[arg(long)]
    pub(crate) activate: bool,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    pub(crate) revision: String,
    /// A Hugging Face-compatible endpoint.
    #[arg(long, env = "HF_ENDPOINT", default_value = videosdgx_client::pull::DEFAULT_ENDPOINT)]
    pub(crate) endpoint: String,
    /// Check the bytes of files that already exist.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    /// Address that the program listens on.
    #[arg(env = "VIDEOSDGX_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
}

/// Parses a word as the API spells it.
fn named<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    let word = serde_json::Value::String(word.to_lowercase());
    serde_json::from_value(word).map_err(|error| error.to_string())
}

/// `90s`, `30m`, `12h`, `30d`, or seconds.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|seconds| *seconds > 0)
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| "a time is written as 90s, 30m, 12h or 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use videosdgx_api::OutputFormat;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_and_words_are_read_strictly() {
        assert_eq!(seconds("12h"), Ok(std::time::Duration::from_secs(43_200)));
        for bad in ["", "h", "0", "-1s", "1w", "99999999999999999999d", "1.5h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(named::<JobStatus>("Processing"), Ok(JobStatus::Running));
        assert!(named::<OutputFormat>("vp9").unwrap_err().contains("h264"));
    }
}
