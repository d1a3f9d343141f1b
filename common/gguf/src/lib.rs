//! The header of a GGUF file: metadata and places of tensors, bounded and never trusting a length. No libtorch.
