//! Measures the CPU kernels and the machine's memory bandwidth in the same run.
//!
//! `cargo run --release -p videosdgx-tensor --example bench_kernels`

use std::hint::black_box;
use std::time::Instant;

use videosdgx_tensor::{
    AttentionSpan, BlockFormat, BlockMatrix, Device, Kind, KvCache, KvCacheShape, PagedSegment, RotaryAngles,
    RotaryStyle, RowBlocks, Tensor, TensorError, ValueStorage, add_rms_norm, linear_few_rows, rms_norm,
    rotate_heads, swiglu, use_passive_waiting,
};

/// Shapes of SmolLM2-135M's linears `[out, in]`: fused q/k/v, output, fused gate/up, down.
const LINEARS: [(usize, usize); 4] = [(960, 576), (576, 576), (3072, 576), (576, 1536)];

fn main() {
    use_passive_waiting();
    let _no_grad = tch::no_grad_guard();
    let selected: Vec<String> = std::env::args().skip(1).collect();
    let want = |name: &str| selected.is_empty() || selected.iter().any(|part| name.contains(part.as_str()));
    if want("memory") {
        println!("memory: {:.1} GB/s read by two threads", memory_rate());
    }
    if want("block") {
        blocks("q4_1", BlockFormat::Q4_1, &LINEARS, 30);
        blocks("q8_0 head", BlockFormat::Q8_0, &[(49_152, 576)], 2);
    }
    if want("dense") {
        dense();
    }
    if want("attention") {
        attention();
    }
    if want("small") {
        small();
    }
}

/// The best of several runs: the speed of the kernel without disturbance by other processes.
fn best(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    let mut runs = 0;
    while runs < 5 || (begin.elapsed().as_secs_f64() < 0.7 && runs < 3000) {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn memory_rate() -> f64 {
    let values = vec![1u64; 64 << 20];
    let seconds = best(|| {
        std::thread::scope(|scope| {
            for half in values.chunks(values.len() / 2) {
                scope.spawn(move || {
                    let mut sums = [0u64; 32];
                    for chunk in half.chunks_exact(32) {
                        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum ^= value);
                    }
                    black_box(sums);
                });
            }
        });
    });
    (values.len() * 8) as f64 / seconds / 1e9
}

fn random_matrix(rows: usize, width: usize, format: BlockFormat) -> BlockMatrix {
    BlockMatrix::build(rows, width, format, |row, out: &mut RowBlocks| {
        let codes = if format == BlockFormat::Q4_1 { 15 } else { 255 };
        out.codes
            .iter_mut()
            .enumerate()
            .for_each(|(k, code)| *code = (row * 31 + k * 17 + k * row) as u8 & codes);
        out.scales.fill(0.01);
        out.minimums.fill(-0.07);
        Ok::<_, TensorError>(())
    })
    .expect("enough memory")
}

fn blocks(name: &str, format: BlockFormat, shapes: &[(usize, usize)], layers: usize) {
    let matrices: Vec<BlockMatrix> = (0..layers)
        .flat_map(|_| shapes.iter().map(|&(rows, width)| random_matrix(rows, width, format)))
        .collect();
    let bytes: u64 = matrices.iter().map(BlockMatrix::resident_bytes).sum();
    let operations: usize = matrices.iter().map(|matrix| 2 * matrix.rows() * matrix.width()).sum();
    for kind in [Kind::Float, Kind::BFloat16] {
        for rows in [1i64, 2, 4, 8, 16, 64, 512] {
            let inputs = [576i64, 1536].map(|width| Tensor::randn([rows, width], (kind, Device::Cpu)));
            let seconds = best(|| {
                for matrix in &matrices {
                    let input = if matrix.width() == 576 { &inputs[0] } else { &inputs[1] };
                    drop(black_box(matrix.forward(input, None)));
                }
            });
            println!(
                "{name} {kind:?} {rows:3} rows: {:7.3} ms, {:6.1} GB/s, {:6.1} GOP/s",
                seconds * 1e3,
                bytes as f64 / seconds / 1e9,
                (operations as i64 * rows) as f64 / seconds / 1e9
            );
        }
    }
}

fn dense() {
    for kind in [Kind::BFloat16, Kind::Float] {
        let weights: Vec<Tensor> = (0..6).map(|_| Tensor::randn([4096, 2560], (kind, Device::Cpu))).collect();
        let bytes = weights.len() * 4096 * 2560 * kind.elt_size_in_bytes();
        for rows in [1i64, 2, 4, 8, 16] {
            let input = Tensor::randn([rows, 2560], (kind, Device::Cpu));
            let ours = best(|| {
                for weight in &weights {
                    drop(black_box(linear_few_rows(&input, weight, None)));
                }
            });
            let libtorch = best(|| {
                for weight in &weights {
                    drop(black_box(input.linear(weight, None::<&Tensor>)));
                }
            });
            println!(
                "dense {kind:?} {rows:2} rows: {:5.1} GB/s, libtorch {:5.1} GB/s",
                bytes as f64 / ours / 1e9,
                bytes as f64 / libtorch / 1e9
            );
        }
    }
}

fn attention() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let shape = KvCacheShape { layers: 30, heads: 3, key_dim: 64, value: ValueStorage::Separate(64) };
        let mut cache = KvCache::new(shape, kind, Device::Cpu).expect("enough memory");
        cache.resize(1024).expect("enough memory");
        let tables: Vec<Vec<u32>> = (0..16).map(|index| (index * 64..(index + 1) * 64).collect()).collect();
        for (name, sequences, start, len) in [
            ("prefill 512", 1, 0usize, 512usize),
            ("decode at 128", 1, 128, 1),
            ("decode at 600", 1, 600, 1),
            ("decode 4 at 600", 4, 600, 1),
            ("decode 16 at 600", 16, 600, 1),
        ] {
            let segments: Vec<PagedSegment<'_>> =
                tables[..sequences].iter().map(|blocks| PagedSegment { start, len, blocks }).collect();
            let rows = (sequences * len) as i64;
            let fused = Tensor::randn([rows, 15, 64], (Kind::Float, Device::Cpu));
            let (query, key, value) = (fused.narrow(1, 0, 9), fused.narrow(1, 9, 3), fused.narrow(1, 12, 3));
            let writes = best(|| (0..30).for_each(|layer| cache.write(layer, &key, Some(&value), &segments)));
            let reads = best(|| {
                for layer in 0..30 {
                    drop(black_box(cache.attention(layer, &query, &segments, AttentionSpan::All, 0.125)));
                }
            });
            println!(
                "attention {kind:?} {name}, 30 layers: {:8.3} ms, writing {:6.3} ms",
                reads * 1e3,
                writes * 1e3
            );
        }
    }
}

fn small() {
    for rows in [1usize, 4, 512] {
        let count = rows as i64;
        let options = (Kind::Float, Device::Cpu);
        let (mut hidden, branch) =
            (Tensor::randn([count, 576], options), Tensor::randn([count, 576], options));
        let weight = Tensor::ones([576], options);
        let gate_up = Tensor::randn([count, 3072], options);
        let mut fused = Tensor::randn([count, 960], options);
        let frequencies: Vec<f32> = (0..32).map(|i| 1e5f32.powf(-f32::from(i as u8) / 32.0)).collect();
        let angles = RotaryAngles::at(0..rows, &frequencies, 1.0, Device::Cpu);
        let micros = |seconds: f64| seconds * 1e6 / 100.0;
        let hundred = |work: &mut dyn FnMut()| micros(best(|| (0..100).for_each(|_| work())));
        let empty = hundred(&mut || drop(black_box(Tensor::empty([count, 576], options))));
        let norm = hundred(&mut || drop(black_box(rms_norm(&hidden, &weight, 1e-5))));
        let add_norm = hundred(&mut || drop(black_box(add_rms_norm(&mut hidden, &branch, &weight, 1e-5))));
        let gate = hundred(&mut || drop(black_box(swiglu(&gate_up))));
        let rotate = hundred(&mut || {
            rotate_heads(&mut fused, 0, 9, 64, None, &angles, RotaryStyle::Halves);
        });
        println!(
            "{rows:3} rows, µs: an empty tensor {empty:.2}, norm {norm:.2}, add and norm {add_norm:.2}, swiglu {gate:.2}, \
             rotary of 9 heads {rotate:.2}"
        );
    }
}
