//! Width and height of a picture or video.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Width and height in pixels, written as `WIDTHxHEIGHT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resolution {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |side: &str| match side.as_bytes() {
            [b'1'..=b'9', rest @ ..] if rest.len() < 5 && rest.iter().all(u8::is_ascii_digit) => {
                side.parse().ok()
            }
            _ => None,
        };
        text.split_once('x')
            .and_then(|(width, height)| Some(Self { width: side(width)?, height: side(height)? }))
            .ok_or_else(|| "a resolution is written as WIDTHxHEIGHT, for example 832x480".to_owned())
    }
}

impl TryFrom<String> for Resolution {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Resolution> for String {
    fn from(resolution: Resolution) -> Self {
        resolution.to_string()
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_round_trip_and_invalid_ones_are_refused() {
        assert_eq!("832x480".parse(), Ok(Resolution { width: 832, height: 480 }));
        assert_eq!(Resolution { width: 64, height: 48 }.to_string(), "64x48");
        for text in
            ["", "64", "64x", "x64", "-1x2", "+64x64", "064x64", "64X64", "64x64x64", "99999999x64", "6 4x64"]
        {
            assert!(text.parse::<Resolution>().is_err(), "{text:?}");
        }
    }
}
