//! Splits a body into lines of limited length while it arrives.

/// Splits bytes into lines. A line over the limit is reported once; the rest of it is skipped.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    max_bytes: usize,
    /// The incomplete last line.
    partial: Vec<u8>,
    skipping: bool,
    number: u64,
}

/// A non-empty line with its number, from 1. None: it was too long.
pub(crate) type Line = (u64, Option<Vec<u8>>);

impl LineSplitter {
    /// For lines of at most `max_bytes` bytes.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, partial: Vec::new(), skipping: false, number: 0 }
    }

    /// Appends `bytes` and returns the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.take(&rest[..end], &mut lines);
            lines.extend(self.end());
            rest = &rest[end + 1..];
        }
        self.take(rest, &mut lines);
        lines
    }

    /// Bytes of the incomplete last line, of which at most `max_bytes` are held.
    pub(crate) fn held(&self) -> usize {
        self.partial.len()
    }

    /// Whether a line has begun and not ended.
    pub(crate) fn is_within_line(&self) -> bool {
        self.skipping || !self.partial.is_empty()
    }

    /// The last line, if it does not end with a line break.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        self.end()
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        if self.skipping {
            return;
        }
        if self.partial.len() + bytes.len() > self.max_bytes {
            self.partial = Vec::new();
            self.skipping = true;
            lines.push((self.number + 1, None));
            return;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn end(&mut self) -> Option<Line> {
        self.number += 1;
        self.skipping = false;
        let line = std::mem::take(&mut self.partial);
        (!line.trim_ascii().is_empty()).then_some((self.number, Some(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(most: usize, pieces: &[&str]) -> Vec<(u64, Option<String>)> {
        let mut lines = LineSplitter::new(most);
        let mut found: Vec<Line> = pieces.iter().flat_map(|piece| lines.push(piece.as_bytes())).collect();
        found.extend(lines.finish());
        found
            .into_iter()
            .map(|(number, line)| (number, line.map(|line| String::from_utf8(line).unwrap())))
            .collect()
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_are_split() {
        let text = "one\n\n  \ntwo\r\nthree";
        let expected = [(1, "one"), (4, "two\r"), (5, "three")];
        for size in 1..=text.len() {
            let pieces: Vec<&str> =
                text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            let found = all(100, &pieces);
            let found: Vec<(u64, &str)> =
                found.iter().map(|(number, line)| (*number, line.as_deref().unwrap())).collect();
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_the_next_is_read() {
        let found = all(4, &["ab", "cde", "fghijk", "\nok\n", "12345"]);
        assert_eq!(found, [(1, None), (2, Some("ok".to_owned())), (3, None)]);
    }
}
