//! Headers read from files: valid ones give back what was written, inconsistent ones are rejected in bounded time and
//! memory.

mod file;

use std::time::{Duration, Instant};

use file::{FileBuilder, Metadata};
use proptest::prelude::*;
use rstest::rstest;
use videosdgx_gguf::{Array, GgmlType, Gguf, GgufError, Value};

/// A valid file with two tensors, which the tests modify.
fn good() -> FileBuilder {
    FileBuilder::default()
        .with("general.architecture", Metadata::String("llama".into()))
        .with("llama.block_count", Metadata::U32(30))
        .with("llama.rope.freq_base", Metadata::F32(1e5))
        .with("tokenizer.ggml.add_bos_token", Metadata::Bool(true))
        .with("tokenizer.ggml.tokens", Metadata::Strings(vec!["a".into(), "Ġb".into(), String::new()]))
        .with("tokenizer.ggml.token_type", Metadata::I32s(vec![1, 3, -1]))
        .tensor("blk.0.attn_q.weight", &[64, 3], GgmlType::Q4_1, 0, 120)
        .tensor("output_norm.weight", &[5], GgmlType::F32, 128, 20)
}

fn open(bytes: &[u8]) -> Result<Gguf, GgufError> {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), bytes).expect("writes");
    Gguf::open(file.path())
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).expect_err("refused").to_string()
}

#[test]
fn a_good_header_gives_back_what_was_written() {
    let (bytes, data_start) = good().build();
    let gguf = open(&bytes).expect("opens");
    assert_eq!((gguf.version(), gguf.architecture(), gguf.data_start()), (3, Some("llama"), data_start));
    assert_eq!(gguf.u32(&gguf.model_key("block_count")), Some(30));
    assert_eq!(gguf.f32(&gguf.model_key("rope.freq_base")), Some(1e5));
    assert_eq!(gguf.bool("tokenizer.ggml.add_bos_token"), Some(true));
    assert_eq!(gguf.strings("tokenizer.ggml.tokens").map(<[_]>::len), Some(3));
    assert_eq!(gguf.i32s("tokenizer.ggml.token_type"), Some(vec![1, 3, -1]));
    assert_eq!(gguf.value("llama.block_count"), Some(&Value::U32(30)));
    assert_eq!(gguf.str("llama.block_count"), None, "another type");
    assert!(gguf.missing_key("nowhere", "a number").to_string().contains("\"nowhere\" (a number)"));
    assert!(gguf.missing_key("llama.block_count", "a string").to_string().contains("is not a string"));
    let query = gguf.tensor("blk.0.attn_q.weight").expect("is there");
    assert_eq!((query.shape.as_slice(), query.kind), ([3, 64].as_slice(), GgmlType::Q4_1));
    assert_eq!((query.offset, query.bytes), (data_start, 120));
    assert_eq!(gguf.tensors().len(), 2);
    assert_eq!(gguf.tensors()[1].offset, data_start + 128);
}

#[test]
fn every_type_of_value_is_read() {
    let kinds: [(u32, Vec<u8>, Value); 11] = [
        (0, vec![200], Value::U8(200)),
        (1, vec![0xff], Value::I8(-1)),
        (2, vec![1, 2], Value::U16(513)),
        (3, vec![0xfe, 0xff], Value::I16(-2)),
        (4, vec![1, 0, 0, 0], Value::U32(1)),
        (5, vec![0xff; 4], Value::I32(-1)),
        (7, vec![0], Value::Bool(false)),
        (10, vec![0xff; 8], Value::U64(u64::MAX)),
        (11, vec![0xff; 8], Value::I64(-1)),
        (12, 0.5f64.to_le_bytes().to_vec(), Value::F64(0.5)),
        // An array of one array of two 16-bit numbers.
        (
            9,
            [
                &9u32.to_le_bytes()[..],
                &1u64.to_le_bytes(),
                &2u32.to_le_bytes(),
                &2u64.to_le_bytes(),
                &[1, 0, 2, 0],
            ]
            .concat(),
            Value::Array(Array::Array(vec![Array::U16(vec![1, 2])])),
        ),
    ];
    for (kind, bytes, expected) in kinds {
        let (bytes, _) = FileBuilder::default().with("k", Metadata::Raw(kind, bytes)).build();
        assert_eq!(open(&bytes).expect("opens").value("k"), Some(&expected));
    }
}

#[rstest]
#[case::not_gguf(good().magic(*b"GGML"), "not a GGUF file")]
#[case::version_1(good().version(1), "version 1")]
#[case::big_endian(good().version(3u32.swap_bytes()), "big-endian")]
#[case::many_tensors(good().tensor_count(u64::MAX), "do not fit")]
#[case::some_tensors_too_many(good().tensor_count(3), "")]
#[case::many_entries(good().metadata_count(1 << 40), "do not fit")]
#[case::twice(good().with("llama.block_count", Metadata::U32(1)), "twice")]
#[case::empty_key(good().with("", Metadata::U32(1)), "a name of 0 bytes")]
#[case::alignment(good().with("general.alignment", Metadata::U32(24)), "power of two")]
#[case::alignment_0(good().with("general.alignment", Metadata::U32(0)), "power of two")]
#[case::value_type(good().with("k", Metadata::Raw(13, vec![0; 8])), "unknown type 13")]
#[case::boolean(good().with("k", Metadata::Raw(7, vec![2])), "boolean of value 2")]
#[case::long_string(good().with("k", Metadata::Raw(8, (1u64 << 60).to_le_bytes().to_vec())), "a string of")]
#[case::utf8(good().with("k", Metadata::Raw(8, [&1u64.to_le_bytes()[..], &[0xff]].concat())), "not UTF-8")]
#[case::long_array(good().with("k", Metadata::Raw(9, [&4u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat())), "do not fit")]
#[case::nested(good().with("k", Metadata::Raw(9, nested(64))), "nested deeper")]
#[case::rank(good().tensor("x", &[1, 1, 1, 1, 1], GgmlType::F32, 160, 4), "5 dimensions")]
#[case::part_of_a_block(good().tensor("x", &[33], GgmlType::Q8_0, 160, 34), "whole blocks of Q8_0")]
#[case::overflow(good().tensor("x", &[1 << 32, 1 << 32], GgmlType::F32, 160, 4), "too large")]
#[case::overflow_of_zero(good().tensor("x", &[0, u64::MAX, 2, u64::MAX], GgmlType::F32, 160, 4), "")]
#[case::unknown_type(good().tensor_of_type("x", &[1], 4, 160), "unknown ggml type 4")]
#[case::unaligned(good().tensor("x", &[1], GgmlType::F32, 161, 4), "multiple of 32")]
#[case::outside(good().tensor("x", &[1 << 20], GgmlType::F32, 160, 4), "outside the file")]
#[case::far_outside(good().tensor("x", &[8], GgmlType::F32, u64::MAX - 31, 0), "outside the file")]
#[case::overlap(good().tensor("x", &[8], GgmlType::F32, 96, 32), "overlap")]
#[case::same_name(good().tensor("output_norm.weight", &[1], GgmlType::F32, 160, 4), "two tensors")]
fn an_inconsistent_header_is_rejected(#[case] builder: FileBuilder, #[case] reason: &str) {
    let (bytes, _) = builder.build();
    let error = refusal(&bytes);
    assert!(error.contains(reason), "{error}");
}

/// The bytes of an array of one array of one array …
fn nested(depth: usize) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat().repeat(depth)
}

#[test]
fn a_file_truncated_anywhere_is_rejected() {
    let (bytes, data_start) = good().build();
    for length in 0..data_start as usize + 128 + 20 {
        assert!(open(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(matches!(Gguf::open("/nowhere/model.gguf"), Err(GgufError::Io { .. })));
}

#[test]
fn a_header_that_claims_more_than_the_file_has_is_rejected_quickly() {
    // A sparse file of 64 GB whose header claims an array of 2³² strings.
    let (bytes, _) = FileBuilder::default()
        .with("k", Metadata::Raw(9, [&8u32.to_le_bytes()[..], &(1u64 << 32).to_le_bytes()].concat()))
        .build();
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), &bytes).expect("writes");
    file.as_file().set_len(64 << 30).expect("a sparse file");
    let started = Instant::now();
    let error = Gguf::open(file.path()).expect_err("refused").to_string();
    assert!(error.contains("do not fit"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes changed at random: never a panic, and the tensors of a header that opens are inside the file.
    #[test]
    fn damaged_headers_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (mut bytes, _) = good().build();
        for (place, value) in changes {
            let length = bytes.len();
            bytes[place.index(length)] = value;
        }
        check(&bytes)?;
    }

    /// Fields of eight bytes replaced by extreme numbers.
    #[test]
    fn extreme_numbers_never_panic(
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![0, 1, 31, 1 << 31, 1 << 32, 1 << 62, i64::MAX as u64, 1 << 63, u64::MAX]),
    ) {
        let (mut bytes, _) = good().build();
        let at = place.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        check(&bytes)?;
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..512)) {
        check(&[&b"GGUF\x03\0\0\0"[..], &noise].concat())?;
    }
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(gguf) = open(bytes) {
        for tensor in gguf.tensors() {
            prop_assert!(tensor.offset >= gguf.data_start());
            prop_assert!(tensor.offset + tensor.bytes <= bytes.len() as u64);
            prop_assert_eq!(tensor.kind.bytes(&tensor.shape), Some(tensor.bytes));
        }
    }
    Ok(())
}

#[test]
fn a_git_lfs_pointer_and_a_part_of_a_split_file_say_what_to_do() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1234567\n";
    assert!(refusal(pointer).contains("is a Git LFS pointer"), "{}", refusal(pointer));
    let part = good().with("split.count", Metadata::U32(2)).build().0;
    assert!(refusal(&part).contains("merge the parts with `llama-gguf-split --merge"), "{}", refusal(&part));
    assert!(open(&good().with("split.count", Metadata::U32(1)).build().0).is_ok());
}

#[test]
fn the_gguf_file_of_a_folder_is_found_or_the_folder_is_refused_with_the_reason() {
    for (files, expected) in [
        (&["m.Q4_1.gguf", "README.md"][..], Ok(Some("m.Q4_1.gguf"))),
        (&["m.gguf", "config.json"], Ok(Some("m.gguf"))),
        (&["m.gguf", "config.json", "model.safetensors"], Ok(None)),
        (&["m.gguf", "config.json", "model.safetensors.index.json"], Ok(None)),
        (&["config.json"], Ok(None)),
        (&["m-00001-of-00001.gguf"], Ok(Some("m-00001-of-00001.gguf"))),
        (
            &["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
            Err("m-00001-of-00002.gguf: is a part of a split"),
        ),
        (&["m-00002-of-00002.gguf"], Err("is a part of a split")),
        (&["m.gguf", "mmproj-m-f16.gguf"], Err("mmproj-m-f16.gguf: is a picture encoder (mmproj)")),
        (&["a.gguf", "b.gguf"], Err("holds 2 GGUF files; name the one to use")),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        for file in files {
            std::fs::write(folder.path().join(file), b"").expect("writes");
        }
        match (videosdgx_gguf::file_in(folder.path()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected.map(|name| folder.path().join(name))),
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            (found, _) => panic!("{files:?}: {found:?}"),
        }
    }
}
