use std::sync::Arc;

use rstest::rstest;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::test_support::{device, relative_error, seed};
use crate::{Checkpoint, Quantization};

const SHAPE: ExpertShape = ExpertShape { experts: 5, hidden: 64, intermediate: 128 };

/// Gate, up and down of each expert.
fn experts(shape: ExpertShape) -> Vec<[Tensor; 3]> {
    let ExpertShape { experts, hidden, intermediate } = shape;
    // Not from the global random generator: other tests use it at the same time, and these values are generated
    // twice.
    let numbers = |part: i64, rows: i64, width: i64| {
        let places = Tensor::arange(rows * width, (Kind::Double, Device::Cpu)) + 1e5 * part as f64;
        (places * 0.754_877).sin().square().fmod(0.01).view([rows, width]).to_kind(Kind::Float) * 40.0 - 0.2
    };
    (0..experts)
        .map(|expert| {
            [(0, intermediate, hidden), (1, intermediate, hidden), (2, hidden, intermediate)]
                .map(|(part, rows, width)| numbers(3 * expert + part, rows, width))
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Form {
    OneByOne,
    Stacked,
    Transposed,
    Gguf,
}

fn bank(form: Form, shape: ExpertShape, quantization: Quantization) -> ExpertBank {
    let experts = experts(shape);
    let stack = |part: usize| {
        Tensor::stack(&experts.iter().map(|parts| parts[part].shallow_clone()).collect::<Vec<_>>(), 0)
    };
    let tensors: Vec<(String, Tensor)> = match form {
        Form::OneByOne => experts
            .iter()
            .enumerate()
            .flat_map(|(index, parts)| {
                ["gate_proj", "up_proj", "down_proj"].iter().zip(parts).map(move |(name, tensor)| {
                    (format!("mlp.experts.{index}.{name}.weight"), tensor.shallow_clone())
                })
            })
            .collect(),
        Form::Stacked | Form::Transposed => {
            let side = |tensor: Tensor| match form {
                Form::Transposed => tensor.transpose(1, 2).contiguous(),
                _ => tensor,
            };
            vec![
                ("mlp.experts.gate_up_proj".into(), side(Tensor::cat(&[stack(0), stack(1)], 1))),
                ("mlp.experts.down_proj".into(), side(stack(2))),
            ]
        }
        Form::Gguf => ["gate", "up", "down"]
            .iter()
            .enumerate()
            .map(|(part, name)| (format!("mlp.ffn_{name}_exps.weight"), stack(part)))
            .collect(),
    };
    let folder = tempfile::tempdir().expect("folder");
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).expect("writes");
    let checkpoint = Arc::new(Checkpoint::open(folder.path()).expect("opens"));
    let weights = Weights::new(checkpoint, device(), Kind::Float, quantization);
    let bank = ExpertBank::load(&weights.at("mlp"), shape).expect("loads");
    assert_eq!(weights.unused(), Vec::<String>::new());
    bank
}

fn input(tokens: i64) -> (Tensor, Tensor, Tensor) {
    let device = device();
    seed(4);
    let hidden = Tensor::randn([tokens, 64], (Kind::Float, Device::Cpu));
    // No token is routed to expert 3.
    let ids: Vec<i64> = (0..tokens).flat_map(|token| [[0, 4], [4, 2], [1, 0]][token as usize % 3]).collect();
    let weights = Tensor::rand([tokens, 2], (Kind::Float, Device::Cpu));
    let ids = Tensor::from_slice(&ids).view([tokens, 2]);
    (hidden.to_device(device), ids.to_device(device), weights.to_device(device))
}

/// Sends every token through its experts, one after the other.
fn reference(shape: ExpertShape, hidden: &Tensor, ids: &Tensor, weights: &Tensor) -> Tensor {
    let experts = experts(shape);
    let hidden = hidden.to_device(Device::Cpu);
    let token = |token: i64| {
        let x = hidden.get(token).unsqueeze(0);
        let through = |slot: i64| {
            let [gate, up, down] = &experts[ids.int64_value(&[token, slot]) as usize];
            (x.matmul(&gate.tr()).silu() * x.matmul(&up.tr())).matmul(&down.tr())
                * weights.double_value(&[token, slot])
        };
        through(0) + through(1)
    };
    Tensor::cat(&(0..hidden.size()[0]).map(token).collect::<Vec<_>>(), 0)
}

#[rstest]
fn tokens_go_through_their_selected_experts(
    #[values(Form::OneByOne, Form::Stacked, Form::Transposed, Form::Gguf)] form: Form,
    // The second shape has as many inputs as outputs in one of the two tensors.
    #[values(SHAPE, ExpertShape { intermediate: 64, ..SHAPE }, ExpertShape { intermediate: 32, ..SHAPE })]
    shape: ExpertShape,
    #[values(1, 7)] tokens: i64,
) {
    let (hidden, ids, weights) = input(tokens);
    let bank = bank(form, shape, Quantization::None);
    assert_eq!((bank.len(), bank.is_empty()), (5, false));
    assert_eq!(bank.resident_bytes(), 5 * 3 * 64 * shape.intermediate.unsigned_abs() * 4);
    let error =
        relative_error(&bank.forward(&hidden, &ids, &weights), &reference(shape, &hidden, &ids, &weights));
    assert!(error < 1e-5, "{error}");
}

#[rstest]
#[case(Quantization::Fp8, 0.08)]
#[case(Quantization::Nf4, 0.25)]
#[case(Quantization::Nvfp4, 0.25)]
#[case(Quantization::Int4, 0.25)]
fn quantised_experts_agree_in_every_layout(#[case] quantization: Quantization, #[case] bound: f64) {
    let (hidden, ids, weights) = input(7);
    let output = bank(Form::Stacked, SHAPE, quantization).forward(&hidden, &ids, &weights);
    let error = relative_error(&output, &reference(SHAPE, &hidden, &ids, &weights));
    assert!(error < bound && error > 0.0, "{error}");
    let other = bank(Form::Transposed, SHAPE, quantization).forward(&hidden, &ids, &weights);
    assert!(other.equal(&output), "the same bytes, whatever the layout");
    // NVFP4 has one scale for a whole tensor: gate and up share one or have one each, depending on the layout.
    if quantization != Quantization::Nvfp4 {
        let other = bank(Form::OneByOne, SHAPE, quantization).forward(&hidden, &ids, &weights);
        assert!(relative_error(&other, &output) < 1e-5);
    }
}

#[test]
fn a_token_is_the_same_alone_and_among_others_with_integer_experts() {
    if device() != Device::Cpu {
        // A GPU multiplies the widened values, by kernels that depend on the number of rows.
        return;
    }
    let (hidden, ids, weights) = input(7);
    let bank = bank(Form::OneByOne, SHAPE, Quantization::Int4);
    let together = bank.forward(&hidden, &ids, &weights);
    for token in 0..7 {
        let one = |tensor: &Tensor| tensor.narrow(0, token, 1);
        assert!(bank.forward(&one(&hidden), &one(&ids), &one(&weights)).equal(&one(&together)), "{token}");
    }
}

#[test]
fn a_missing_expert_is_an_error() {
    let (hidden, _, weights) = input(1);
    let bank = bank(Form::OneByOne, SHAPE, Quantization::None);
    for id in [5, -1] {
        let ids = Tensor::from_slice(&[0i64, id]).view([1, 2]);
        let result =
            crate::catch_libtorch_errors(|| Ok::<_, TensorError>(bank.forward(&hidden, &ids, &weights)));
        assert!(matches!(result, Err(TensorError::Libtorch(_))), "{result:?}");
    }
}
