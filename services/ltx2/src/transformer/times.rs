//! Noise levels of a step.

use videosdgx_tensor::{Device, Tensor};

/// Timesteps (0 to 1000) of the tokens of a stream: few distinct ones, and which of them each token has.
#[derive(Debug)]
pub struct Timesteps {
    pub(super) values: Vec<f64>,
    /// Int64 `[tokens]`; absent when there is one value.
    pub(super) rows: Option<Tensor>,
}

impl Timesteps {
    /// The same timestep for all tokens.
    pub fn uniform(timestep: f64) -> Self {
        Self { values: vec![timestep], rows: None }
    }

    pub(super) fn shallow_clone(&self) -> Self {
        Self { values: self.values.clone(), rows: self.rows.as_ref().map(Tensor::shallow_clone) }
    }
}

/// How strongly each token of a stream is given; computed once per generation.
#[derive(Debug)]
pub struct GivenTokens {
    /// Distinct shares of the noise that remain.
    noise: Vec<f32>,
    /// Int64 `[tokens]`.
    rows: Tensor,
}

impl GivenTokens {
    /// `strengths` of the tokens: 0 for one that is generated, 1 for one that is given without noise.
    pub fn new(strengths: &[f32], device: Device) -> Self {
        let mut noise: Vec<f32> = Vec::new();
        let rows = strengths.iter().map(|strength| {
            let share = 1.0 - strength;
            let known = noise.iter().position(|known| known.to_bits() == share.to_bits());
            let row = known.unwrap_or_else(|| {
                noise.push(share);
                noise.len() - 1
            });
            row as i64
        });
        let rows = Tensor::from_slice(&rows.collect::<Vec<i64>>()).to_device(device);
        Self { noise, rows }
    }

    /// The tokens' timesteps when that of a generated token is `timestep`.
    pub fn at(&self, timestep: f64) -> Timesteps {
        let values: Vec<f64> = self.noise.iter().map(|share| f64::from(timestep as f32 * share)).collect();
        let rows = (values.len() > 1).then(|| self.rows.shallow_clone());
        Timesteps { values, rows }
    }
}

/// Noise levels of a step, as timesteps from 0 to 1000.
#[derive(Debug)]
pub struct Times {
    /// Of the tokens of the video.
    pub video: Timesteps,
    /// Of the tokens of the sound.
    pub audio: Timesteps,
    /// Of the video as a whole.
    pub sigma: f64,
    /// Of the sound as a whole.
    pub audio_sigma: f64,
    /// Whether the attention between the streams is modulated by the noise level of the whole other stream (2.3 and
    /// later, and the reference's default), instead of those of the stream's own tokens.
    pub across: bool,
}

impl Times {
    /// The same noise level for everything.
    pub fn uniform(timestep: f64) -> Self {
        Self {
            video: Timesteps::uniform(timestep),
            audio: Timesteps::uniform(timestep),
            sigma: timestep,
            audio_sigma: timestep,
            across: true,
        }
    }

    /// The same noise level for everything but the given tokens of the video.
    pub fn with_given(timestep: f64, video: &GivenTokens) -> Self {
        Self { video: video.at(timestep), ..Self::uniform(timestep) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_one_strength_share_a_timestep() {
        let given = GivenTokens::new(&[1.0, 0.0, 0.75, 0.0, 1.0], Device::Cpu);
        let times = given.at(800.0);
        assert_eq!(times.values, [0.0, 800.0, 200.0]);
        let rows = times.rows.expect("there are several");
        assert_eq!(Vec::<i64>::try_from(&rows).expect("numbers"), [0, 1, 2, 1, 0]);
        assert!(GivenTokens::new(&[0.0; 3], Device::Cpu).at(5.0).rows.is_none());
    }
}
