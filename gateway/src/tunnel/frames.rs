//! Boundaries of WebSocket frames (RFC 6455 section 5.2).

/// Close code: the gateway shuts down or closes an idle connection.
pub(crate) const GOING_AWAY: u16 = 1001;
/// Close code: the service broke the connection.
pub(crate) const BAD_GATEWAY: u16 = 1014;

const CLOSE: u8 = 0x8;
/// Bytes of the longest header: two, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

/// Follows the frames in one direction of a connection, without reading their payload.
#[derive(Debug, Default)]
pub(crate) struct FrameTracker {
    header: [u8; LONGEST_HEADER],
    /// Bytes of the current header that have been read.
    have: usize,
    payload_left: u64,
    closing: bool,
}

impl FrameTracker {
    /// Processes the next bytes.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.have] = first;
            self.have += 1;
            bytes = rest;
            if self.have >= 2 && self.have == self.header_length() {
                self.payload_left = self.payload_length();
                self.closing |= self.header[0] & 0xf == CLOSE;
                self.have = 0;
            }
        }
    }

    /// Whether the last frame is complete, so that another one may begin.
    pub(crate) fn between_frames(&self) -> bool {
        self.have == 0 && self.payload_left == 0
    }

    /// Whether a close frame has begun.
    pub(crate) fn has_closed(&self) -> bool {
        self.closing
    }

    fn header_length(&self) -> usize {
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match self.header[1] & 0x7f {
            126 => big_endian(&self.header[2..4]),
            127 => big_endian(&self.header[2..10]),
            short => u64::from(short),
        }
    }
}

/// The bytes of a server's close frame. `reason` has at most 123 bytes.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    debug_assert!(length <= 125);
    [&[0x80 | CLOSE, length], payload.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask_bit | u8::try_from(length).unwrap()),
            126..65_536 => {
                frame.push(mask_bit | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(vec![0x88; length]);
        frame
    }

    #[test]
    fn frame_ends_do_not_depend_on_how_the_bytes_are_split() {
        for masked in [false, true] {
            for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
                let bytes = frame(2, masked, length);
                for cut in [1, 2, 3, 7, 13, bytes.len()] {
                    let mut tracker = FrameTracker::default();
                    for (number, piece) in bytes.chunks(cut).enumerate() {
                        assert!(number == 0 || !tracker.between_frames(), "{masked} {length} {cut}");
                        tracker.advance(piece);
                    }
                    assert!(tracker.between_frames() && !tracker.has_closed(), "{masked} {length} {cut}");
                }
            }
        }
    }

    #[test]
    fn close_frames_are_recognised_including_our_own() {
        let mut tracker = FrameTracker::default();
        tracker.advance(&frame(1, false, 300));
        assert!(!tracker.has_closed());
        tracker.advance(&close(GOING_AWAY, "the gateway is shutting down"));
        assert!(tracker.has_closed() && tracker.between_frames());
        assert_eq!(close(BAD_GATEWAY, ""), [0x88, 2, 0x03, 0xf6]);
    }
}
