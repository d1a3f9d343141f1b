//! Boundaries of WebSocket frames (RFC 6455 section 5.2).

const CLOSE: u8 = 0x8;
const RESERVED: u8 = 0x70;
/// Bytes of the longest header: two, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether a reserved bit is set, which no extension that is used here defines.
    pub reserved: bool,
    /// Bytes of payload that the frame announces.
    pub length: u64,
}

/// Follows the frames in one direction of a connection, without reading their payload.
#[derive(Debug, Default)]
pub struct FrameTracker {
    header: [u8; LONGEST_HEADER],
    /// Bytes of the current header that have been read.
    have: usize,
    payload_left: u64,
    closing: bool,
}

impl FrameTracker {
    /// Processes the next bytes.
    pub fn advance(&mut self, bytes: &[u8]) {
        let checked = self.try_advance(bytes, |_| Ok::<_, std::convert::Infallible>(()));
        debug_assert!(checked.is_ok());
    }

    /// Processes the next bytes; `check` sees the header of each frame before its payload.
    ///
    /// # Errors
    /// The first error of `check`; the bytes after that header are not processed.
    pub fn try_advance<E>(
        &mut self,
        mut bytes: &[u8],
        mut check: impl FnMut(FrameHeader) -> Result<(), E>,
    ) -> Result<(), E> {
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
                check(FrameHeader { reserved: self.header[0] & RESERVED != 0, length: self.payload_left })?;
            }
        }
        Ok(())
    }

    /// Whether the last frame is complete, so that another one may begin.
    #[must_use]
    pub fn between_frames(&self) -> bool {
        self.have == 0 && self.payload_left == 0
    }

    /// Whether a close frame has begun.
    #[must_use]
    pub fn has_closed(&self) -> bool {
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
    fn close_frames_are_recognised() {
        let mut tracker = FrameTracker::default();
        tracker.advance(&frame(1, false, 300));
        assert!(!tracker.has_closed());
        tracker.advance(&frame(8, true, 2));
        assert!(tracker.has_closed() && tracker.between_frames());
    }

    #[test]
    fn headers_are_seen_before_their_payload() {
        let mut tracker = FrameTracker::default();
        let mut headers = Vec::new();
        let huge = [&[0x82, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[1, 2, 3, 4]].concat();
        let bytes = [frame(1, true, 3), vec![0xc1, 0x80, 1, 2, 3, 4], huge].concat();
        let result = tracker.try_advance(&bytes, |header| {
            headers.push(header);
            if header.length > 1000 { Err("too large") } else { Ok(()) }
        });
        assert_eq!(result, Err("too large"));
        assert_eq!(
            headers,
            [(false, 3), (true, 0), (false, 1 << 40)]
                .map(|(reserved, length)| FrameHeader { reserved, length })
        );
    }
}
