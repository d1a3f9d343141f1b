//! Job ids and priorities.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::whole_number::Whole;

/// Id of a job: `<service>-<12 base-36 characters>`, for example `wan21-0k3f9a7c21xz`. Safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "wan21-0k3f9a7c21xz", pattern = "^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 64)]
pub struct JobId(String);

/// A text is not a valid [`JobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 1 to 64 of a-z, 0-9 and single hyphens between them")]
pub struct InvalidId;

impl JobId {
    /// A fresh, unguessable id (62 random bits) of the service named `service`.
    ///
    /// # Errors
    /// When `service` is not itself made of a-z, 0-9 and hyphens.
    pub fn random(service: &str) -> Result<Self, InvalidId> {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut bits = uuid::Uuid::new_v4().as_u128() >> 2;
        let mut id = format!("{service}-");
        for _ in 0..12 {
            let digit = usize::try_from(bits % 36).unwrap_or_default();
            id.push(char::from(DIGITS[digit]));
            bits /= 36;
        }
        id.parse()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let part_is_sound = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if text.len() <= 64 && text.split('-').all(part_is_sound) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId)
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Urgency of a job: 0 (least) to 9 (most). Default: 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Whole<u8>", into = "u8")]
#[schema(value_type = u8, minimum = 0, maximum = 9, example = 5)]
pub struct Priority(u8);

impl Priority {
    /// The most urgent priority.
    pub const HIGHEST: Self = Self(9);

    /// `None` above 9.
    #[must_use]
    pub fn new(value: u8) -> Option<Self> {
        (value <= 9).then_some(Self(value))
    }

    /// 0 to 9.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = String;

    fn try_from(value: u8) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("priority is 0 to 9, not {value}"))
    }
}

impl TryFrom<Whole<u8>> for Priority {
    type Error = String;

    fn try_from(value: Whole<u8>) -> Result<Self, String> {
        Self::try_from(value.0)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_valid_and_differ() {
        let first = JobId::random("qwen3-vl-2b").unwrap();
        let second = JobId::random("qwen3-vl-2b").unwrap();
        assert_ne!(first, second);
        assert_eq!(first.as_str().len(), "qwen3-vl-2b-".len() + 12);
        assert_eq!(first.as_str().parse::<JobId>(), Ok(first.clone()));
    }

    #[test]
    fn ids_that_could_leave_a_folder_are_refused() {
        for text in ["", "-", "a-", "../x", "a/b", "a.b", "A", "a--b", "é", &"a".repeat(65), "a\0"] {
            assert_eq!(text.parse::<JobId>(), Err(InvalidId), "{text:?}");
        }
    }

    #[test]
    fn priorities_end_at_nine() {
        assert!(serde_json::from_str::<Priority>("10").is_err());
        assert_eq!(serde_json::from_str::<Priority>("9").unwrap(), Priority::HIGHEST);
    }
}
