//! A fake decoder, loader and language for tests of the engine.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::executor::block_on;
use videosdgx_model::{Load, LoaderConfig, ModelLoader};

use crate::telemetry::StreamingTelemetryCollector;
use crate::{
    Completed, Constraint, EngineConfig, GenerationRequest, Language, Prompt, SamplingParams, StopConditions,
    StreamError, StreamEvent, TextDecoder, TextEngine, TextPiece, TokenMask, TokenMatcher, TokenStream,
};
use videosdgx_decoder_api::{
    BLOCK_TOKENS, Decoder, DecoderError, DecoderShape, Logits, LogitsRequest, Segment,
};

/// Ids below it are characters from `!` on; the decoder's rows have four more values, which are padding.
pub(crate) const VOCAB: usize = 60;
/// The end token.
pub(crate) const END: u32 = 59;
/// A prompt with it fails every step it is in.
pub(crate) const POISON: u32 = 57;
/// A prompt with it panics.
pub(crate) const BOMB: u32 = 58;
/// A prompt with it produces NaN logits.
pub(crate) const NOTHING: u32 = 56;

/// A stop string that makes the text decoder panic.
pub(crate) const FAULT: &str = "fault";

/// Script and record of the decoder.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) step_delay: Duration,
    /// Numbers of steps (from 0) that fail.
    pub(crate) fail_steps: BTreeSet<usize>,
    /// Numbers of steps that run out of memory.
    pub(crate) starve_steps: BTreeSet<usize>,
    /// Number of the step at which the device fails for good.
    pub(crate) broken_from: Option<usize>,
    /// Maximum number of blocks; resizing beyond it fails.
    pub(crate) most_blocks: Option<usize>,
    /// Loads that fail before one succeeds.
    pub(crate) failing_loads: usize,
    /// While `true`, steps and loads block.
    pub(crate) closed: bool,
    /// Tokens of each segment of each step.
    pub(crate) steps: Vec<Vec<usize>>,
    pub(crate) loads: usize,
    pub(crate) blocks: usize,
    pub(crate) most_blocks_seen: usize,
}

/// The script, shared with the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stage(Arc<(Mutex<Script>, Condvar)>);

impl Stage {
    pub(crate) fn new(script: Script) -> Self {
        Self(Arc::new((Mutex::new(script), Condvar::new())))
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unblocks steps and loads.
    pub(crate) fn open(&self) {
        self.script().closed = false;
        self.0.1.notify_all();
    }

    pub(crate) fn close(&self) {
        self.script().closed = true;
    }

    /// Waits until this many steps have begun.
    pub(crate) fn wait_for_steps(&self, steps: usize) {
        let mut script = self.script();
        while script.steps.len() < steps {
            script = self.0.1.wait(script).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass(&self, mut script: MutexGuard<'_, Script>) {
        while script.closed {
            script = self.0.1.wait(script).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Its logits are a function of all earlier tokens, read from its cache, so that errors in block tables change the output.
pub(crate) struct FakeDecoder {
    stage: Stage,
    cache: Vec<[u32; BLOCK_TOKENS]>,
}

impl Decoder for FakeDecoder {
    fn shape(&self) -> DecoderShape {
        DecoderShape { vocab: VOCAB + 4, max_context: 8192, cache_bytes_per_token: 64, vision: false }
    }

    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError> {
        let mut script = self.stage.script();
        if script.most_blocks.is_some_and(|most| blocks > most) {
            return Err(DecoderError::OutOfMemory(format!("{blocks} blocks")));
        }
        script.blocks = blocks;
        script.most_blocks_seen = script.most_blocks_seen.max(blocks);
        self.cache.resize(blocks, [u32::MAX; BLOCK_TOKENS]);
        Ok(())
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        let mut script = self.stage.script();
        let number = script.steps.len();
        script.steps.push(segments.iter().map(|segment| segment.tokens.len()).collect());
        let (fails, starves) = (script.fail_steps.contains(&number), script.starve_steps.contains(&number));
        let broken = script.broken_from.is_some_and(|first| number >= first);
        let delay = script.step_delay;
        self.stage.0.1.notify_all();
        self.stage.pass(script);
        if !delay.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "stands for work of the inference thread")]
            std::thread::sleep(delay);
        }
        if broken {
            return Err(DecoderError::DeviceFailed("CUDA error: as the script says".to_owned()));
        }
        if fails {
            return Err(DecoderError::Failed("as the script says".to_owned()));
        }
        if starves {
            return Err(DecoderError::OutOfMemory("as the script says".to_owned()));
        }
        let mut rows = Vec::new();
        for segment in segments {
            for (position, token) in (segment.start..).zip(segment.tokens) {
                self.cache[segment.blocks[position / BLOCK_TOKENS] as usize][position % BLOCK_TOKENS] =
                    *token;
            }
            let mut hash = 0x1234_5678_9abc_def1_u64;
            let (mut poisoned, mut bomb, mut nothing) = (false, false, false);
            for position in 0..segment.start + segment.tokens.len() {
                let token =
                    self.cache[segment.blocks[position / BLOCK_TOKENS] as usize][position % BLOCK_TOKENS];
                assert!(token != u32::MAX, "a position that was never computed is read");
                hash = mix(hash ^ u64::from(token));
                poisoned |= token == POISON;
                bomb |= token == BOMB;
                nothing |= token == NOTHING;
            }
            if poisoned {
                return Err(DecoderError::Failed("poison".to_owned()));
            }
            assert!(!bomb, "bomb");
            if segment.logits == LogitsRequest::Last {
                rows.extend((0..VOCAB as u64 + 4).map(|id| logit(hash, id, nothing)));
            }
        }
        Ok(Logits::new(VOCAB + 4, rows))
    }
}

fn logit(hash: u64, id: u64, nothing: bool) -> f32 {
    match id as usize {
        _ if nothing => f32::NAN,
        // Padding has the highest logits, to check that it is masked; special tokens must not be sampled.
        id if id >= VOCAB => 50.0,
        id if id >= NOTHING as usize => -100.0,
        id => (mix(hash ^ id as u64) >> 40) as f32 / (1 << 24) as f32 * 6.0,
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (value ^ (value >> 29)).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the checkpoint is not there")]
pub(crate) struct FakeLoadError;

pub(crate) struct FakeLoad(Stage);

pub(crate) fn fake_load(stage: &Stage) -> FakeLoad {
    FakeLoad(stage.clone())
}

impl Load for FakeLoad {
    type Model = FakeDecoder;
    type Error = FakeLoadError;

    fn declared_peak(&self) -> Result<u64, FakeLoadError> {
        Ok(1)
    }

    fn load(&self) -> Result<FakeDecoder, FakeLoadError> {
        let mut script = self.0.script();
        script.loads += 1;
        let fails = script.failing_loads > 0;
        script.failing_loads = script.failing_loads.saturating_sub(1);
        self.0.pass(script);
        if fails { Err(FakeLoadError) } else { Ok(FakeDecoder { stage: self.0.clone(), cache: Vec::new() }) }
    }
}

/// A language in which each token is a character.
pub(crate) struct Letters;

pub(crate) fn letter(id: u32) -> char {
    char::from_u32(0x21 + id).unwrap_or('?')
}

impl Language for Letters {
    fn vocab(&self) -> usize {
        VOCAB
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let id = |letter: char| (letter as u32).checked_sub(0x21).filter(|id| (*id as usize) < VOCAB);
        text.chars().map(|letter| id(letter).ok_or_else(|| format!("{letter:?} is not known"))).collect()
    }

    fn token_bytes(&self, id: u32) -> Vec<u8> {
        letter(id).to_string().into_bytes()
    }

    fn text_decoder(&self, _prompt: &[u32], stop: &[String]) -> Box<dyn TextDecoder> {
        Box::new(LetterText { stop: stop.to_vec(), held: String::new() })
    }

    fn matcher(&self, constraint: &Constraint) -> Result<Box<dyn TokenMatcher>, String> {
        match constraint {
            Constraint::Regex(text) => Ok(Box::new(Literal(self.encode(text)?.into()))),
            _ => Err("only literal texts".to_owned()),
        }
    }
}

struct LetterText {
    stop: Vec<String>,
    held: String,
}

impl TextDecoder for LetterText {
    fn push(&mut self, id: u32) -> TextPiece {
        assert!(!self.stop.iter().any(|stop| stop == FAULT), "fault");
        self.held.push(letter(id));
        for stop in &self.stop {
            if let Some(at) = self.held.find(stop.as_str()) {
                return TextPiece { text: self.held[..at].to_owned(), stop: Some(stop.clone()) };
            }
        }
        let begins = |tail: &str| self.stop.iter().any(|stop| stop.starts_with(tail));
        let keep = (0..self.held.len()).find(|at| begins(&self.held[*at..])).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        TextPiece { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// A constraint that allows exactly one text.
struct Literal(std::collections::VecDeque<u32>);

impl TokenMatcher for Literal {
    fn allowed(&mut self, mask: &mut TokenMask) -> Result<(), String> {
        mask.allow(*self.0.front().ok_or("nothing may follow")?);
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<bool, String> {
        match self.0.pop_front() {
            Some(wanted) if wanted == id => Ok(self.0.is_empty()),
            _ => Err(format!("{id} is not allowed")),
        }
    }
}

/// An engine over a fake decoder.
pub(crate) struct Rig {
    pub(crate) engine: TextEngine,
    pub(crate) stage: Stage,
    pub(crate) loader: ModelLoader<FakeLoad>,
    pub(crate) telemetry: StreamingTelemetryCollector,
}

pub(crate) fn config() -> EngineConfig {
    let mut config = EngineConfig::new("fake", 8192);
    // Fake steps are much faster than the target, so the batch size is fixed.
    config.batch.min = 8;
    config.batch.max = 8;
    config.kv_cache = crate::KvCacheSize::Bytes(64 << 20);
    config
}

impl Rig {
    pub(crate) fn new(script: Script, config: EngineConfig) -> Self {
        let stage = Stage::new(script);
        let loader = ModelLoader::new(FakeLoad(stage.clone()), LoaderConfig::new("fake")).unwrap();
        let telemetry = StreamingTelemetryCollector::default();
        let engine = TextEngine::start(loader.clone(), config, Arc::new(Letters), telemetry.clone()).unwrap();
        Self { engine, stage, loader, telemetry }
    }

    pub(crate) fn plain() -> Self {
        Self::new(Script::default(), config())
    }

    pub(crate) fn run(&self, request: GenerationRequest) -> Output {
        collect(self.engine.submit(request).unwrap())
    }

    /// Waits until all ended streams have been removed.
    pub(crate) fn wait_until_idle(&self) {
        for _ in 0..10_000 {
            let now = self.engine.snapshot();
            if now.running + now.waiting + now.paused == 0 {
                return;
            }
            std::thread::yield_now();
            #[expect(clippy::disallowed_methods, reason = "a test polls on its own thread")]
            std::thread::sleep(Duration::from_micros(200));
        }
        panic!("not idle: {:?}", self.engine.snapshot());
    }
}

/// A greedy request whose prompt shares no block with that of another `kind`.
pub(crate) fn request(id: &str, kind: u32, prompt: usize, max_tokens: usize) -> GenerationRequest {
    GenerationRequest {
        id: id.to_owned(),
        principal: "somebody".to_owned(),
        prompt: Prompt {
            tokens: (0..prompt as u32).map(|at| (at + kind) % 50).collect(),
            images: Vec::new(),
        },
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop: StopConditions { max_tokens, token_ids: vec![END], ..StopConditions::default() },
        constraint: None,
        logprobs: None,
        priority: 5,
        deadline: None,
    }
}

pub(crate) fn sampled(mut request: GenerationRequest, seed: u64) -> GenerationRequest {
    request.sampling = SamplingParams { seed: Some(seed), ..SamplingParams::default() };
    request
}

/// All events of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) errors: Vec<StreamError>,
    pub(crate) end: Completed,
}

pub(crate) fn collect(stream: TokenStream) -> Output {
    block_on(gather(stream))
}

pub(crate) async fn gather(mut stream: TokenStream) -> Output {
    let (mut ids, mut text, mut errors) = (Vec::new(), String::new(), Vec::new());
    while let Some(event) = stream.next().await {
        match event {
            StreamEvent::Token(token) => {
                assert_eq!(token.position, ids.len());
                ids.push(token.id);
                text.push_str(&token.text);
            }
            StreamEvent::Error(error) => errors.push(error),
            StreamEvent::Completed(end) => {
                text.push_str(&end.text);
                assert_eq!(stream.next().await, None, "nothing comes after the end");
                assert_eq!(end.usage.completion_tokens, ids.len());
                return Output { ids, text, errors, end };
            }
        }
    }
    panic!("the stream ended without a last event");
}
