//! Prompt cleaning against diffusers and ftfy (`tests/reference/prompt_cleaning.py`).

use std::collections::BTreeMap;

use serde::Deserialize;
use videosdgx_video::text::clean_prompt;

#[derive(Deserialize)]
struct Golden {
    letters: String,
    signs: Vec<char>,
    /// For each context such as `a {}{} b`, a row for each letter with the cleaned prompt for each sign.
    pairs: BTreeMap<String, Vec<Vec<String>>>,
    /// Prompts and their cleaned form.
    cases: Vec<(String, String)>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/prompts/cleaning.json");
    serde_json::from_slice(&std::fs::read(path).expect("the fixture is committed")).expect("is valid")
}

/// Fails with the first differences.
fn assert_cleaned<'a>(cases: impl Iterator<Item = (String, &'a str)>) {
    let mut count = 0;
    let wrong: Vec<String> = cases
        .inspect(|_| count += 1)
        .filter_map(|(prompt, expected)| {
            let cleaned = clean_prompt(&prompt);
            (cleaned != expected).then(|| format!("{prompt:?}: {cleaned:?}, not {expected:?}"))
        })
        .collect();
    let shown = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), shown.join("\n"));
    assert!(count > 100, "{count} cases");
}

#[test]
fn good_text_with_every_letter_before_every_sign_is_kept() {
    let golden = golden();
    let (letters, signs) = (&golden.letters, &golden.signs);
    assert_cleaned(golden.pairs.iter().flat_map(|(context, rows)| {
        letters.chars().zip(rows).flat_map(move |(letter, row)| {
            signs.iter().zip(row).map(move |(sign, cleaned)| {
                let prompt =
                    context.replacen("{}", &letter.to_string(), 1).replacen("{}", &sign.to_string(), 1);
                (prompt, cleaned.as_str())
            })
        })
    }));
}

#[test]
fn text_that_was_decoded_wrongly_is_repaired_as_ftfy_does() {
    let golden = golden();
    assert_cleaned(golden.cases.iter().map(|(prompt, cleaned)| (prompt.clone(), cleaned.as_str())));
}
