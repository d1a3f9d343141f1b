//! Counter-based random numbers.

/// A number in [0, 1) that depends only on the seed and the counter: SplitMix64's finaliser (Steele, Lea, Flood 2014) over both,
/// applied twice, because adjacent seeds and counters are common.
pub(crate) fn uniform(seed: u64, counter: u64) -> f64 {
    let mixed =
        mix(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ counter.wrapping_mul(0xd1b5_4a32_d192_ed03));
    // 53 bits, the precision of an f64.
    (mix(mixed.wrapping_add(0x9e37_79b9_7f4a_7c15)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
