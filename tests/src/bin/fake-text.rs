//! A text service with a decoder that has no model: the message determines what it writes (see `FakeBackend`). The duration of a step is
//! simulated: `VIDEOSDGX_FAKE_STEP_MS` for itself, `VIDEOSDGX_FAKE_TOKEN_US` for each token in it.

use std::{process::ExitCode, time::Duration};

use videosdgx_decoder_api::{Decoder, DecoderError, DecoderShape, Logits, Segment};
use videosdgx_text_service::{
    ModelError, TextBackend, TextCheckpoint,
    fake::{FakeBackend, FakeDecoder},
};

/// Maximum context in tokens (a token is a byte).
const CONTEXT: usize = 16 * 1024;

#[expect(clippy::disallowed_methods, reason = "settings are read here")]
fn main() -> ExitCode {
    videosdgx_text_service::main("fake-text", |config| {
        let mut fake = FakeBackend::from_config(config)?;
        fake.max_context = CONTEXT;
        let microseconds = std::env::var("VIDEOSDGX_FAKE_TOKEN_US").ok().and_then(|text| text.parse().ok());
        Ok(Costly { fake, token_time: Duration::from_micros(microseconds.unwrap_or(0)) })
    })
}

/// A fake backend whose steps take time for each token.
struct Costly {
    fake: FakeBackend,
    token_time: Duration,
}

impl TextBackend for Costly {
    type Model = CostlyDecoder;

    fn checkpoint(&self) -> Result<TextCheckpoint, ModelError> {
        self.fake.checkpoint()
    }

    fn load(&self, checkpoint: &TextCheckpoint) -> Result<CostlyDecoder, ModelError> {
        Ok(CostlyDecoder { fake: self.fake.load(checkpoint)?, token_time: self.token_time })
    }
}

struct CostlyDecoder {
    fake: FakeDecoder,
    token_time: Duration,
}

impl Decoder for CostlyDecoder {
    fn shape(&self) -> DecoderShape {
        self.fake.shape()
    }

    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError> {
        self.fake.resize_cache(blocks)
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        let tokens = segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        #[expect(clippy::disallowed_methods, reason = "stands for work of the inference thread")]
        std::thread::sleep(self.token_time * u32::try_from(tokens).unwrap_or(u32::MAX));
        self.fake.step(segments)
    }
}
