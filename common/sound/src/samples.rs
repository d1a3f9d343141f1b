//! Samples of one or several channels.

/// Sound as f32 samples, `[channels, samples]`, usually from -1 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    rate: u32,
    samples: Vec<Vec<f32>>,
}

impl Sound {
    /// Sound of `rate` samples per second. `samples`: `[channels, samples]`; `None` when there is no channel, the channels
    /// differ in length, or `rate` is 0.
    #[must_use]
    pub fn new(rate: u32, samples: Vec<Vec<f32>>) -> Option<Self> {
        let length = samples.first()?.len();
        let is_sound = rate > 0 && samples.iter().all(|channel| channel.len() == length);
        is_sound.then_some(Self { rate, samples })
    }

    /// Samples per second.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// `[channels, samples]`.
    #[must_use]
    pub fn samples(&self) -> &[Vec<f32>] {
        &self.samples
    }

    /// Number of channels, at least 1.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.samples.len()
    }

    /// Samples of each channel.
    #[must_use]
    pub fn length(&self) -> usize {
        self.samples.first().map_or(0, Vec::len)
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.length() as f64 / f64::from(self.rate)
    }

    /// Whether no sample is NaN or infinite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.samples.iter().flatten().all(|sample| sample.is_finite())
    }

    /// Cuts what is after `seconds`.
    #[must_use]
    pub fn cut_to(mut self, seconds: f64) -> Self {
        let length = (seconds.max(0.0) * f64::from(self.rate)).round() as usize;
        self.samples.iter_mut().for_each(|channel| channel.truncate(length));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_has_channels_of_equal_length() {
        for (rate, samples) in [(8_000, vec![]), (0, vec![vec![0.0]]), (8_000, vec![vec![0.0], vec![]])] {
            assert_eq!(Sound::new(rate, samples), None);
        }
        let sound = Sound::new(8_000, vec![vec![0.5; 4_000]; 2]).unwrap();
        assert_eq!((sound.channels(), sound.length(), sound.seconds()), (2, 4_000, 0.5));
        assert_eq!(sound.clone().cut_to(0.25).seconds(), 0.25);
        assert_eq!(sound.clone().cut_to(9.0), sound);
        assert!(sound.is_finite());
        assert!(!Sound::new(8_000, vec![vec![f32::INFINITY]]).unwrap().is_finite());
    }
}
