//! Completeness of JPEG files. The decoder fills what a truncated file lacks with grey instead of reporting it.

/// Whether the file reaches its end-of-image marker and every segment before it is whole.
pub(crate) fn is_complete(file: &[u8]) -> bool {
    let mut rest = file;
    // Between segments, and in the compressed data after the header of a scan, the next marker is searched.
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[at + 1..];
        match rest {
            // A byte FF in compressed data, restart markers, and markers without a segment.
            [0x00 | 0x01 | 0xd0..=0xd8, tail @ ..] => rest = tail,
            // Fill bytes before a marker.
            [0xff, ..] => {}
            [0xd9, ..] => return true,
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(tail) = rest.get(1 + length.max(2)..) else { return false };
                rest = tail;
            }
            _ => return false,
        }
    }
    false
}
