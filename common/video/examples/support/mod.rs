//! Times the decoding of random latents: arguments, clocks and memory, the same for every autoencoder.

#![expect(clippy::disallowed_methods, reason = "the examples read a variable of their own")]

use std::path::PathBuf;
use std::time::Instant;

use tch::Kind;

/// Where to decode, and what.
pub(crate) struct Arguments {
    /// The checkpoint's folder.
    pub(crate) folder: PathBuf,
    /// What to compute in.
    pub(crate) kind: Kind,
    /// Height, width in pixels.
    pub(crate) size: [i64; 2],
    /// Frames of the latents.
    pub(crate) latent_frames: i64,
    repeats: usize,
}

impl Arguments {
    /// Reads `FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]` and sets the number of threads: `THREADS`, by
    /// default 2.
    pub(crate) fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [folder, kind, height, width, frames, rest @ ..] = arguments.as_slice() else {
            return Err("arguments: FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]".into());
        };
        tch::set_num_threads(std::env::var("THREADS").map_or(Ok(2), |count| count.parse())?);
        Ok(Self {
            folder: folder.into(),
            kind: if kind == "bf16" { Kind::BFloat16 } else { Kind::Float },
            size: [height.parse()?, width.parse()?],
            latent_frames: frames.parse()?,
            repeats: rest.first().map_or(Ok(3), |count| count.parse())?,
        })
    }

    /// Prints the seconds of each call of `decode`, on the clock and of processor time (which other programs disturb
    /// less), and the growth of the resident memory meanwhile, as JSON.
    pub(crate) fn measure<E>(&self, mut decode: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let before = resident("VmRSS");
        let (mut seconds, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..self.repeats {
            let (start, used) = (Instant::now(), processor_seconds());
            decode()?;
            seconds.push(format!("{:.3}", start.elapsed().as_secs_f64()));
            processor.push(format!("{:.3}", processor_seconds() - used));
        }
        let growth = resident("VmHWM").saturating_sub(before) / 1024;
        let (seconds, processor) = (seconds.join(", "), processor.join(", "));
        println!("{{\"seconds\": [{seconds}], \"processor\": [{processor}], \"growth_mib\": {growth}}}");
        Ok(())
    }
}

/// A line of `/proc/self/status`, in KiB.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Time that all threads of this process have run, from `/proc/self/stat`.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
