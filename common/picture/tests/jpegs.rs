//! JPEG files of every kind (`tests/reference/jpegs.py`), whole and truncated.

use rstest::rstest;
use videosdgx_picture::{Background, DecodeError, DecodeLimits, decode, dimensions};

#[rstest]
fn a_truncated_file_is_refused(#[values("baseline", "progressive", "restarts", "grey", "cmyk")] kind: &str) {
    let path = format!("{}/../../tests/fixtures/jpeg/{kind}.jpg", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(path).expect("the fixture is committed");
    let limits = DecodeLimits::DEFAULT;
    let picture = decode(&file, &limits, Background::White).expect("a whole file");
    assert_eq!((picture.width(), picture.height()), (48, 40));
    let followed = [file.as_slice(), b"\0\0"].concat();
    assert_eq!(decode(&followed, &limits, Background::White).as_ref(), Ok(&picture), "bytes after the end");
    for length in 3..file.len() {
        let part = &file[..length];
        let refused = decode(part, &limits, Background::White);
        assert!(matches!(refused, Err(DecodeError::Broken(_))), "{length} of {} bytes", file.len());
        assert!(dimensions(part, &limits).is_err(), "{length} of {} bytes", file.len());
    }
}
