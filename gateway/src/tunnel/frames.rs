//! Close frames that the gateway sends itself (RFC 6455 section 5.5.1).

/// Close code: the gateway shuts down or closes an idle connection.
pub(crate) const GOING_AWAY: u16 = 1001;
/// Close code: the service broke the connection.
pub(crate) const BAD_GATEWAY: u16 = 1014;

const CLOSE: u8 = 0x8;

/// The bytes of a server's close frame. `reason` has at most 123 bytes.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    debug_assert!(length <= 125);
    [&[0x80 | CLOSE, length], payload.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use videosdgx_connection::FrameTracker;

    use super::*;

    #[test]
    fn a_close_frame_is_one_frame() {
        let mut tracker = FrameTracker::default();
        tracker.advance(&close(GOING_AWAY, "the gateway is shutting down"));
        assert!(tracker.has_closed() && tracker.between_frames());
        assert_eq!(close(BAD_GATEWAY, ""), [0x88, 2, 0x03, 0xf6]);
    }
}
