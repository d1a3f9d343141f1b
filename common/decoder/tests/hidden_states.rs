//! Hidden states of a prompt that is padded on the left, against transformers, and the layouts of Gemma 3's files.

mod support;

use std::path::Path;

use rstest::rstest;
use support::{device, folder, golden, relative};
use videosdgx_decoder::{HiddenStates, LoadOptions, Source, TextModel};
use videosdgx_tensor::{CheckpointError, Kind, Quantization, Tensor, TensorError};

/// Padding of the fixtures' prompts (`tests/reference/text_models.py`).
const PADDING: usize = 9;

fn options(kind: Kind, quantization: Quantization) -> LoadOptions {
    LoadOptions::new(device(), kind, quantization)
}

fn load(path: &Path, kind: Kind, quantization: Quantization) -> HiddenStates {
    let source = Source::open(path).expect("opens");
    source.load_hidden_states(&options(kind, quantization)).expect("loads")
}

/// Prompts with the reference's states, `[tokens, hidden, layers + 1]`.
fn expected(family: &str) -> Vec<(Vec<i64>, Tensor)> {
    let path = folder(family).join("golden.safetensors");
    let tensors = Tensor::read_safetensors(path).expect("is committed");
    let states = |index: usize| {
        let name = format!("hidden.{index}");
        tensors.iter().find(|(known, _)| *known == name).expect("there").1.shallow_clone()
    };
    let prompts = golden(family).into_iter().enumerate();
    prompts
        .map(|(index, one)| (one.tokens.iter().map(|&id| i64::from(id)).collect(), states(index)))
        .collect()
}

/// The largest relative error of one state of one prompt.
fn largest_error(encoder: &HiddenStates, family: &str, kind: Kind) -> f64 {
    let prompts = expected(family).into_iter().flat_map(|(tokens, theirs)| {
        let ours = encoder.compute(&tokens, PADDING).expect("computes");
        assert_eq!((ours.size(), ours.kind()), (theirs.size(), kind));
        (0..encoder.states()).map(move |state| relative(&ours.select(-1, state), &theirs.select(-1, state)))
    });
    prompts.fold(0.0, f64::max)
}

#[rstest]
fn states_are_the_references(
    #[values("gemma3", "gemma3_text")] family: &str,
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
) {
    let encoder = load(&folder(family), kind, Quantization::None);
    assert_eq!(encoder.unused(), [""; 0], "every tensor has a place");
    let error = largest_error(&encoder, family, kind);
    println!("{family} {kind:?}: {error:.2e}");
    assert!(error <= bound, "{error:.2e}");
}

#[rstest]
fn quantised_layers_stay_near_and_take_what_was_said(
    #[values((Quantization::None, 1e-4), (Quantization::Fp8, 0.3), (Quantization::Nvfp4, 0.7))]
    (quantization, bound): (Quantization, f64),
) {
    let source = Source::open(folder("gemma3")).expect("opens");
    let options = options(Kind::Float, quantization);
    let (whole, said) = (source.memory(&options), source.hidden_states_memory(&options, 40));
    let encoder = source.load_hidden_states(&options).expect("loads");
    let error = largest_error(&encoder, "gemma3", Kind::Float);
    println!("{quantization}: {error:.2e}; {} bytes said, {} taken", said.weights, encoder.weight_bytes());
    assert!(error < bound && (quantization == Quantization::None) == (error < 1e-4), "{error:.2e}");
    // Of the rows of 40 values, which are not whole blocks of NVFP4, the estimate knows nothing.
    let ratio = said.weights as f64 / encoder.weight_bytes() as f64;
    assert!((0.6..1.3).contains(&ratio) || quantization == Quantization::Nvfp4, "{ratio}");
    assert_eq!(whole.weights - said.weights, 200 * 32 * 4, "the token embedding stays on the disk");
}

/// The states of a prompt without its last tokens are those of the whole prompt: later tokens have no influence.
#[test]
fn a_token_does_not_depend_on_later_ones() {
    let encoder = load(&folder("gemma3"), Kind::Float, Quantization::None);
    let (tokens, _) = expected("gemma3").remove(2);
    let whole = encoder.compute(&tokens, 0).expect("computes");
    let part = encoder.compute(&tokens[..17], 0).expect("computes");
    assert!(relative(&part, &whole.narrow(0, 0, 17)) < 1e-6);
}

#[test]
fn tokens_that_the_model_does_not_have_are_refused() {
    let encoder = load(&folder("gemma3"), Kind::Float, Quantization::None);
    let error = encoder.compute(&[3, 200], 0).expect_err("no such token");
    assert!(
        matches!(&error, TensorError::Checkpoint(CheckpointError::Invalid { .. }))
            && error.to_string().contains("no token 200, its vocabulary has 200"),
        "{error}"
    );
    for (tokens, first) in [(vec![], 0), (vec![1; 513], 0), (vec![1; 5], 508), (vec![1], usize::MAX)] {
        let error = encoder.compute(&tokens, first).expect_err("too long").to_string();
        assert!(error.contains("of a context of 512"), "{error}");
    }
}

/// Files of transformers before 4.52 and what transformers 5 saves, files of transformers 4.52 to 4.57, and the text part
/// alone have other prefixes.
#[rstest]
fn all_published_prefixes_are_read(
    #[values("language_model.model.", "model.language_model.", "model.")] prefix: &str,
    #[values("gemma3", "gemma3_text")] family: &str,
) {
    let copy = tempfile::tempdir().expect("temporary folder");
    let source = folder(family);
    std::fs::copy(source.join("config.json"), copy.path().join("config.json")).expect("copies");
    let stored = std::fs::read(source.join("model.safetensors")).expect("is committed");
    let renamed = renamed(&stored, |name| {
        let text = name.strip_prefix("language_model.model.").or_else(|| name.strip_prefix("model."));
        text.map_or_else(|| format!("model.{name}"), |text| format!("{prefix}{text}"))
    });
    std::fs::write(copy.path().join("model.safetensors"), renamed).expect("writes");
    let encoder = load(copy.path(), Kind::Float, Quantization::None);
    assert_eq!(encoder.unused(), [""; 0]);
    assert!(largest_error(&encoder, family, Kind::Float) < 1e-4);
    let model = TextModel::load(copy.path(), &options(Kind::Float, Quantization::None)).expect("loads");
    assert_eq!(model.unused(), [""; 0]);
}

/// A safetensors file whose tensors have other names.
fn renamed(file: &[u8], rename: impl Fn(&str) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let header = header.into_iter().map(|(name, entry)| match name.as_str() {
        "__metadata__" => (name, entry),
        _ => (rename(&name), entry),
    });
    let header = serde_json::to_vec(&header.collect::<serde_json::Map<_, _>>()).expect("JSON");
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &file[8 + length..]].concat()
}
