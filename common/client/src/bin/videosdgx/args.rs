use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use videosdgx_api::{JobId, JobStatus, OutputFormat, Priority, Resolution, SchedulerName};
use videosdgx_auth::Scopes;

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
Exit status: 0 done · 1 something on this side (a file, a checksum) · 2 wrong usage · 3 the server refused the request ·
4 no token, or not a good enough one · 5 the server cannot be reached or cannot serve now · 6 the job failed or the
answer broke off ·
7 the job was cancelled · 130 interrupted (the job goes on)

The token comes from VIDEOSDGX_TOKEN, or is minted with the gateway's key folder (VIDEOSDGX_AUTH_DIR, else
state/auth) where this user may read it.";

/// Which gateway.
#[derive(Debug, ClapArgs)]
pub(crate) struct Server {
    /// The gateway's address.
    #[arg(long, env = "VIDEOSDGX_URL", default_value = videosdgx_client::DEFAULT_URL, global = true)]
    pub(crate) url: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a video from a prompt; waits and saves it unless told otherwise.
    Generate(Box<Generate>),
    /// Talk to a model; the answer appears as it is made.
    Chat(Chat),
    /// List your jobs, newest first.
    Jobs(Jobs),
    /// Show one job.
    Job(Job),
    /// Cancel a job.
    Cancel(Cancel),
    /// Save the video of a completed job; goes on where an earlier attempt broke off.
    Download(Download),
    /// List the models.
    Models(Models),
    /// Mint a token with the gateway's key.
    Token(Token),
    /// Fetch an official checkpoint; goes on where an earlier attempt broke off.
    Pull(Pull),
    /// Ask a program of this machine for its health (for containers).
    Health(Health),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Generate {
    /// What the video shows.
    pub(crate) prompt: String,
    /// The model; wan21, or the only one there is, unless told.
    #[arg(short, long, env = "VIDEOSDGX_MODEL")]
    pub(crate) model: Option<String>,
    /// What it should not show.
    #[arg(short, long)]
    pub(crate) negative_prompt: Option<String>,
    /// Seconds.
    #[arg(short, long, conflicts_with = "num_frames")]
    pub(crate) duration: Option<f64>,
    /// Frames per second.
    #[arg(long)]
    pub(crate) fps: Option<u32>,
    /// Size, for example 832x480.
    #[arg(short, long, value_name = "WIDTHxHEIGHT")]
    pub(crate) resolution: Option<Resolution>,
    /// Frames (4k+1); 1 makes a still.
    #[arg(long)]
    pub(crate) num_frames: Option<u32>,
    /// Denoising steps.
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// Classifier-free guidance, 1 (none) to 20.
    #[arg(long)]
    pub(crate) guidance_scale: Option<f64>,
    /// Same seed, same video.
    #[arg(short, long)]
    pub(crate) seed: Option<u64>,
    /// 0 (least urgent) to 9.
    #[arg(long, value_parser = priority)]
    pub(crate) priority: Option<Priority>,
    /// First frame, for image-to-video models: a PNG, JPEG or WebP file.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// Codec: h264 or av1.
    #[arg(long, value_parser = named::<OutputFormat>)]
    pub(crate) format: Option<OutputFormat>,
    /// Sampler: unipc or euler.
    #[arg(long, value_parser = named::<SchedulerName>)]
    pub(crate) scheduler: Option<SchedulerName>,
    /// Wait and save the video (what happens unless told otherwise).
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Only submit, and print the job's id.
    #[arg(long, overrides_with = "wait")]
    pub(crate) no_wait: bool,
    /// Where to save it; <job>.mp4 unless told.
    #[arg(short, long, value_name = "FILE", conflicts_with = "no_wait")]
    pub(crate) output: Option<PathBuf>,
    /// Makes sending the same request again safe: one key, one job.
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Chat {
    /// The question; without it, standard input is asked as a whole, or a conversation begins where that is a terminal.
    pub(crate) question: Option<String>,
    /// The model; qwen3-4b, or the only one that makes text, unless told.
    #[arg(short, long, env = "VIDEOSDGX_CHAT_MODEL")]
    pub(crate) model: Option<String>,
    /// What the model should know or be beforehand.
    #[arg(short, long)]
    pub(crate) system: Option<String>,
    /// Most tokens of an answer.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_tokens: Option<u64>,
    /// 0 (always the likeliest token) to 2.
    #[arg(short, long)]
    pub(crate) temperature: Option<f64>,
    /// Same seed, same answer.
    #[arg(long)]
    pub(crate) seed: Option<i64>,
    /// A conversation, a line of standard input at a time, also where that is no terminal.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Say after each answer how many tokens it had and how quick they were.
    #[arg(long)]
    pub(crate) stats: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Jobs {
    /// The model; wan21, or the only one there is, unless told.
    #[arg(short, long, env = "VIDEOSDGX_MODEL")]
    pub(crate) model: Option<String>,
    /// Only jobs in this state.
    #[arg(long, value_parser = named::<JobStatus>)]
    pub(crate) status: Option<JobStatus>,
    /// How many.
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
    /// Also remove the job and its video for good, when it has ended already too.
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
    /// Where to save it; <job>.mp4 unless told.
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
pub(crate) struct Token {
    /// Whose: jobs belong to a subject.
    #[arg(long, default_value_t = crate::connect::user())]
    pub(crate) subject: String,
    /// What for: generate, read, admin.
    #[arg(long, default_value = "generate read")]
    pub(crate) scope: Scopes,
    /// How long: 90s, 30m, 12h, 30d.
    #[arg(long, default_value = "30d", value_parser = seconds)]
    pub(crate) ttl: std::time::Duration,
    /// The gateway's key folder.
    #[arg(long, env = "VIDEOSDGX_AUTH_DIR")]
    pub(crate) auth_dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Pull {
    /// A name of `--list`, or a repository (owner/name).
    #[arg(required_unless_present = "list")]
    pub(crate) checkpoint: Option<String>,
    /// Say what can be pulled by name.
    #[arg(long)]
    pub(crate) list: bool,
    /// The folder of all checkpoints.
    #[arg(long, env = "VIDEOSDGX_MODELS_DIR", default_value = "models")]
    pub(crate) models_dir: PathBuf,
    /// The service that is to serve it; known for the named ones.
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Have the service serve this checkpoint from now on, also when it serves another.
    #[arg(long)]
    pub(crate) activate: bool,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    pub(crate) revision: String,
    /// A Hugging Face-compatible endpoint.
    #[arg(long, env = "HF_ENDPOINT", default_value = videosdgx_client::pull::DEFAULT_ENDPOINT)]
    pub(crate) endpoint: String,
    /// Check the bytes of files that are there already.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    /// Where the program listens.
    #[arg(env = "VIDEOSDGX_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
}

fn priority(text: &str) -> Result<Priority, String> {
    text.parse().ok().and_then(Priority::new).ok_or_else(|| "a priority is 0 to 9".to_owned())
}

/// Reads a word by the API's own spelling.
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
        .ok_or_else(|| "a time is spelled 90s, 30m, 12h or 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
