use super::*;
use rstest::rstest;

#[test]
fn a_good_header_gives_offsets_from_the_start_of_the_file() {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
        "b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;
    let entries = parse(header, 100, 126).expect("parses");
    assert_eq!(
        entries["a"],
        TensorEntry { kind: StoredDtype::F32, shape: vec![2, 3], offset: 100, bytes: 24 }
    );
    assert_eq!(entries["b"], TensorEntry { kind: StoredDtype::Bf16, shape: vec![], offset: 124, bytes: 2 });
}

#[rstest]
#[case::not_json("{", "cannot be read")]
#[case::not_an_object("[]", "an object of tensors")]
#[case::twice(
    r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
    "two tensors"
)]
#[case::shape_of_text(r#"{"a":{"dtype":"U8","shape":"1","data_offsets":[0,1]}}"#, "list of sizes")]
#[case::outside(r#"{"a":{"dtype":"U8","shape":[27],"data_offsets":[0,27]}}"#, "outside")]
#[case::far_outside(
    r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[18446744073709551613,18446744073709551615]}}"#,
    "outside"
)]
#[case::backwards(r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}"#, "do not hold")]
#[case::overflow(
    r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
    "overflows"
)]
#[case::wrong_size(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}}"#, "do not hold")]
#[case::overlap(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#, "overlap")]
#[case::dtype(r#"{"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,1]}}"#, "unknown dtype")]
#[case::negative(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, "tensor")]
#[case::rank(r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#, "dimensions")]
#[case::missing_field(r#"{"a":{"dtype":"U8","shape":[1]}}"#, "data_offsets")]
fn a_bad_header_is_refused(#[case] header: &str, #[case] reason: &str) {
    let error = parse(header.as_bytes(), 100, 126).expect_err("rejected").to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn an_expanding_header_is_rejected_while_it_is_parsed() {
    // 40 MB of empty lists: parsed as arbitrary JSON values they would take a gigabyte.
    let lists = "[],".repeat(13 << 20);
    let nested = "[".repeat(1 << 20);
    let numbers = "1,".repeat(20 << 20);
    for (header, reason) in [
        (format!(r#"{{"a":{{"dtype":"U8","shape":[{lists}[]],"data_offsets":[0,1]}}}}"#), "invalid type"),
        (format!(r#"{{"a":{{"dtype":"U8","shape":[{numbers}1],"data_offsets":[0,1]}}}}"#), "dimensions"),
        (format!(r#"{{"a":{nested}"#), "invalid type"),
        (format!(r#"{{"__metadata__":{nested}"#), "cannot be read"),
    ] {
        let started = std::time::Instant::now();
        let error = parse(header.as_bytes(), 0, 8).expect_err("rejected").to_string();
        assert!(error.contains(reason), "{error}");
        assert!(started.elapsed() < std::time::Duration::from_secs(2));
    }
}
