//! The denoising loop of picture and sound.

use videosdgx_diffusion::schedulers::Scheduler;
use videosdgx_diffusion::{NoiseGenerator, PipelineError};
use videosdgx_tensor::{Kind, Tensor, TensorError, catch_libtorch_errors};

use super::guidance::{Predictions, clean, velocity};
use super::sampling::Guidance;
use super::tokens::VideoTokens;
use crate::transformer::{
    Branch, Context, GivenTokens, Latents, LtxTransformer, Positions, Prompt, Times, Timesteps, Velocity,
};

/// Most bytes of activations for which all branches of guidance are computed in one batch; beyond that, a batch gains no
/// speed for the memory it needs.
const BATCH_BYTES: i64 = 512 << 20;

/// A branch's place among the predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Prompt,
    Negative,
    Perturbed,
    Isolated,
}

/// What one denoising loop is about, beside the latents.
pub(super) struct Denoiser<'a> {
    transformer: &'a LtxTransformer,
    /// The branches of guidance, in one batch or several.
    batches: Vec<(Context, Vec<Role>)>,
    positions: Positions,
    guidance: Guidance,
    /// Whether the attention between the streams follows the other stream's noise level.
    across: bool,
}

/// Prompts of a generation; the negative one is there when the guidance uses it.
pub(super) struct Prompts<'a> {
    pub(super) prompt: Prompt<'a>,
    pub(super) negative: Option<Prompt<'a>>,
}

/// The sound while the picture is denoised.
pub(super) enum Sound {
    /// It is generated as well, from noise `[1, tokens, channels]` f32.
    Noise(Tensor),
    /// It is given, `[1, tokens, channels]` f32, and stays as it is.
    Given(Tensor),
}

impl Sound {
    fn tokens(&self) -> &Tensor {
        match self {
            Self::Noise(tokens) | Self::Given(tokens) => tokens,
        }
    }
}

/// Schedulers of picture and sound on the same schedule, and the noise that they add.
pub(super) struct Schedulers {
    pub(super) video: Box<dyn Scheduler>,
    pub(super) audio: Box<dyn Scheduler>,
    pub(super) noise: NoiseGenerator,
}

impl<'a> Denoiser<'a> {
    /// Prepares prompts, branches and positions of a generation.
    pub(super) fn new(
        transformer: &'a LtxTransformer,
        prompts: &Prompts<'_>,
        positions: Positions,
        guidance: Guidance,
        tokens: i64,
    ) -> Self {
        let config = transformer.config();
        let negative = prompts.negative.as_ref().filter(|_| guidance.uses_negative_prompt());
        let own = Branch::default();
        let mut branches = vec![(Role::Prompt, own)];
        if negative.is_some() {
            branches.push((Role::Negative, Branch { prompt: 1, ..own }));
        }
        if guidance.perturbs() {
            branches.push((Role::Perturbed, Branch { perturbed: true, ..own }));
        }
        if guidance.isolates() {
            branches.push((Role::Isolated, Branch { isolated: true, ..own }));
        }
        let prompts: Vec<Prompt<'_>> = std::iter::once(prompts.prompt).chain(negative.copied()).collect();
        let block = usize::try_from(super::sampling::perturbed_block(config.num_layers)).unwrap_or(0);
        let context = |branches: &[(Role, Branch)]| {
            let (roles, branches): (Vec<Role>, Vec<Branch>) = branches.iter().copied().unzip();
            (transformer.context(&prompts, &branches, &[block]), roles)
        };
        // The feed-forward part is four times as wide as the hidden state.
        let element = transformer.kind().elt_size_in_bytes() as i64;
        let widest = tokens.saturating_mul(config.width()) * (4 + 6) * element;
        let together = widest.saturating_mul(branches.len() as i64) <= BATCH_BYTES;
        let batches = match together {
            true => vec![context(&branches)],
            false => branches.iter().map(|branch| context(std::slice::from_ref(branch))).collect(),
        };
        let across = !config.use_prompt_embeddings;
        Self { transformer, batches, positions, guidance, across }
    }

    /// Takes picture and sound through the schedule → their tokens without noise, f32. `before_step(step)` may end it.
    pub(super) fn run<E: From<PipelineError>>(
        &self,
        tokens: &VideoTokens,
        sound: &Sound,
        schedulers: &mut Schedulers,
        mut before_step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(Tensor, Tensor), E> {
        let mut video = tokens.start.shallow_clone();
        let mut audio = sound.tokens().shallow_clone();
        let steps = schedulers.video.timesteps().to_vec();
        let sigmas = schedulers.video.sigmas().to_vec();
        for (step, (timestep, sigma)) in steps.into_iter().zip(sigmas).enumerate() {
            before_step(step)?;
            (video, audio) = catch_libtorch_errors(|| {
                let times = self.times(timestep, tokens.given.as_ref(), sound);
                let [video_clean, audio_clean] = self.predict(&video, &audio, &times, sigma);
                let video_clean = tokens.keep_given(&video_clean);
                let Schedulers { video: video_scheduler, audio: audio_scheduler, noise } = schedulers;
                let direction = velocity(&video, &video_clean, sigma);
                let next_video = video_scheduler.step(&direction, &video, &mut |shape| noise.normal(shape));
                // Stochastic schedulers add noise to given tokens as well.
                let next_video = tokens.keep_given(&next_video);
                let next_audio = match sound {
                    Sound::Given(given) => given.shallow_clone(),
                    Sound::Noise(_) => {
                        let direction = velocity(&audio, &audio_clean, sigma);
                        audio_scheduler.step(&direction, &audio, &mut |shape| noise.normal(shape))
                    }
                };
                Ok((next_video, next_audio))
            })
            .map_err(|error: TensorError| PipelineError::from(error))?;
        }
        Ok((video, audio))
    }

    fn times(&self, timestep: f64, given: Option<&GivenTokens>, sound: &Sound) -> Times {
        let video = match given {
            Some(given) => given.at(timestep),
            None => Timesteps::uniform(timestep),
        };
        let audio = match sound {
            Sound::Noise(_) => timestep,
            Sound::Given(_) => 0.0,
        };
        Times {
            video,
            audio: Timesteps::uniform(audio),
            sigma: timestep,
            audio_sigma: audio,
            across: self.across,
        }
    }

    /// The guided predictions of picture and sound without noise, `[1, tokens, channels]` f32.
    fn predict(&self, video: &Tensor, audio: &Tensor, times: &Times, sigma: f64) -> [Tensor; 2] {
        let mut of_role: Vec<(Role, Tensor, Tensor)> = Vec::new();
        for (context, roles) in &self.batches {
            let latents = Latents { video, audio: Some(audio) };
            let Velocity { video: of_video, audio: of_audio } =
                self.transformer.forward(latents, times, context, &self.positions);
            for (index, role) in (0..).zip(roles) {
                let branch = |all: &Tensor, sample: &Tensor| clean(sample, &all.narrow(0, index, 1), sigma);
                let sound = of_audio.as_ref().map_or_else(|| audio.shallow_clone(), |all| branch(all, audio));
                of_role.push((*role, branch(&of_video, video), sound));
            }
        }
        let of = |wanted: Role, sound: bool| {
            let found = of_role.iter().find(|(role, ..)| *role == wanted);
            found.map(|(_, video, audio)| if sound { audio } else { video }.shallow_clone())
        };
        let predictions = |sound: bool| Predictions {
            prompt: of(Role::Prompt, sound).unwrap_or_else(|| video.shallow_clone()),
            negative: of(Role::Negative, sound),
            perturbed: of(Role::Perturbed, sound),
            isolated: of(Role::Isolated, sound),
        };
        [predictions(false).guided(self.guidance.video), predictions(true).guided(self.guidance.audio)]
    }
}

/// The f32 tensor that a loop starts from: `noise` at the level `sigma`, and the rest of `latents`.
pub(super) fn noised(latents: &Tensor, noise: &Tensor, sigma: f64) -> Tensor {
    noise.to_kind(Kind::Float) * sigma + latents.to_kind(Kind::Float) * (1.0 - sigma)
}
