use super::*;
use crate::test_support::relative_error;
use rstest::rstest;

/// A number below `below` derived from a seed: test data must not depend on the order of calls.
fn noise(seed: usize, below: u32) -> u32 {
    let mut value = (seed as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((value ^ (value >> 31)) % u64::from(below)) as u32
}

fn matrix(rows: usize, width: usize, format: BlockFormat) -> (BlockMatrix, Tensor) {
    let codes = if format.bits == CodeBits::Four { 16 } else { 256 };
    let weight = Tensor::zeros([rows as i64, width as i64], (Kind::Float, Device::Cpu));
    let values = SharedMut::new(host::slice_mut::<f32>(&weight));
    let matrix = BlockMatrix::build(rows, width, format, |row, out: &mut RowBlocks| {
        for (block, (scale, minimum)) in out.scales.iter_mut().zip(&mut out.minimums).enumerate() {
            *scale = f16::from_f32(noise(row * 977 + block, 1000) as f32 / 9000.0 + 0.01).to_f32();
            *minimum = f16::from_f32(noise(row * 733 + block, 1000) as f32 / -700.0).to_f32();
        }
        for (k, code) in out.codes.iter_mut().enumerate() {
            *code = noise(row * 10_007 + k, codes) as u8;
            let block = k / format.block;
            let value = match format.zero_point {
                ZeroPoint::Minimum => out.scales[block] * f32::from(*code) + out.minimums[block],
                ZeroPoint::Centre(centre) => out.scales[block] * (f32::from(*code) - f32::from(centre)),
            };
            // SAFETY: each row has its own part.
            unsafe { values.slice(row * width + k, 1)[0] = value };
        }
        Ok::<_, TensorError>(())
    });
    (matrix.expect("small"), weight)
}

fn product(level: Level, matrix: &BlockMatrix, input: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let output = Tensor::empty([input.size()[0], matrix.rows() as i64], (input.kind(), Device::Cpu));
    matrix.multiply(level, input, bias, &output);
    output
}

const FORMATS: [BlockFormat; 6] = [
    BlockFormat::Q4_0,
    BlockFormat::Q4_1,
    BlockFormat::Q8_0,
    BlockFormat::Q4_K,
    BlockFormat::Q6_K,
    BlockFormat { bits: CodeBits::Eight, block: 16, zero_point: ZeroPoint::Minimum, scales: ScaleKind::F16 },
];

#[rstest]
fn agrees_with_libtorch_on_the_decoded_weight(
    #[values(0, 1, 2, 3, 4, 5)] format: usize,
    #[values((1, 16, 32), (3, 17, 96), (29, 130, 160), (200, 64, 1536))] size: (i64, usize, usize),
) {
    tch::manual_seed(11);
    let (count, rows, width) = size;
    let (matrix, weight) = matrix(rows, width, FORMATS[format]);
    let mut row = vec![0f32; width];
    for index in 0..rows {
        matrix.decode_row(index, &mut row);
        assert_eq!(Tensor::from_slice(&row), weight.get(index as i64), "row {index}");
    }
    let exact_weight = weight.to_kind(Kind::Double);
    let bias = Tensor::randn([rows as i64], (Kind::Float, Device::Cpu));
    for (kind, bound) in [(Kind::Float, 2e-4), (Kind::BFloat16, 1.5e-2), (Kind::Half, 1.5e-2)] {
        let input = Tensor::randn([count, width as i64], (Kind::Float, Device::Cpu)).to_kind(kind);
        let exact = input.to_kind(Kind::Double).linear(&exact_weight, Some(&bias.to_kind(Kind::Double)));
        for level in Level::available() {
            let output = product(level, &matrix, &input, Some(&bias));
            assert_eq!(output.kind(), kind);
            let error = relative_error(&output, &exact);
            assert!(error < bound, "{level:?} {kind:?}: {error}");
        }
    }
}

#[rstest]
fn a_row_is_the_same_alone_and_in_every_batch(
    #[values(0, 1, 2, 3, 4, 5)] format: usize,
    #[values(Kind::Float, Kind::BFloat16)] kind: Kind,
) {
    tch::manual_seed(12);
    let (matrix, _) = matrix(83, 288, FORMATS[format]);
    let input = Tensor::randn([67, 288], (Kind::Float, Device::Cpu)).to_kind(kind);
    for level in Level::available() {
        let all = product(level, &matrix, &input, None);
        for (first, count) in [(0, 1), (66, 1), (5, 2), (13, 3), (2, 7), (9, 8), (1, 31)] {
            let part = product(level, &matrix, &input.narrow(0, first, count), None);
            assert_eq!(part, all.narrow(0, first, count), "{level:?}: {count} from {first}");
        }
    }
}

#[test]
fn non_finite_values_propagate() {
    let (matrix, _) = matrix(16, 64, BlockFormat::Q4_1);
    let input = Tensor::ones([2, 64], (Kind::Float, Device::Cpu));
    let _ = input.get(1).narrow(0, 5, 1).fill_(f64::NAN);
    let output = matrix.forward(&input, None);
    assert_eq!(
        output.isnan().sum_dim_intlist([1i64].as_slice(), false, Kind::Int64),
        Tensor::from_slice(&[0i64, 16])
    );
}

#[test]
fn errors_of_fill_are_returned_and_memory_is_as_small_as_the_file() {
    let failed = BlockMatrix::build(40, 64, BlockFormat::Q8_0, |row, _| {
        if row == 33 { Err(TensorError::Libtorch("row 33".into())) } else { Ok(()) }
    });
    assert!(matches!(failed, Err(TensorError::Libtorch(row)) if row == "row 33"));
    let (matrix, _) = matrix(64, 256, BlockFormat::Q4_1);
    assert_eq!(matrix.resident_bytes(), 64 * 256 / 32 * 20);
}
