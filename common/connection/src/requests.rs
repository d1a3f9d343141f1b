//! Where the requests of an HTTP/1 connection begin and end.

/// Bytes of a header line that are kept; longer lines are of no interest here.
const KEPT: usize = 128;

/// Follows the bytes that a client sends, to know whether they end inside a request. It only needs the lengths of bodies; whether a
/// request is valid is for the HTTP server to decide.
///
/// ```
/// use videosdgx_connection::{Position, RequestTracker};
///
/// let mut tracker = RequestTracker::default();
/// tracker.advance(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nex");
/// assert_eq!(tracker.position(), Position::Head);
/// ```
#[derive(Debug)]
pub struct RequestTracker {
    state: State,
    line: Vec<u8>,
    /// Whether the current head has had a line already.
    begun: bool,
    length: u64,
    chunked: bool,
}

impl Default for RequestTracker {
    fn default() -> Self {
        Self { state: State::Head, line: Vec::with_capacity(KEPT), begun: false, length: 0, chunked: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// The bytes are not HTTP/1.
    Unknown,
}

/// What the bytes received so far end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// All requests are complete.
    Between,
    /// The head of a request is incomplete.
    Head,
    /// The body of a request is incomplete.
    Body,
}

impl RequestTracker {
    /// Where the bytes end.
    #[must_use]
    pub fn position(&self) -> Position {
        match self.state {
            State::Head if self.begun || !self.line.is_empty() => Position::Head,
            State::Head => Position::Between,
            State::Unknown => Position::Head,
            _ => Position::Body,
        }
    }

    /// Processes the next bytes.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Unknown => return,
                State::Body(left) | State::Chunk(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    bytes = &bytes[skipped..];
                    if *left == 0 {
                        let chunk = matches!(self.state, State::Chunk(_));
                        self.state = if chunk { State::ChunkEnd } else { State::Head };
                    }
                }
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailer => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    let kept = part.len().min(KEPT - self.line.len());
                    self.line.extend_from_slice(&part[..kept]);
                    let Some(end) = end else { return };
                    bytes = &bytes[end + 1..];
                    self.end_line();
                }
            }
        }
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        self.state = match self.state {
            State::Head if text.is_empty() && self.begun => self.end_head(),
            // Empty lines before a request are skipped.
            State::Head if text.is_empty() => State::Head,
            State::Head => {
                if std::mem::replace(&mut self.begun, true) {
                    self.read_header(text);
                }
                State::Head
            }
            State::ChunkSize => match chunk_size(text) {
                Some(0) => State::Trailer,
                Some(size) => State::Chunk(size),
                None => State::Unknown,
            },
            State::ChunkEnd if text.is_empty() => State::ChunkSize,
            State::ChunkEnd => State::Unknown,
            State::Trailer if text.is_empty() => State::Head,
            other => other,
        };
        line.clear();
        self.line = line;
    }

    fn end_head(&mut self) -> State {
        self.begun = false;
        let (length, chunked) = (std::mem::take(&mut self.length), std::mem::take(&mut self.chunked));
        match (chunked, length) {
            (true, _) => State::ChunkSize,
            (false, 0) => State::Head,
            (false, length) => State::Body(length),
        }
    }

    fn read_header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = str::from_utf8(value).ok().and_then(|value| value.parse().ok()).unwrap_or_default();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        }
    }
}

/// The number before the extensions of a chunk.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_does_not_depend_on_how_the_bytes_are_split() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let post = "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
        let chunked =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
        let long = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(1000));
        for (bytes, position) in [
            (String::new(), Position::Between),
            ("\r\n".into(), Position::Between),
            ("G".into(), Position::Head),
            ("GET / HTTP/1.1\r\n".into(), Position::Head),
            (get.into(), Position::Between),
            (format!("{get}{get}"), Position::Between),
            (format!("{get}GET"), Position::Head),
            (format!("{get}\r"), Position::Head),
            (post.into(), Position::Between),
            (post[..post.len() - 1].into(), Position::Body),
            (format!("{post}GET /"), Position::Head),
            (chunked.into(), Position::Between),
            (chunked[..chunked.len() - 2].into(), Position::Body),
            (chunked[..chunked.len() - 20].into(), Position::Body),
            (format!("{chunked}{post}{get}"), Position::Between),
            (long, Position::Between),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(), Position::Head),
        ] {
            for size in [1, 2, 3, 7, 50, bytes.len().max(1)] {
                let mut tracker = RequestTracker::default();
                for piece in bytes.as_bytes().chunks(size) {
                    tracker.advance(piece);
                }
                assert_eq!(tracker.position(), position, "{bytes:.80?} by {size}");
            }
        }
    }
}
