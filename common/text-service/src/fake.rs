//! A backend without a model, for tests of the service. The last message of the conversation determines its output.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};
use videosdgx_api::TextModelDescription;
use videosdgx_decoder_api::{
    BLOCK_TOKENS, Decoder, DecoderError, DecoderShape, Logits, LogitsRequest, Segment,
};
use videosdgx_model::{CheckpointVersion, ModelError};
use videosdgx_shell::{ServiceConfig, environment};

use crate::{TextBackend, TextCheckpoint};

/// The first word of the last user message selects the answer:
///
/// | message | answer |
/// |---|---|
/// | `say X` | `X` |
/// | `count 5` | `1 2 3 4 5` |
/// | `call f {"a": 1}` | a call of the tool `f`, as Hermes writes it |
/// | `think X \| Y` | `X` as reasoning, then `Y` |
/// | `forever` | the alphabet, repeated without end |
/// | `random` | letters with equal probabilities, without end |
/// | `fail` | every step with this sequence fails |
/// | `nan` | the logits are not numbers |
/// | `stumble X` | one step with this sequence fails, then `X` |
/// | anything else | `You said: …` |
///
/// A prompt without messages is continued with the alphabet. Each token is one byte.
#[derive(Debug, Clone)]
pub struct FakeBackend {
    /// Folder of the checkpoint's configuration and tokenizer files.
    pub folder: PathBuf,
    /// Duration of a step.
    pub step_time: Duration,
    /// Duration of a load.
    pub load_time: Duration,
    /// Reported memory demand in bytes.
    pub declared_peak: u64,
    /// Maximum number of tokens of prompt and answer together.
    pub max_context: usize,
    /// Number of loads.
    pub loads: Arc<AtomicU64>,
    /// Largest number of sequences in a step.
    pub largest_batch: Arc<AtomicU64>,
    /// Number of computed tokens.
    pub computed: Arc<AtomicU64>,
}

const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const MARKERS: [&str; 4] = ["<tool_call>", "</tool_call>", "<think>", "</think>"];
const END: u32 = 258;
const START: u32 = 257;
/// Padded, like the vocabularies of published checkpoints.
const VOCAB: usize = 272;

/// A shortened `ChatML` template with tools in Hermes format and optional reasoning.
const TEMPLATE: &str = r#"{%- if tools %}<|im_start|>system
Call tools within <tool_call></tool_call>:{% for tool in tools %} {{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}{%- for message in messages %}{%- if message.content is string and 'forbidden' in message.content %}{{ raise_exception('that is forbidden') }}{% endif %}<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking %}<think>
{% endif %}{% endif %}"#;

impl FakeBackend {
    /// Writes the checkpoint's configuration and tokenizer files into `folder`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string());
        write("tokenizer.json", tokenizer())?;
        write("tokenizer_config.json", json!({ "eos_token": "<|im_end|>", "chat_template": TEMPLATE }))?;
        write(
            "config.json",
            json!({ "model_type": "fake", "max_position_embeddings": 1 << 20, "eos_token_id": END }),
        )?;
        write("generation_config.json", json!({ "eos_token_id": [END, 256] }))?;
        Ok(Self {
            folder: folder.to_owned(),
            step_time: Duration::ZERO,
            load_time: Duration::ZERO,
            declared_peak: 1 << 20,
            max_context: 4096,
            loads: Arc::default(),
            largest_batch: Arc::default(),
            computed: Arc::default(),
        })
    }

    /// The backend of the program `fake-text`: `VIDEOSDGX_CHECKPOINT` is the folder (default: `fake-checkpoint` in the state
    /// folder), `VIDEOSDGX_FAKE_STEP_MS` the duration of a step (default: 0).
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn from_config(config: &ServiceConfig) -> Result<Self, String> {
        let folder = config.checkpoint.clone().unwrap_or_else(|| config.state_dir.join("fake-checkpoint"));
        let mut backend = Self::new(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let milliseconds = environment("VIDEOSDGX_FAKE_STEP_MS").and_then(|text| text.parse().ok());
        backend.step_time = Duration::from_millis(milliseconds.unwrap_or(0));
        Ok(backend)
    }
}

/// A tokenizer whose tokens are bytes, without merges.
fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> =
        (0_u32..256).map(|byte| (letter(byte).to_string(), json!(byte))).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .map(|content| (content, true))
        .chain(MARKERS.iter().map(|content| (content, false)))
        .zip(256_u32..)
        .map(|((content, special), id)| {
            json!({ "id": id, "content": content, "special": special, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false })
        })
        .collect();
    let bytes =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                   "vocab": vocabulary, "merges": [] }
    })
}

/// GPT-2's character for a byte: the byte itself if printable, else one from 256 on.
fn letter(byte: u32) -> char {
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let code = if printable(&byte) {
        byte
    } else {
        256 + (0..byte).filter(|other| !printable(other)).count() as u32
    };
    char::from_u32(code).unwrap_or('?')
}

impl TextBackend for FakeBackend {
    type Model = FakeDecoder;

    fn checkpoint(&self) -> Result<TextCheckpoint, ModelError> {
        let file = self.folder.join("config.json");
        let text = fs::read(&file).map_err(|_| ModelError::CheckpointMissing {
            path: file,
            hint: "create it again with FakeBackend::new".to_owned(),
        })?;
        let config: Value = serde_json::from_slice(&text).unwrap_or_default();
        let vocab = config["vocab_size"].as_u64().and_then(|size| usize::try_from(size).ok());
        let description = TextModelDescription {
            name: "fake".to_owned(),
            checkpoint: config["_name_or_path"].as_str().unwrap_or("fake-bytes").to_owned(),
            architecture: "FakeForCausalLM".to_owned(),
            demonstration: true,
            device: "cpu".to_owned(),
            device_reason: "as configured".to_owned(),
            dtype: "f32".to_owned(),
            quantization: "none".to_owned(),
            parameters: 0,
            max_context: self.max_context as u64,
            vision: false,
        };
        Ok(TextCheckpoint {
            description,
            location: self.folder.clone(),
            version: CheckpointVersion::of(&self.folder).map_err(ModelError::failed)?,
            vocab: vocab.unwrap_or(VOCAB),
            peak: self.declared_peak,
        })
    }

    fn load(&self, _: &TextCheckpoint) -> Result<FakeDecoder, ModelError> {
        pause(self.load_time);
        let broken = self.folder.join("broken");
        if broken.exists() {
            return Err(ModelError::CheckpointInvalid {
                file: broken,
                reason: "the file `broken` exists".to_owned(),
            });
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(FakeDecoder {
            step_time: self.step_time,
            max_context: self.max_context,
            largest_batch: Arc::clone(&self.largest_batch),
            computed: Arc::clone(&self.computed),
            cache: Vec::new(),
            stumbled: AtomicBool::new(false),
        })
    }
}

/// A decoder without weights. Its KV cache holds the tokens, so that its output shows whether the engine manages the blocks
/// correctly.
#[derive(Debug)]
pub struct FakeDecoder {
    step_time: Duration,
    max_context: usize,
    largest_batch: Arc<AtomicU64>,
    computed: Arc<AtomicU64>,
    cache: Vec<[u32; BLOCK_TOKENS]>,
    stumbled: AtomicBool,
}

impl Decoder for FakeDecoder {
    fn shape(&self) -> DecoderShape {
        DecoderShape { vocab: VOCAB, max_context: self.max_context, cache_bytes_per_token: 4, vision: false }
    }

    fn resize_cache(&mut self, blocks: usize) -> Result<(), DecoderError> {
        self.cache.resize(blocks, [0; BLOCK_TOKENS]);
        Ok(())
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
        pause(self.step_time);
        self.largest_batch.fetch_max(segments.len() as u64, Ordering::Relaxed);
        let mut values = Vec::new();
        for segment in segments {
            for (at, token) in (segment.start..).zip(segment.tokens) {
                let block = segment.blocks[at / BLOCK_TOKENS] as usize;
                self.cache[block][at % BLOCK_TOKENS] = *token;
            }
            self.computed.fetch_add(segment.tokens.len() as u64, Ordering::Relaxed);
            let rows = match segment.logits {
                LogitsRequest::None => 0..0,
                LogitsRequest::Last => segment.tokens.len() - 1..segment.tokens.len(),
                LogitsRequest::All => 0..segment.tokens.len(),
            };
            for row in rows {
                let known = self.tokens(segment, segment.start + row + 1);
                values.extend(self.logits(&known)?);
            }
        }
        Ok(Logits::new(VOCAB, values))
    }
}

impl FakeDecoder {
    /// The first `count` tokens of a sequence, read from the cache.
    fn tokens(&self, segment: &Segment<'_>, count: usize) -> Vec<u32> {
        let block = |at: usize| self.cache[segment.blocks[at / BLOCK_TOKENS] as usize];
        (0..count).map(|at| block(at)[at % BLOCK_TOKENS]).collect()
    }

    fn logits(&self, known: &[u32]) -> Result<Vec<f32>, DecoderError> {
        // Characters that close JSON are more likely, so that constrained output ends.
        let mut row: Vec<f32> = (0_u32..).take(VOCAB).map(|id| -(id as f32) / 1e4).collect();
        for (bytes, logit) in [(&b"\"}]"[..], 6.0), (b":,", 5.0), (b"0123456789", 4.0), (b"abcdefgh", 2.0)] {
            for byte in bytes {
                row[usize::from(*byte)] = logit;
            }
        }
        match self.next(known)? {
            Next::Token(id) => row[id as usize] = 40.0,
            Next::NotANumber => row.fill(f32::NAN),
            Next::Letter => (b'a'..=b'z').for_each(|byte| row[usize::from(byte)] = 40.0),
        }
        Ok(row)
    }

    fn next(&self, known: &[u32]) -> Result<Next, DecoderError> {
        let Some(opened) = known.iter().rposition(|id| *id == START) else {
            return Ok(Next::Token(alphabet(known.len())));
        };
        let answer = bytes(&known[opened + 1..]);
        let answer = answer.strip_prefix(b"assistant\n").unwrap_or(&answer);
        let thinking = answer.starts_with(b"<think>\n");
        let written = if thinking { answer.len() - b"<think>\n".len() } else { answer.len() };
        let before = bytes(&known[..opened]);
        let before = String::from_utf8_lossy(&before);
        let asked = before.rsplit("user\n").next().unwrap_or_default().trim();
        let (word, rest) = asked.split_once(' ').unwrap_or((asked, ""));
        let reply = match word {
            "forever" => return Ok(Next::Token(alphabet(written))),
            "random" => return Ok(Next::Letter),
            "nan" => return Ok(Next::NotANumber),
            "fail" => return Err(DecoderError::Failed("requested by the message".to_owned())),
            "stumble" if written == 3 && !self.stumbled.swap(true, Ordering::Relaxed) => {
                return Err(DecoderError::Failed("requested by the message".to_owned()));
            }
            "say" | "stumble" => rest.to_owned(),
            "count" => {
                let most: u32 = rest.parse().unwrap_or(3);
                (1..=most).map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
            }
            "call" => {
                let (name, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
                format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
            }
            "think" => {
                let (thoughts, said) = rest.split_once('|').unwrap_or((rest, ""));
                format!("<think>{}</think>{}", thoughts.trim(), said.trim())
            }
            _ => format!("You said: {asked}"),
        };
        let reply = reply.strip_prefix("<think>").filter(|_| thinking).unwrap_or(&reply);
        Ok(Next::Token(encoded(reply, written)))
    }
}

#[expect(clippy::disallowed_methods, reason = "stands for work of the inference thread")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

enum Next {
    Token(u32),
    Letter,
    NotANumber,
}

fn alphabet(at: usize) -> u32 {
    u32::from(b"abcdefghijklmnopqrstuvwxyz "[at % 27])
}

/// The bytes of tokens: markers as their text, special tokens left out.
fn bytes(tokens: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(tokens.len());
    for id in tokens {
        match id {
            0..=255 => bytes.push(u8::try_from(*id).unwrap_or(b'?')),
            259.. => bytes.extend_from_slice(MARKERS.get(*id as usize - 259).unwrap_or(&"").as_bytes()),
            _ => {}
        }
    }
    bytes
}

/// The token of `reply` at byte `at`; the end token after its last byte.
fn encoded(reply: &str, at: usize) -> u32 {
    let bytes = reply.as_bytes();
    let marker = MARKERS
        .iter()
        .zip(259_u32..)
        .find(|(marker, _)| bytes.get(at..).is_some_and(|rest| rest.starts_with(marker.as_bytes())));
    match (marker, bytes.get(at)) {
        (Some((_, id)), _) => id,
        (None, Some(byte)) => u32::from(*byte),
        (None, None) => END,
    }
}
