//! Incremental parser of server-sent events.

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SseEvent {
    /// The last `id:` seen up to this event.
    pub(crate) id: Option<String>,
    /// `event:`; empty if absent.
    pub(crate) event: String,
    /// `data:` lines, joined by line feeds.
    pub(crate) data: String,
}

/// Parser state: the incomplete line and event between two reads.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    line: Vec<u8>,
    skip_line_feed: bool,
    started: bool,
    current: SseEvent,
    has_data: bool,
    last_id: Option<String>,
    size: usize,
}

/// Size limit of an event.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// An event exceeds the size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than 1 MiB")]
pub(crate) struct TooLarge;

impl SseParser {
    /// Parses the next bytes and returns the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.skip_line_feed);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.skip_line_feed = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take_line(&line));
                }
                _ => {
                    self.size += 1;
                    if self.size > MAX_EVENT_BYTES {
                        return Err(TooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &[u8]) -> Option<SseEvent> {
        let mut line = String::from_utf8_lossy(line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with('\u{feff}') {
            line = line.trim_start_matches('\u{feff}').to_owned().into();
        }
        if line.is_empty() {
            self.size = 0;
            let mut event = std::mem::take(&mut self.current);
            event.id.clone_from(&self.last_id);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.current.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(value);
            }
            // Comments (keep-alives), `retry` and unknown fields.
            _ => self.size = self.size.saturating_sub(line.len()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "\u{feff}: hello\n\nid: 1\nevent: state\ndata: {\"a\":1}\n\ndata: x\r\ndata\r\ndata:  y\r\n\r\n\
                          event: none\n\nid: 7\rdata: é\r\rdata: cut off";

    fn read(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let mut parser = SseParser::default();
        pieces.iter().flat_map(|piece| parser.push(piece).unwrap()).collect()
    }

    #[test]
    fn lines_of_every_ending_make_events() {
        let event = |id: &str, event: &str, data: &str| SseEvent {
            id: Some(id.to_owned()),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(
            read(&[STREAM.as_bytes()]),
            [event("1", "state", "{\"a\":1}"), event("1", "", "x\n\n y"), event("7", "", "é")]
        );
    }

    #[test]
    fn keep_alives_never_add_up_but_a_huge_event_is_refused() {
        let mut parser = SseParser::default();
        for _ in 0..200_000 {
            assert_eq!(parser.push(b": keep-alive\n"), Ok(vec![]));
        }
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT_BYTES + 1]), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_bytes_are_split(cuts in prop::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&STREAM.as_bytes()[from..cut]);
                from = cut;
            }
            pieces.push(&STREAM.as_bytes()[from..]);
            prop_assert_eq!(read(&pieces), read(&[STREAM.as_bytes()]));
        }
    }
}
