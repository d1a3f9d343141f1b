//! The interface between the text engine and a language model: [`Decoder`], its input ([`Segment`]) and its output ([`Logits`]).
//!
//! The crate has no tokenizer, templates, grammars or libtorch, so that a model depends on this interface only, and the
//! engine (`videosdgx-text`) is built and tested without a tensor library.
//!
//! ```
//! use videosdgx_decoder_api::{BLOCK_TOKENS, Decoder, DecoderError, DecoderShape, Logits, LogitsRequest, Segment};
//!
//! /// Always predicts the token after the last one, modulo 8.
//! struct Successor;
//!
//! impl Decoder for Successor {
//!     fn shape(&self) -> DecoderShape {
//!         DecoderShape { vocab: 8, max_context: 128, cache_bytes_per_token: 1, vision: false }
//!     }
//!
//!     fn resize_cache(&mut self, _blocks: usize) -> Result<(), DecoderError> {
//!         Ok(())
//!     }
//!
//!     fn step(&mut self, segments: &[Segment<'_>]) -> Result<Logits, DecoderError> {
//!         let mut values = Vec::new();
//!         for segment in segments {
//!             let tokens = match segment.logits {
//!                 LogitsRequest::None => &[],
//!                 LogitsRequest::Last => &segment.tokens[segment.tokens.len() - 1..],
//!                 LogitsRequest::All => segment.tokens,
//!             };
//!             for token in tokens {
//!                 let mut row = [0.0; 8];
//!                 row[(*token as usize + 1) % 8] = 1.0;
//!                 values.extend(row);
//!             }
//!         }
//!         Ok(Logits::new(8, values))
//!     }
//! }
//!
//! let mut model = Successor;
//! model.resize_cache(128 / BLOCK_TOKENS)?;
//! let prompt =
//!     Segment { tokens: &[1, 2, 3], start: 0, blocks: &[0], images: &[], logits: LogitsRequest::Last };
//! let logits = model.step(&[prompt])?;
//! assert_eq!(logits.rows(), 1);
//! assert_eq!(logits.row(0)[4], 1.0);
//! # Ok::<(), DecoderError>(())
//! ```

mod decoder;
mod error;
mod image;
mod logits;
mod segment;

pub use decoder::{Decoder, DecoderShape};
pub use error::DecoderError;
pub use image::ImageInput;
pub use logits::Logits;
pub use segment::{BLOCK_TOKENS, BlockId, LogitsRequest, Segment};
