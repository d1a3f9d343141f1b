use rstest::rstest;

use super::*;
use crate::test_support::{device, relative_error, seed};

fn random(shape: &[i64]) -> Tensor {
    let _ = device();
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// The values that a layer computes with, read back from its rows.
fn values(linear: &Linear, rows: i64) -> Tensor {
    let ids = Tensor::arange(rows, (Kind::Int64, Device::Cpu));
    linear.rows_at(&ids, Kind::Float, device()).to_device(Device::Cpu)
}

/// Bound of the error of each format for normally distributed weights, and bits per weight.
#[rstest]
#[case::fp8(Quantization::Fp8, 0.03, 8.3)]
#[case::nf4(Quantization::Nf4, 0.1, 4.6)]
#[case::nvfp4(Quantization::Nvfp4, 0.12, 4.9)]
#[case::int4(Quantization::Int4, 0.1, 5.1)]
fn quantised_layers_multiply_by_the_values_they_store(
    #[case] quantization: Quantization,
    #[case] coarse: f64,
    #[case] bits: f64,
    #[values((Kind::Float, 1e-4), (Kind::BFloat16, 2e-2), (Kind::Half, 1e-2))] kind: (Kind, f64),
    #[values(3, 40)] batch: i64,
) {
    seed(7);
    let (kind, bound) = kind;
    let (weight, bias, input) = (random(&[96, 256]), random(&[96]), random(&[2, batch, 256]));
    let layer = Linear::quantized(
        &weight,
        quantization,
        Some(bias.to_device(device()).to_kind(kind)),
        kind,
        device(),
    )
    .expect("quantises");
    let stored = values(&layer, 96);
    let error = relative_error(&stored, &weight);
    assert!(error < coarse && error > 0.0, "{error}");
    let output = layer.forward(&input.to_device(device()).to_kind(kind));
    assert_eq!((output.kind(), output.size()), (kind, vec![2, batch, 96]));
    let error = relative_error(&output, &input.linear(&stored, Some(&bias)));
    assert!(error < bound, "{error}");
    let taken =
        (layer.resident_bytes() as f64 - 96.0 * kind.elt_size_in_bytes() as f64) * 8.0 / (96.0 * 256.0);
    assert!(taken < bits, "{taken} bits a weight");
}

#[test]
fn a_large_weight_is_widened_in_blocks() {
    seed(8);
    let (weight, bias, input) = (random(&[2050, 4096]), random(&[2050]), random(&[20, 4096]));
    let layer =
        Linear::quantized(&weight, Quantization::Fp8, Some(bias.to_device(device())), Kind::Float, device())
            .expect("quantises");
    let error = relative_error(
        &layer.forward(&input.to_device(device())),
        &input.linear(&values(&layer, 2050), Some(&bias)),
    );
    assert!(error < 1e-6, "{error}");
}

#[test]
fn parts_of_several_formats_are_concatenated() {
    seed(9);
    let weights = [32, 64, 16, 48].map(|rows| random(&[rows, 64]));
    let forms = [Quantization::Fp8, Quantization::Nf4, Quantization::None, Quantization::Int4];
    let bias = random(&[160]).to_device(device());
    let stored = weights
        .iter()
        .zip(forms)
        .map(|(weight, form)| HostWeight::Dense(weight.shallow_clone()).quantized(form));
    let stored = stored.collect::<Result<_, _>>().expect("quantises");
    let joined =
        Linear::from_parts(stored, Some(bias.shallow_clone()), Kind::Float, device()).expect("joins");
    let input = random(&[5, 64]).to_device(device());
    let mut first = 0;
    let output = joined.forward(&input);
    for (weight, form) in weights.iter().zip(forms) {
        let rows = weight.size()[0];
        let bias = bias.narrow(0, first, rows);
        let alone = Linear::quantized(weight, form, Some(bias), Kind::Float, device()).expect("quantises");
        let part = output.narrow(1, first, rows);
        assert!(part.allclose(&alone.forward(&input), 1e-5, 1e-5, false), "{form}");
        let ids = Tensor::arange_start(first, first + rows, (Kind::Int64, Device::Cpu));
        assert_eq!(joined.rows_at(&ids, Kind::Float, device()).to_device(Device::Cpu), values(&alone, rows));
        first += rows;
    }
    assert!(joined.shared().forward(&input).equal(&output), "the same storage, the same numbers");
}

#[test]
fn a_weight_that_is_not_whole_blocks_stays_dense() {
    let weight = random(&[8, 40]);
    for form in [Quantization::Nf4, Quantization::Nvfp4, Quantization::Int4] {
        let layer = Linear::quantized(&weight, form, None, Kind::Float, device()).expect("stays");
        assert!(values(&layer, 8).equal(&weight), "{form}");
    }
}

#[test]
fn a_row_outside_the_table_is_an_error() {
    let layer = Linear::quantized(&random(&[8, 64]), Quantization::Nf4, None, Kind::Float, Device::Cpu)
        .expect("makes");
    for row in [8, -1] {
        let ids = Tensor::from_slice(&[0, row]);
        let result = crate::catch_libtorch_errors(|| {
            Ok::<_, TensorError>(layer.rows_at(&ids, Kind::Float, Device::Cpu))
        });
        assert!(matches!(result, Err(TensorError::Libtorch(_))), "{result:?}");
    }
}

fn low_rank(outputs: i64, inputs: i64, rank: i64, kind: Kind) -> (Tensor, Tensor, LayerDelta) {
    let (down, up) = (random(&[rank, inputs]), random(&[outputs, rank]));
    let placed = |tensor: &Tensor| tensor.to_device(device()).to_kind(kind);
    let delta = LayerDelta::LowRank { down: placed(&down), up: placed(&up) };
    (down, up, delta)
}

#[rstest]
fn changes_are_added_to_their_part_of_a_layer_and_leave_nothing_behind(
    #[values(Quantization::None, Quantization::Nf4, Quantization::Int4)] form: Quantization,
    #[values((Kind::Float, 1e-5), (Kind::BFloat16, 2e-2))] (kind, bound): (Kind, f64),
    #[values(1, 40)] batch: i64,
) {
    seed(10);
    let shape = LayerShape { inputs: 64, outputs: 0, kind, device: device() };
    let layers = AdaptableLayers::default();
    let adapters = layers.register([("q".to_owned(), 32), ("k".to_owned(), 48)].into_iter(), shape);
    let weight = random(&[80, 64]);
    let layer = Linear::quantized(&weight, form, None, kind, device()).expect("quantises");
    let plain = layer.shared();
    let layer = layer.with_adapters(adapters);
    let input = random(&[2, batch, 64]).to_device(device()).to_kind(kind);
    let before = plain.forward(&input);
    assert!(layer.forward(&input).equal(&before));

    let (down, up, delta) = low_rank(48, 64, 4, kind);
    layers.add("k", &delta, 0.5).expect("fits");
    let (other_down, other_up, other) = low_rank(48, 64, 7, kind);
    layers.add("k", &other, -1.5).expect("fits");
    let (bias, difference) = (random(&[32]), random(&[32, 64]));
    let placed = |tensor: &Tensor| tensor.to_device(device()).to_kind(kind);
    layers.add("q", &LayerDelta::Bias(placed(&bias)), 2.0).expect("fits");
    layers.add("q", &LayerDelta::Full(placed(&difference)), 0.25).expect("fits");

    let exact = input.to_kind(Kind::Float).to_device(Device::Cpu);
    let key = 0.5 * exact.matmul(&down.tr()).matmul(&up.tr())
        - 1.5 * exact.matmul(&other_down.tr()).matmul(&other_up.tr());
    let query = 2.0 * bias + 0.25 * exact.matmul(&difference.tr());
    let added = Tensor::cat(&[query, key], -1);
    let expected = before.to_kind(Kind::Float).to_device(Device::Cpu) + added;
    let changed = layer.forward(&input);
    let error = relative_error(&changed, &expected);
    assert!(error < bound, "{error}");
    assert!(layer.shared().forward(&input).equal(&changed), "a second handle is changed, too");
    layers.clear();
    assert!(layer.forward(&input).equal(&before), "not one bit remains");
}

#[test]
fn a_change_that_does_not_fit_names_the_layer() {
    let shape = LayerShape { inputs: 64, outputs: 0, kind: Kind::Float, device: Device::Cpu };
    let layers = AdaptableLayers::default();
    let _adapters = layers.register([("q".to_owned(), 32)].into_iter(), shape);
    assert_eq!(layers.shapes(), [("q".to_owned(), LayerShape { outputs: 32, ..shape })]);
    let cpu = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for (name, delta) in [
        ("v", LayerDelta::Bias(cpu(&[32]))),
        ("q", LayerDelta::Bias(cpu(&[31]))),
        ("q", LayerDelta::Full(cpu(&[64, 32]))),
        ("q", LayerDelta::LowRank { down: cpu(&[4, 64]), up: cpu(&[32, 5]) }),
        ("q", LayerDelta::Bias(cpu(&[32]).to_kind(Kind::BFloat16))),
    ] {
        let error = layers.add(name, &delta, 1.0).expect_err("does not fit").to_string();
        assert!(error.starts_with(&format!("layer {name}: ")), "{error}");
    }
}
