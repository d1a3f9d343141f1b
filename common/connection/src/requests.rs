//! Where the requests of an HTTP/1 connection begin and end, and whether two programs could read them in different ways (RFC 9112
//! sections 2.2, 3.2 and 6): a line feed without a carriage return, a length beside chunks, several lengths or codings, a missing or
//! second `Host`.
//!
//! HTTP servers repair some of these requests silently, before a handler sees them, so they are looked for in the bytes of the
//! connection.

use std::fmt;

/// Bytes of a line that are kept; the fields that matter are shorter.
const MAX_LINE: usize = 1024;

/// An invalid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Index of the byte that makes it invalid; the bytes before it are part of the request.
    pub at: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for Violation {}

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

/// Follows the bytes that a client sends, without storing them.
///
/// ```
/// use videosdgx_connection::{Position, RequestTracker};
///
/// let mut tracker = RequestTracker::default();
/// tracker.advance(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHo").unwrap();
/// assert_eq!(tracker.position(), Position::Head);
/// let violation = tracker.advance(b"st: a\nX: y\r\n\r\n").unwrap_err();
/// assert_eq!((violation.at, violation.reason), (5, "a line feed without a carriage return"));
/// ```
#[derive(Debug, Default)]
pub struct RequestTracker {
    state: State,
    /// The current line without its end, at most [`MAX_LINE`] bytes of it.
    line: Vec<u8>,
    /// The last byte was a carriage return.
    after_cr: bool,
    head: Head,
    /// Number of complete heads.
    heads: u64,
}

/// What the next bytes belong to.
#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    RequestLine,
    Fields,
    /// A body with this many bytes left.
    Body(u64),
    ChunkSize,
    /// Data of a chunk with this many bytes left.
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// The request asked for another protocol.
    Opaque,
}

/// The fields of a head that say how long the request is and for whom.
#[derive(Debug, Default)]
struct Head {
    is_http_10: bool,
    hosts: u32,
    length: Option<u64>,
    is_chunked: bool,
    asks_for_websocket: bool,
}

impl RequestTracker {
    /// Where the bytes end.
    #[must_use]
    pub fn position(&self) -> Position {
        match self.state {
            State::RequestLine if self.line.is_empty() && !self.after_cr => Position::Between,
            State::RequestLine | State::Fields => Position::Head,
            _ => Position::Body,
        }
    }

    /// Processes the next bytes. After an error nothing more may be read from the connection.
    ///
    /// # Errors
    /// The first byte at which a request is invalid.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.advance_until(bytes, u64::MAX).map(|_| ())
    }

    /// How many heads of requests have been complete.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Processes the next bytes until `heads` heads have been complete, and returns how many bytes were processed.
    ///
    /// # Errors
    /// As [`RequestTracker::advance`].
    pub fn advance_until(&mut self, bytes: &[u8], heads: u64) -> Result<usize, Violation> {
        let mut at = 0;
        while at < bytes.len() && self.heads < heads {
            match &mut self.state {
                State::Opaque => return Ok(bytes.len()),
                State::Body(left) | State::ChunkData(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    *left -= skipped as u64;
                    at += skipped;
                    if *left == 0 {
                        let is_chunk = matches!(self.state, State::ChunkData(_));
                        self.state = if is_chunk { State::ChunkEnd } else { State::RequestLine };
                    }
                }
                _ => {
                    at += self
                        .read_line(&bytes[at..])
                        .map_err(|found| Violation { at: at + found.at, ..found })?
                }
            }
        }
        Ok(at)
    }

    /// Processes the rest of the current line, or what is there of it; returns how many bytes these are.
    fn read_line(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let lone_return = Violation { at: 0, reason: "a carriage return without a line feed" };
        if self.after_cr && !part.is_empty() {
            return Err(lone_return);
        }
        let text = match memchr::memchr(b'\r', part) {
            Some(at) if at + 1 < part.len() => return Err(Violation { at: at + 1, ..lone_return }),
            Some(at) => &part[..at],
            None => part,
        };
        let after_cr = self.after_cr || text.len() < part.len();
        let Some(end) = end else {
            self.after_cr = after_cr;
            let kept = text.len().min(MAX_LINE - self.line.len());
            self.line.extend_from_slice(&text[..kept]);
            return Ok(bytes.len());
        };
        if !after_cr {
            return Err(Violation { at: end, reason: "a line feed without a carriage return" });
        }
        self.after_cr = false;
        let mut line = std::mem::take(&mut self.line);
        let ended = if line.is_empty() {
            self.line_ended(text)
        } else {
            let kept = text.len().min(MAX_LINE - line.len());
            line.extend_from_slice(&text[..kept]);
            self.line_ended(&line)
        };
        self.state = ended.map_err(|reason| Violation { at: end, reason })?;
        line.clear();
        self.line = line;
        Ok(end + 1)
    }

    /// What follows a complete line.
    fn line_ended(&mut self, line: &[u8]) -> Result<State, &'static str> {
        match self.state {
            // Empty lines before a request are ignored (RFC 9112 section 2.2).
            State::RequestLine if line.is_empty() => Ok(State::RequestLine),
            State::RequestLine => {
                self.head = Head { is_http_10: line.ends_with(b" HTTP/1.0"), ..Head::default() };
                Ok(State::Fields)
            }
            State::Fields if line.is_empty() => {
                self.heads += 1;
                self.head.body()
            }
            State::Fields => self.head.field(line).map(|()| State::Fields),
            State::ChunkSize => match chunk_size(line)? {
                0 => Ok(State::Trailers),
                size => Ok(State::ChunkData(size)),
            },
            State::ChunkEnd if line.is_empty() => Ok(State::ChunkSize),
            State::ChunkEnd => Err("a chunk is longer than its size"),
            State::Trailers if line.is_empty() => Ok(State::RequestLine),
            State::Trailers => Ok(State::Trailers),
            // These have no lines.
            State::Body(_) | State::ChunkData(_) | State::Opaque => Ok(self.state),
        }
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let Some(colon) = memchr::memchr(b':', line) else {
            // A longer line may have been cut.
            return if line.len() < MAX_LINE { Err("a header field without a colon") } else { Ok(()) };
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return Err("white space in the name of a header field, or a folded line");
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            self.hosts += 1;
        } else if is("content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length =
                std::str::from_utf8(value).ok().filter(|_| digits).and_then(|value| value.parse().ok());
            if self.length.replace(length.ok_or("Content-Length is not a number")?).is_some() {
                return Err("more than one Content-Length");
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is not exactly `chunked`");
            }
            if std::mem::replace(&mut self.is_chunked, true) {
                return Err("more than one Transfer-Encoding");
            }
        } else if is("upgrade") {
            self.asks_for_websocket |= names_websocket(value);
        }
        Ok(())
    }

    /// What follows the head.
    fn body(&self) -> Result<State, &'static str> {
        match self.hosts {
            1 => {}
            0 if self.is_http_10 => {}
            0 => return Err("no Host"),
            _ => return Err("more than one Host"),
        }
        if self.is_chunked && self.length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        if self.is_chunked && self.is_http_10 {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        Ok(match self.length {
            _ if self.asks_for_websocket => State::Opaque,
            _ if self.is_chunked => State::ChunkSize,
            None | Some(0) => State::RequestLine,
            Some(length) => State::Body(length),
        })
    }
}

/// Whether the value of an `Upgrade` field names `websocket`. What follows such a request is not looked at: unless the protocol is
/// switched, the server must close the connection after its response.
#[must_use]
pub fn names_websocket(upgrade: &[u8]) -> bool {
    upgrade.split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// The size in the line before a chunk.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| is_hex)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or("the size of a chunk is not a hexadecimal number")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &str) -> Result<(), Violation> {
        RequestTracker::default().advance(bytes.as_bytes())
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn valid_requests_pass_one_after_the_other() {
        for request in [
            GET,
            "\r\nGET / HTTP/1.1\r\nhost:a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na\nb",
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;x=\"y\"\r\na\nb\rc\r\n0\r\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nX:\r\n\r\n",
        ] {
            assert_eq!(check(&format!("{request}{request}{GET}")), Ok(()), "{request:?}");
        }
        // After an upgrade the bytes are frames.
        assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\r\n\n\n\r\0"), Ok(()));
    }

    #[test]
    fn ambiguous_requests_are_refused_also_behind_a_valid_one() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        for (request, reason) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), "line feed"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), "line feed"),
            (format!("{head}\n"), "line feed"),
            (format!("{head}X: a\rb\r\n\r\n"), "carriage return"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"), "line feed"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"), "line feed"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n"), "line feed"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n"), "longer"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n0x5\r\n"), "hexadecimal"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n\r\n"), "hexadecimal"),
            (
                format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
                "more than one",
            ),
            (format!("{head}Transfer-Encoding: chunked, chunked\r\n\r\n"), "exactly"),
            (format!("{head}Transfer-Encoding: identity\r\n\r\n"), "exactly"),
            (format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"), "both"),
            (format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"), "both"),
            (format!("{head}Content-Length: 4\r\nContent-Length: 4\r\n\r\n"), "more than one"),
            (format!("{head}Content-Length: 4, 4\r\n\r\n"), "not a number"),
            (format!("{head}Content-Length: +4\r\n\r\n"), "not a number"),
            (format!("{head}Content-Length: 99999999999999999999\r\n\r\n"), "not a number"),
            (format!("{head}Content-Length : 4\r\n\r\n"), "white space"),
            (format!("{head}X: y\r\n Content-Length: 4\r\n\r\n"), "folded"),
            (format!("{head}Host: b\r\n\r\n"), "more than one Host"),
            ("GET / HTTP/1.1\r\nX: y\r\n\r\n".to_owned(), "no Host"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "HTTP/1.0"),
        ] {
            for request in [request.clone(), format!("{GET}{request}")] {
                let violation = check(&request).expect_err(&request);
                assert!(violation.reason.contains(reason), "{request:?}: {violation}");
            }
        }
    }

    #[test]
    fn the_position_is_where_the_bytes_end() {
        let post = "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello";
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(10_000));
        for (bytes, position) in [
            (String::new(), Position::Between),
            ("\r\n".into(), Position::Between),
            ("G".into(), Position::Head),
            ("GET / HTTP/1.1\r\n".into(), Position::Head),
            (GET.into(), Position::Between),
            (format!("{GET}{GET}"), Position::Between),
            (format!("{GET}GET"), Position::Head),
            (format!("{GET}\r"), Position::Head),
            (post.into(), Position::Between),
            (post[..post.len() - 1].into(), Position::Body),
            (format!("{post}GET /"), Position::Head),
            (chunked.into(), Position::Between),
            (chunked[..chunked.len() - 2].into(), Position::Body),
            (chunked[..chunked.len() - 20].into(), Position::Body),
            (format!("{chunked}{post}{GET}"), Position::Between),
            (long, Position::Between),
        ] {
            for size in [1, 2, 3, 7, 50, bytes.len().max(1)] {
                let mut tracker = RequestTracker::default();
                for piece in bytes.as_bytes().chunks(size) {
                    tracker.advance(piece).unwrap();
                }
                assert_eq!(tracker.position(), position, "{bytes:.80?} by {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_how_the_bytes_are_split(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "GET / HTTP/1.1", "\r\n", "\r\n", "\r\n", "\n", "Host: a", "Content-Length: 3", "abc", "5",
                "Transfer-Encoding: chunked", "0", "\r", "X: y", "Upgrade: websocket",
            ]), 0..24),
            cut in 1_usize..9,
        ) {
            let bytes = pieces.concat();
            let whole = check(&bytes);
            let mut tracker = RequestTracker::default();
            let mut split = Ok(());
            for (number, piece) in bytes.as_bytes().chunks(cut).enumerate() {
                if let Err(found) = tracker.advance(piece) {
                    split = Err(Violation { at: found.at + number * cut, ..found });
                    break;
                }
            }
            prop_assert_eq!(whole, split);
        }
    }
}
