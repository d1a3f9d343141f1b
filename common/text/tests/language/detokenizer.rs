//! Incremental decoding gives the same text as decoding at once.

use proptest::prelude::*;
use videosdgx_text::{AllowSpecial, Detokenizer, ShowSpecial, Tokenizer};

fn pieces(
    tokenizer: &Tokenizer,
    ids: &[u32],
    special: ShowSpecial,
    stops: &[&str],
) -> (Vec<String>, Option<usize>) {
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut detokenizer = Detokenizer::new(tokenizer, special, &stops);
    let mut pieces: Vec<String> = ids.iter().map(|id| detokenizer.push(*id)).collect();
    pieces.push(detokenizer.finish());
    (pieces, detokenizer.matched())
}

/// The text before a stop string: the one that ends first, the longest among equals.
fn stopped(text: &str, stops: &[&str]) -> (String, Option<usize>) {
    for end in 1..=text.len() {
        let found =
            stops.iter().enumerate().filter(|(_, stop)| text.as_bytes()[..end].ends_with(stop.as_bytes()));
        if let Some((number, stop)) = found
            .filter(|(_, stop)| !stop.is_empty())
            .max_by_key(|(number, stop)| (stop.len(), usize::MAX - number))
        {
            return (text[..end - stop.len()].to_owned(), Some(number));
        }
    }
    (text.to_owned(), None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any tokens, the concatenated pieces are the decoded text.
    #[test]
    fn pieces_are_the_whole(seed in prop::collection::vec(any::<u32>(), 0..60), skip in any::<bool>(), byte_level in any::<bool>()) {
        let tokenizer = if byte_level { crate::support::qwen() } else { crate::support::llama() };
        let vocab = u32::try_from(tokenizer.vocab_size()).expect("small");
        let ids: Vec<u32> = seed.iter().map(|id| id % (vocab + 3)).collect();
        let special = if skip { ShowSpecial::Skip } else { ShowSpecial::Keep };
        let (pieces, _) = pieces(&tokenizer, &ids, special, &[]);
        prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids, special));
    }

    /// Stop strings are found across tokens, and their possible beginnings are held back.
    #[test]
    fn stop_strings_are_never_shown(text in "[ab<é😀]{0,40}", stops in prop::collection::vec("[ab<é😀]{0,4}", 0..4), cut in any::<u64>()) {
        let tokenizer = crate::support::qwen();
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        // Random splits: single bytes, or the tokens of parts.
        let mut ids = Vec::new();
        for (index, character) in text.char_indices() {
            if cut >> (index % 64) & 1 == 1 {
                ids.extend(character.to_string().bytes().map(|byte| byte_token(&tokenizer, byte)));
            } else {
                ids.extend(tokenizer.encode(&character.to_string(), AllowSpecial::None).expect("encodes"));
            }
        }
        let (expected, number) = stopped(&text, &stops);
        let (pieces, matched) = pieces(&tokenizer, &ids, ShowSpecial::Keep, &stops);
        prop_assert_eq!(pieces.concat(), expected);
        prop_assert_eq!(matched.map(|number| stops[number]), number.map(|number| stops[number]));
    }
}

fn byte_token(tokenizer: &Tokenizer, byte: u8) -> u32 {
    (0..).find(|id| tokenizer.token_bytes(*id) == Some(&[byte])).expect("each byte is a token")
}

#[test]
fn half_characters_are_never_shown() {
    let tokenizer = crate::support::qwen();
    let ids: Vec<u32> = "a👩‍👧é".bytes().map(|byte| byte_token(&tokenizer, byte)).collect();
    let (all, _) = pieces(&tokenizer, &ids, ShowSpecial::Keep, &[]);
    assert_eq!(all.concat(), "a👩‍👧é");
    assert!(all.iter().all(|piece| !piece.contains('\u{FFFD}')));
    assert_eq!(all.iter().filter(|piece| !piece.is_empty()).count(), 5);
    let (cut, _) = pieces(&tokenizer, &ids[..3], ShowSpecial::Keep, &[]);
    assert_eq!(cut.concat(), "a\u{FFFD}");
}

#[test]
fn a_stop_string_is_held_back_and_released() {
    let tokenizer = crate::support::qwen();
    let ids: Vec<u32> = "x\n\ny\n\nUser:z".bytes().map(|byte| byte_token(&tokenizer, byte)).collect();
    let (shown, matched) = pieces(&tokenizer, &ids, ShowSpecial::Keep, &["never", "\n\nUser:"]);
    assert_eq!(&shown[..4], ["x", "", "", "\n\ny"]);
    assert_eq!(shown.concat(), "x\n\ny");
    assert_eq!(matched, Some(1));
    let (shown, matched) = pieces(&tokenizer, &ids[..8], ShowSpecial::Keep, &["\n\nUser:"]);
    assert_eq!((shown.concat().as_str(), matched), ("x\n\ny\n\nUs", None));
}

#[test]
fn a_clone_continues_independently() {
    let tokenizer = crate::support::qwen();
    let ids: Vec<u32> = "héllo END".bytes().map(|byte| byte_token(&tokenizer, byte)).collect();
    let stops = ["END".to_owned()];
    let mut first = Detokenizer::new(&tokenizer, ShowSpecial::Keep, &stops);
    let mut text: String = ids[..2].iter().map(|id| first.push(*id)).collect();
    let mut second = first.clone();
    first.push(ids[0]);
    text.extend(ids[2..].iter().map(|id| second.push(*id)));
    assert_eq!((text.as_str(), second.matched()), ("héllo ", Some(0)));
}

#[test]
fn the_leading_space_of_sentencepiece_is_dropped_once() {
    let tokenizer = crate::support::llama();
    let ids = tokenizer.encode("the the", AllowSpecial::All).expect("encodes");
    let (shown, _) = pieces(&tokenizer, &ids, ShowSpecial::Skip, &[]);
    assert_eq!(shown.concat(), "the the");
    let mut following = Detokenizer::new(&tokenizer, ShowSpecial::Skip, &[]).following_text();
    assert_eq!(following.push(ids[0]), " the");
}

/// The cost of a token does not depend on the number of earlier tokens.
#[test]
fn the_cost_of_a_token_does_not_grow() {
    let tokenizer = crate::support::qwen();
    let ids = tokenizer.encode(&"some words, 😀 and more\n".repeat(40), AllowSpecial::None).expect("encodes");
    let stops = ["\n\nHuman:".to_owned(), "😀😀".to_owned()];
    let mut detokenizer = Detokenizer::new(&tokenizer, ShowSpecial::Skip, &stops);
    let mut round = || {
        let start = std::time::Instant::now();
        (0..20).flat_map(|_| &ids).for_each(|id| drop(detokenizer.push(*id)));
        start.elapsed()
    };
    let mut times: Vec<_> = (0..10).map(|_| round()).collect();
    println!("{:?} a token", times[9] / u32::try_from(ids.len() * 20).expect("small"));
    let (early, late) = (times.drain(..5).min(), times.into_iter().min());
    assert!(late < early.map(|time| time * 5), "{late:?} after {early:?}");
}
