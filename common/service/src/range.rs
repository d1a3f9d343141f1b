//! `Range` of RFC 9110, for one file of known length.

/// What part of the file to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of it (200): no `Range`, one that is not understood, or several ranges.
    Whole,
    /// These bytes (206), both ends included.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// The range is outside the file (416).
    Unsatisfiable,
}

/// Reads a `Range` header. A recipient ignores what it does not understand, and may ignore several ranges.
pub(crate) fn select(header: Option<&str>, length: u64) -> Selection {
    let Some(range) = header.and_then(single_range) else { return Selection::Whole };
    match range {
        (None, suffix) => match suffix.unwrap_or(0).min(length) {
            0 => Selection::Unsatisfiable,
            taken => Selection::Part { first: length - taken, last: length - 1 },
        },
        (Some(first), _) if first >= length => Selection::Unsatisfiable,
        (Some(first), last) => {
            Selection::Part { first, last: last.map_or(length - 1, |last| last.min(length - 1)) }
        }
    }
}

/// `(first, last)`, or `(None, suffix length)`.
fn single_range(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, ranges) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return None;
    }
    let (first, last) = ranges.trim().split_once('-')?;
    let number = |text: &str| -> Option<Option<u64>> {
        if text.is_empty() {
            return Some(None);
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        // Beyond u64 is beyond every file.
        digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
    };
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if last < first => None,
        range => Some(range),
    }
}

#[cfg(test)]
mod tests {
    use super::{Selection::*, *};

    #[test]
    fn one_range_is_cut_to_the_file() {
        for (header, expected) in [
            ("bytes=0-0", Part { first: 0, last: 0 }),
            ("bytes=0-", Part { first: 0, last: 9 }),
            ("bytes=3-5", Part { first: 3, last: 5 }),
            ("BYTES=3-500", Part { first: 3, last: 9 }),
            ("bytes=-4", Part { first: 6, last: 9 }),
            ("bytes=-400", Part { first: 0, last: 9 }),
            ("bytes=9-99999999999999999999999", Part { first: 9, last: 9 }),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
        ] {
            assert_eq!(select(Some(header), 10), expected, "{header}");
        }
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=a-b",
            "items=0-1",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "bytes=--1",
        ] {
            assert_eq!(select(Some(header), 10), Whole, "{header}");
        }
        assert_eq!(select(None, 10), Whole);
    }

    #[test]
    fn an_empty_file_satisfies_no_range() {
        assert_eq!(select(Some("bytes=0-"), 0), Unsatisfiable);
        assert_eq!(select(Some("bytes=-1"), 0), Unsatisfiable);
    }

    #[test]
    fn parts_always_lie_inside() {
        for length in 1..6_u64 {
            for first in 0..8_u64 {
                for last in 0..8_u64 {
                    if let Part { first, last } = select(Some(&format!("bytes={first}-{last}")), length) {
                        assert!(first <= last && last < length);
                    }
                }
            }
        }
    }
}
