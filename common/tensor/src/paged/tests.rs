use super::*;
use crate::test_support::{device, relative_error, seed};
use rstest::rstest;

struct Sequence {
    start: usize,
    len: usize,
    blocks: Vec<u32>,
}

/// Sequences of the given starts and lengths, with blocks scattered over the cache.
fn sequences(sizes: &[(usize, usize)]) -> (Vec<Sequence>, usize) {
    let mut next = 0u32;
    let needed: usize = sizes.iter().map(|(start, len)| (start + len).div_ceil(CACHE_BLOCK_TOKENS) + 1).sum();
    // 7 is coprime to the modulus, so every block is used once.
    let modulus = (needed as u32 + 1).next_multiple_of(7) + 1;
    let sequences = sizes
        .iter()
        .map(|&(start, len)| {
            let count = (start + len).div_ceil(CACHE_BLOCK_TOKENS) + 1;
            let blocks = (0..count as u32).map(|index| (next + index) * 7 % modulus).collect();
            next += count as u32;
            Sequence { start, len, blocks }
        })
        .collect();
    (sequences, modulus as usize)
}

fn random(shape: &[usize], kind: Kind) -> Tensor {
    let _ = device();
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Tensor::randn(shape.as_slice(), (Kind::Float, Device::Cpu)).to_kind(kind)
}

fn host(shape: KvCacheShape, kind: Kind, level: Level, blocks: usize) -> KvCache {
    let storage = CacheStorage::Host(Store::new(shape, kind, level).expect("small"));
    let mut cache = KvCache { shape, kind, blocks: 0, storage };
    cache.resize(blocks).expect("small");
    cache
}

fn gathered(shape: KvCacheShape, kind: Kind, blocks: usize) -> KvCache {
    let storage = CacheStorage::Device(Gathered::new(shape, kind, device()).expect("small"));
    let mut cache = KvCache { shape, kind, blocks: 0, storage };
    cache.resize(blocks).expect("small");
    cache
}

/// Where a cache takes its tensors.
fn place(cache: &KvCache) -> Device {
    match cache.storage {
        CacheStorage::Host(_) => Device::Cpu,
        CacheStorage::Device(_) => device(),
    }
}

/// Writes random keys and values for all positions of all sequences to both caches, in one step of whole sequences.
fn fill(caches: &mut [&mut KvCache], sequences: &[Sequence], kind: Kind) {
    let shape = caches[0].shape();
    let tokens: usize = sequences.iter().map(|sequence| sequence.start + sequence.len).sum();
    let whole: Vec<PagedSegment<'_>> = sequences
        .iter()
        .map(|sequence| PagedSegment {
            start: 0,
            len: sequence.start + sequence.len,
            blocks: &sequence.blocks,
        })
        .collect();
    for layer in 0..shape.layers {
        // Keys and values are parts of wider rows, as a fused projection returns them.
        let rows = random(&[tokens, shape.heads * (shape.key_dim + shape.value.dim()) + 8], kind);
        let heads = shape.heads as i64;
        let key = rows.narrow(1, 8, heads * shape.key_dim as i64).unflatten(1, [heads, -1]);
        let value = rows
            .narrow(1, 8 + heads * shape.key_dim as i64, heads * shape.value.dim() as i64)
            .unflatten(1, [heads, -1]);
        let value = matches!(shape.value, ValueStorage::Separate(_)).then_some(&value);
        for cache in caches.iter_mut() {
            let device = place(cache);
            let value = value.map(|value| value.to_device(device));
            cache.write(layer, &key.to_device(device), value.as_ref(), &whole);
        }
    }
}

fn segments(sequences: &[Sequence]) -> Vec<PagedSegment<'_>> {
    let of = |sequence: &'_ Sequence| (sequence.start, sequence.len);
    sequences
        .iter()
        .map(|sequence| PagedSegment { start: of(sequence).0, len: of(sequence).1, blocks: &sequence.blocks })
        .collect()
}

/// Windows of layer 1: smaller than a block, within a tile of keys, a whole one, and over several.
const WINDOWS: [(usize, AttentionSpan); 5] = [
    (1, AttentionSpan::Window(1)),
    (1, AttentionSpan::Window(5)),
    (1, AttentionSpan::Window(70)),
    (1, AttentionSpan::Window(128)),
    (1, AttentionSpan::Window(290)),
];

const SIZES: [(usize, usize); 7] = [(0, 1), (37, 1), (0, 70), (130, 19), (300, 1), (127, 2), (0, 16)];

#[rstest]
fn agrees_with_libtorch(
    #[values((3, 3, 64, ValueStorage::Separate(64)), (2, 4, 20, ValueStorage::Separate(12)), (1, 7, 128, ValueStorage::Separate(80)),
             (2, 1, 8, ValueStorage::Separate(8)), (1, 20, 72, ValueStorage::KeyPrefix(64)), (1, 3, 24, ValueStorage::KeyPrefix(16)),
             (1, 5, 576, ValueStorage::KeyPrefix(512)))]
    sizes: (usize, usize, usize, ValueStorage),
    #[values((Kind::Float, Kind::Float, 2e-6), (Kind::BFloat16, Kind::BFloat16, 6e-3), (Kind::Half, Kind::Half, 1e-3),
             (Kind::Float, Kind::BFloat16, 2e-6))]
    kinds: (Kind, Kind, f64),
) {
    seed(21);
    let (heads, group, key_dim, value) = sizes;
    let (kind, stored, bound) = kinds;
    let shape = KvCacheShape { layers: 2, heads, key_dim, value };
    let (sequences, blocks) = sequences(&SIZES);
    let tokens = SIZES.iter().map(|(_, len)| len).sum();
    let query = random(&[tokens, heads * group + 1, key_dim], kind).narrow(1, 1, (heads * group) as i64);
    for level in Level::available() {
        let (mut ours, mut reference) = (host(shape, stored, level, blocks), gathered(shape, stored, blocks));
        fill(&mut [&mut ours, &mut reference], &sequences, kind);
        for (layer, span) in [(0, AttentionSpan::All), (1, AttentionSpan::All)].into_iter().chain(WINDOWS) {
            let segments = segments(&sequences);
            let expected = reference.attention(layer, &query.to_device(device()), &segments, span, 0.3);
            let result = ours.attention(layer, &query, &segments, span, 0.3);
            assert_eq!((result.size(), result.kind()), (expected.size(), kind));
            let error = relative_error(&result, &expected);
            assert!(error < bound, "{level:?}, layer {layer}, {span:?}: {error}");
        }
    }
}

#[rstest]
fn a_row_is_the_same_alone_in_every_batch_and_in_every_chunking(
    #[values((3, 3, 64, ValueStorage::Separate(64)), (1, 20, 72, ValueStorage::KeyPrefix(64)))] sizes: (
        usize,
        usize,
        usize,
        ValueStorage,
    ),
    #[values(Kind::Float, Kind::BFloat16)] kind: Kind,
    #[values(AttentionSpan::All, AttentionSpan::Window(9), AttentionSpan::Window(131))] span: AttentionSpan,
) {
    seed(22);
    let (heads, group, key_dim, value) = sizes;
    let shape = KvCacheShape { layers: 1, heads, key_dim, value };
    let lengths = [(0, 290), (0, 45), (0, 130)];
    let (sequences, blocks) = sequences(&lengths);
    let query = random(&[465, heads * group, key_dim], kind);
    for level in Level::available() {
        let mut cache = host(shape, kind, level, blocks);
        fill(&mut [&mut cache], &sequences, kind);
        let all = cache.attention(0, &query, &segments(&sequences), span, 0.1);
        let mut first = 0;
        for sequence in &sequences {
            for (start, len) in [(0, 1), (0, 33), (33, 12), (40, 5), (44, 1), (129, 1), (17, 113), (250, 40)]
            {
                if start + len > sequence.len {
                    continue;
                }
                let rows = |tensor: &Tensor| tensor.narrow(0, first + start as i64, len as i64);
                let alone = [PagedSegment { start, len, blocks: &sequence.blocks }];
                let part = cache.attention(0, &rows(&query), &alone, span, 0.1);
                assert_eq!(part, rows(&all), "{level:?}: {len} from {start} of {}", sequence.len);
            }
            first += sequence.len as i64;
        }
    }
}

/// Contexts that are long enough for spans of several tiles.
#[rstest]
fn long_contexts_agree_with_libtorch_and_in_every_chunking(
    #[values(2047, 3000, 8190, 10_230)] start: usize,
    #[values(AttentionSpan::All, AttentionSpan::Window(300), AttentionSpan::Window(4096))]
    span: AttentionSpan,
    #[values((2, 3, 16, ValueStorage::Separate(16)), (1, 4, 24, ValueStorage::KeyPrefix(16)))] sizes: (
        usize,
        usize,
        usize,
        ValueStorage,
    ),
) {
    seed(24);
    let (heads, group, key_dim, value) = sizes;
    let shape = KvCacheShape { layers: 1, heads, key_dim, value };
    let (sequences, blocks) = sequences(&[(start, 70), (40, 1)]);
    let query = random(&[71, heads * group, key_dim], Kind::Float);
    for level in Level::available() {
        let (mut ours, mut reference) =
            (host(shape, Kind::Float, level, blocks), gathered(shape, Kind::Float, blocks));
        fill(&mut [&mut ours, &mut reference], &sequences, Kind::Float);
        let all = ours.attention(0, &query, &segments(&sequences), span, 0.3);
        let expected = reference.attention(0, &query.to_device(device()), &segments(&sequences), span, 0.3);
        let error = relative_error(&all, &expected);
        assert!(error < 2e-6, "{level:?}: {error}");
        for (first, len) in [(0, 1), (1, 4), (5, 33), (69, 1)] {
            let rows = |tensor: &Tensor| tensor.narrow(0, first as i64, len as i64);
            let alone = [PagedSegment { start: start + first, len, blocks: &sequences[0].blocks }];
            let part = ours.attention(0, &rows(&query), &alone, span, 0.3);
            assert_eq!(part, rows(&all), "{level:?}: {len} from {first}");
        }
    }
}

#[rstest]
fn remaining_blocks_survive_resizing(#[values(true, false)] on_host: bool, #[values(true, false)] own: bool) {
    seed(23);
    let value = if own { ValueStorage::Separate(16) } else { ValueStorage::KeyPrefix(16) };
    let shape = KvCacheShape { layers: 2, heads: 2, key_dim: 24, value };
    let (sequences, _) = sequences(&[(0, 60)]);
    let table: Vec<u32> = (0..4).collect();
    let mut cache =
        if on_host { host(shape, Kind::Float, Level::detect(), 4) } else { gathered(shape, Kind::Float, 4) };
    let sequences = vec![Sequence { blocks: table, ..sequences.into_iter().next().expect("one") }];
    fill(&mut [&mut cache], &sequences, Kind::Float);
    let query = random(&[60, 4, 24], Kind::Float).to_device(place(&cache));
    let before = cache.attention(1, &query, &segments(&sequences), AttentionSpan::All, 0.2);
    for blocks in [4000, 9, 4] {
        cache.resize(blocks).expect("small");
        assert_eq!(cache.blocks(), blocks);
        assert_eq!(
            cache.attention(1, &query, &segments(&sequences), AttentionSpan::All, 0.2),
            before,
            "{blocks} blocks"
        );
    }
    let own = if own { 16 } else { 0 };
    assert_eq!(cache.bytes_per_token(), 2 * 2 * (24 + own) * 4);
}

#[test]
fn an_impossible_size_is_an_error_and_keeps_the_cache() {
    let shape = KvCacheShape { layers: 2, heads: 8, key_dim: 128, value: ValueStorage::Separate(128) };
    let mut cache = host(shape, Kind::BFloat16, Level::detect(), 3);
    for blocks in [1 << 44, usize::MAX] {
        assert!(matches!(cache.resize(blocks), Err(TensorError::OutOfMemory(_))));
        assert_eq!(cache.blocks(), 3);
    }
    cache.resize(5).expect("small");
}

#[test]
fn no_rows_and_no_tokens() {
    let shape = KvCacheShape { layers: 1, heads: 1, key_dim: 16, value: ValueStorage::Separate(16) };
    let mut cache = KvCache::new(shape, Kind::Float, Device::Cpu).expect("small");
    let none = random(&[0, 2, 16], Kind::Float);
    cache.write(0, &random(&[0, 1, 16], Kind::Float), Some(&random(&[0, 1, 16], Kind::Float)), &[]);
    assert_eq!(cache.attention(0, &none, &[], AttentionSpan::All, 1.0).size(), [0, 2, 16]);
}

/// A window is the newest tokens, itself included: the keys before it have no influence, its first one has.
#[test]
fn a_window_ends_where_it_says() {
    seed(25);
    let shape = KvCacheShape { layers: 1, heads: 1, key_dim: 16, value: ValueStorage::Separate(16) };
    let (sequences, blocks) = sequences(&[(0, 40)]);
    let (key, value) = (random(&[40, 1, 16], Kind::Float), random(&[40, 1, 16], Kind::Float));
    let query = random(&[40, 1, 16], Kind::Float);
    let (window, changed) = (6, 20);
    let other = value.copy();
    let _ = other.get(changed).fill_(9.0);
    for on_host in [true, false] {
        let attend = |value: &Tensor| {
            let mut cache = match on_host {
                true => host(shape, Kind::Float, Level::detect(), blocks),
                false => gathered(shape, Kind::Float, blocks),
            };
            let (place, segments) = (place(&cache), segments(&sequences));
            cache.write(0, &key.to_device(place), Some(&value.to_device(place)), &segments);
            let span = AttentionSpan::Window(window);
            cache.attention(0, &query.to_device(place), &segments, span, 0.3).to_device(Device::Cpu)
        };
        let (before, after) = (attend(&value), attend(&other));
        let differ: Vec<i64> = (0..40).filter(|&row| before.get(row) != after.get(row)).collect();
        assert_eq!(differ, (changed..changed + window as i64).collect::<Vec<_>>(), "host: {on_host}");
    }
}
