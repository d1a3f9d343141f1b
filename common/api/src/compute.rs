//! Configuration values: device, number format and weight quantization of a model.

use std::fmt;
use std::str::FromStr;

/// A configuration value that is not one of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {given:?}; use {known}")]
pub struct UnknownChoice {
    what: &'static str,
    given: String,
    known: &'static str,
}

impl UnknownChoice {
    /// `given` is not a valid `what`; `known` lists the valid values, for example "text or json".
    pub fn new(what: &'static str, given: impl Into<String>, known: &'static str) -> Self {
        Self { what, given: given.into(), known }
    }
}

/// The device that a model computes on: `auto`, `cpu`, `cuda` or `cuda:1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number.
    Cuda(u32),
}

/// Number format of activations and unquantised weights: `auto`, `bf16`, `f16` or `f32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DtypeChoice {
    /// bf16 on a GPU and on a CPU that multiplies bf16 in hardware, else f32.
    #[default]
    Auto,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Single precision. Weights stored as blocks of integers are also computed with exactly as stored.
    F32,
}

/// Weight format of large linear layers, converted to while loading: `none`, `fp8`, `nf4`, `nvfp4` or `int4`. Weights that
/// are quantized in the checkpoint keep their format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// As in the checkpoint.
    #[default]
    None,
    /// e4m3 with one scale per output channel: 8 bits per weight.
    Fp8,
    /// The 16 values of bitsandbytes' NF4, one scale per 64 weights: 4.5 bits per weight.
    Nf4,
    /// e2m1 with an e4m3 scale per 16 weights and one f32 scale per tensor: 4.5 bits per weight.
    Nvfp4,
    /// Integers from 0 to 15 with scale and offset per 32 weights: 5 bits per weight.
    Int4,
}

impl Quantization {
    /// Upper bound of the bytes that `parameters` weights of linear layers take in memory, `element` bytes each when not
    /// quantized.
    #[must_use]
    pub fn weight_bytes(self, parameters: u64, element: u64) -> u64 {
        match self {
            Self::None => parameters.saturating_mul(element),
            Self::Fp8 => parameters,
            Self::Nf4 | Self::Nvfp4 => parameters.saturating_mul(9).div_ceil(16),
            Self::Int4 => parameters.saturating_mul(5).div_ceil(8),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        match (text, index) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) => Ok(Self::Cuda(index)),
            _ => Err(UnknownChoice::new("device", text, "auto, cpu or cuda:0")),
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => Err(UnknownChoice::new("dtype", text, "auto, bf16, f16 or f32")),
        }
    }
}

impl FromStr for Quantization {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "none" => Ok(Self::None),
            "fp8" => Ok(Self::Fp8),
            "nf4" => Ok(Self::Nf4),
            "nvfp4" => Ok(Self::Nvfp4),
            "int4" => Ok(Self::Int4),
            _ => Err(UnknownChoice::new("quantization", text, "none, fp8, nf4, nvfp4 or int4")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Fp8 => "fp8",
            Self::Nf4 => "nf4",
            Self::Nvfp4 => "nvfp4",
            Self::Int4 => "int4",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_round_trips() {
        for word in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(word.parse::<DeviceChoice>().unwrap().to_string(), word);
        }
        for word in ["auto", "bf16", "f16", "f32"] {
            assert_eq!(word.parse::<DtypeChoice>().unwrap().to_string(), word);
        }
        for word in ["none", "fp8", "nf4", "nvfp4", "int4"] {
            assert_eq!(word.parse::<Quantization>().unwrap().to_string(), word);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
    }

    #[test]
    fn an_unknown_value_is_refused_with_the_known_ones() {
        for word in ["", "cuda:x", "cuda:", "cuda:-1", "gpu", "CPU"] {
            assert!(word.parse::<DeviceChoice>().is_err(), "{word}");
        }
        let error = "int3".parse::<Quantization>().unwrap_err().to_string();
        assert_eq!(error, "unknown quantization \"int3\"; use none, fp8, nf4, nvfp4 or int4");
        assert!("f64".parse::<DtypeChoice>().is_err());
    }

    #[test]
    fn quantized_weights_take_their_bits() {
        let bytes = |quantization: Quantization| quantization.weight_bytes(1024, 2);
        assert_eq!(bytes(Quantization::None), 2048);
        assert_eq!(bytes(Quantization::Fp8), 1024);
        assert_eq!((bytes(Quantization::Nf4), bytes(Quantization::Nvfp4)), (576, 576));
        assert_eq!(bytes(Quantization::Int4), 640);
    }
}
