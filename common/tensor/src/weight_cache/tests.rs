use std::fs;
use std::sync::Arc;

use rstest::rstest;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::{ExpertBank, ExpertShape, Linear, Weights};

const SHAPE: ExpertShape = ExpertShape { experts: 2, hidden: 64, intermediate: 64 };

fn write(folder: &Path, seed: i64) {
    tch::manual_seed(seed);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let tensors = [
        ("a.weight", random(&[32, 64])),
        ("odd.weight", random(&[4, 10])),
        ("experts.gate_up_proj", random(&[2, 128, 64])),
        ("experts.down_proj", random(&[2, 64, 64])),
    ];
    Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).expect("writes");
}

struct Model {
    a: Linear,
    odd: Linear,
    experts: ExpertBank,
    unused: Vec<String>,
}

fn load(folder: &Path, cache: &Path, quantization: Quantization) -> Model {
    let checkpoint = Arc::new(Checkpoint::open(folder).expect("opens"));
    let weights = Weights::new(checkpoint, Device::Cpu, Kind::Float, quantization).with_weight_cache(cache);
    let model = Model {
        a: weights.linear("a", 64, 32, false).expect("loads"),
        odd: weights.linear("odd", 10, 4, false).expect("loads"),
        experts: ExpertBank::load(&weights, SHAPE).expect("loads"),
        unused: weights.unused(),
    };
    weights.finish_weight_cache();
    model
}

fn outputs(model: &Model) -> [Tensor; 3] {
    let input = Tensor::arange(128, (Kind::Float, Device::Cpu)).sin().view([2, 64]);
    let ids = Tensor::from_slice(&[1i64, 0]).view([2, 1]);
    let ones = Tensor::ones([2, 1], (Kind::Float, Device::Cpu));
    [
        model.a.forward(&input),
        model.odd.forward(&input.narrow(1, 0, 10)),
        model.experts.forward(&input, &ids, &ones),
    ]
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").file_name());
    names.map(|name| name.into_string().expect("plain")).collect()
}

#[rstest]
fn the_second_load_reads_the_cache_and_computes_the_same(
    #[values(Quantization::Fp8, Quantization::Nf4, Quantization::Nvfp4, Quantization::Int4)]
    quantization: Quantization,
) {
    let (folder, cache) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let cache = cache.path().join("weights");
    write(folder.path(), 1);
    let first = load(folder.path(), &cache, quantization);
    let names = files(&cache);
    assert_eq!(names.len(), 1, "{names:?}");
    // What the cache file has is not read from the checkpoint any more: overwrite those bytes, keeping size and
    // modification time.
    let file = folder.path().join("model.safetensors");
    let facts = fs::metadata(&file).expect("is there");
    let bytes = fs::read(&file).expect("reads");
    let odd = Checkpoint::open(folder.path()).expect("opens").entry("odd.weight").expect("is there").clone();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let kept = odd.offset as usize..(odd.offset + odd.bytes) as usize;
    let broken: Vec<u8> = bytes
        .iter()
        .enumerate()
        .map(|(place, &byte)| if place < header || kept.contains(&place) { byte } else { 0 })
        .collect();
    fs::write(&file, broken).expect("writes");
    let times = fs::FileTimes::new().set_modified(facts.modified().expect("a time"));
    fs::File::options().write(true).open(&file).expect("opens").set_times(times).expect("sets");

    let second = load(folder.path(), &cache, quantization);
    for (left, right) in outputs(&first).iter().zip(outputs(&second)) {
        assert!(left.equal(&right));
    }
    assert_eq!(second.unused, Vec::<String>::new());
    assert_eq!(files(&cache), names, "and is not written again");
}

#[test]
fn a_changed_checkpoint_replaces_its_cache_file() {
    let (folder, cache) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    write(folder.path(), 1);
    load(folder.path(), cache.path(), Quantization::Int4);
    load(folder.path(), cache.path(), Quantization::Fp8);
    let before = files(cache.path());
    assert_eq!(before.len(), 2, "one for each form");
    write(folder.path(), 2);
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    let file = fs::File::options().write(true).open(folder.path().join("model.safetensors")).expect("opens");
    file.set_times(times).expect("sets");
    let loaded = load(folder.path(), cache.path(), Quantization::Int4);
    let after = files(cache.path());
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(after.iter().filter(|name| before.contains(name)).count(), 1, "the other form's stays");
    let fresh = load(folder.path(), &cache.path().join("other"), Quantization::Int4);
    assert!(outputs(&loaded)[0].equal(&outputs(&fresh)[0]));
}

#[test]
fn loading_succeeds_without_a_usable_cache() {
    let (folder, cache) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    write(folder.path(), 1);
    // A file where the folder should be.
    let blocked = cache.path().join("file");
    fs::write(&blocked, b"x").expect("writes");
    let without = load(folder.path(), &blocked, Quantization::Nf4);
    let with = load(folder.path(), cache.path(), Quantization::Nf4);
    let copy = files(cache.path()).into_iter().find(|name| name.ends_with(".safetensors")).expect("a copy");
    fs::write(cache.path().join(&copy), b"broken").expect("writes");
    let again = load(folder.path(), cache.path(), Quantization::Nf4);
    for (left, right) in [(&without, &with), (&with, &again)] {
        assert!(outputs(left)[0].equal(&outputs(right)[0]));
    }
    assert!(fs::metadata(cache.path().join(&copy)).expect("is there").len() > 6, "made again");
    // Files of a killed process are removed when the next file is started; a file that another process is writing is
    // kept.
    let place = copy.rsplit_once('-').expect("a name with parts").0;
    let [abandoned, alive] = ["1-1", "2-2"].map(|pid| cache.path().join(format!("{place}-x.{pid}.partial")));
    fs::write(&alive, b"x").expect("writes");
    let old = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::create(&abandoned).and_then(|file| file.set_times(old)).expect("writes");
    fs::write(cache.path().join(&copy), b"broken").expect("writes");
    load(folder.path(), cache.path(), Quantization::Nf4);
    assert!(!abandoned.exists() && alive.exists());
    // Without quantisation nothing is cached.
    load(folder.path(), &cache.path().join("none"), Quantization::None);
    assert!(!cache.path().join("none").exists());
}
