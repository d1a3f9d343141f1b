//! UniPC: a predictor-corrector of arbitrary order (Zhao et al. 2023, arXiv 2302.04867) on flow sigmas.
//!
//! Each model output first corrects the sample it was computed at (UniC, order p), then predicts the next one (UniP,
//! order p). Both integrate the predicted data over the half log signal-to-noise ratio `lambda = ln(alpha / sigma)`.

use std::collections::VecDeque;

use tch::{Kind, Tensor};

use super::{NoiseSource, Scheduler, round_f32, shifted};

/// The function B(h) by which the solver's coefficients are scaled (paper, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SolverType {
    /// B(h) = h.
    Bh1,
    /// B(h) = exp(h) - 1.
    Bh2,
}

/// Settings of `UniPCMultistepScheduler` with flow prediction, flow sigmas and data prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct UniPcConfig {
    /// The timestep of pure noise.
    pub num_train_timesteps: u32,
    /// Shift towards noise.
    pub flow_shift: f64,
    /// Highest order, 1 to 3.
    pub solver_order: usize,
    /// The function B(h).
    pub solver_type: SolverType,
    /// Whether the order is reduced to 1 towards the end.
    pub lower_order_final: bool,
    /// Whether the schedule ends at sigma 0; else it ends at the last step's sigma.
    pub final_sigma_is_zero: bool,
    /// Steps after which the sample is not corrected.
    pub disable_corrector: Vec<usize>,
}

/// The solver and its state from step to step.
#[derive(Debug)]
pub struct UniPc {
    config: UniPcConfig,
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    /// The next step.
    index: usize,
    /// Data predictions of the last steps, latest first, at most `solver_order`, f32.
    predictions: VecDeque<Tensor>,
    /// The (corrected) sample from which the last step was taken, f32, and the order of that step.
    last: Option<(Tensor, usize)>,
}

/// Distance of the first sigma from 1, where lambda would be infinite.
const NOISE_MARGIN: f64 = 1e-6;

impl UniPc {
    /// A schedule of `steps` steps.
    pub fn new(config: &UniPcConfig, steps: usize) -> Self {
        let train = f64::from(config.num_train_timesteps);
        let spacing = (1.0 / train - 1.0) / steps.max(1) as f64;
        let mut exact: Vec<f64> =
            (0..steps).map(|index| shifted(1.0 + spacing * index as f64, config.flow_shift)).collect();
        if let Some(first) = exact.first_mut().filter(|sigma| (**sigma - 1.0).abs() < NOISE_MARGIN) {
            *first -= NOISE_MARGIN;
        }
        let timesteps = exact.iter().map(|sigma| (sigma * train).trunc()).collect();
        let mut sigmas: Vec<f64> = exact.iter().copied().map(round_f32).collect();
        sigmas.push(if config.final_sigma_is_zero { 0.0 } else { sigmas.last().copied().unwrap_or(0.0) });
        Self { config: config.clone(), timesteps, sigmas, index: 0, predictions: VecDeque::new(), last: None }
    }

    /// UniC: corrects the sample at `index` by the data predicted there.
    fn correct(&self, prediction: &Tensor, from: &Tensor, order: usize) -> Tensor {
        let step = Coefficients::new(&self.sigmas, self.index - 1, order, self.config.solver_type);
        let weights = match order {
            1 => vec![0.5],
            _ => solve(step.matrix(order), step.right[..order].to_vec()),
        };
        let mut sample = self.extrapolate(&step, from, &weights[..order - 1]);
        sample += (prediction - &self.predictions[0]) * (-step.scale * weights[order - 1]);
        sample
    }

    /// UniP: the sample at `index + 1`.
    fn predict(&self, from: &Tensor, order: usize) -> Tensor {
        let step = Coefficients::new(&self.sigmas, self.index, order, self.config.solver_type);
        let weights = match order {
            1 => vec![],
            2 => vec![0.5],
            _ => solve(step.matrix(order - 1), step.right[..order - 1].to_vec()),
        };
        self.extrapolate(&step, from, &weights)
    }

    /// The first-order step plus the weighted differences to earlier predictions.
    fn extrapolate(&self, step: &Coefficients, from: &Tensor, weights: &[f64]) -> Tensor {
        let latest = &self.predictions[0];
        let mut sample = from * step.keep - latest * step.data;
        for ((weight, ratio), earlier) in
            weights.iter().zip(&step.ratios).zip(self.predictions.iter().skip(1))
        {
            sample += (earlier - latest) * (-step.scale * weight / ratio);
        }
        sample
    }
}

impl Scheduler for UniPc {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn step(&mut self, model_output: &Tensor, sample: &Tensor, _noise: &mut NoiseSource<'_>) -> Tensor {
        let Some(steps_left) = self.timesteps.len().checked_sub(self.index).filter(|left| *left > 0) else {
            return sample.shallow_clone();
        };
        let mut from = sample.to_kind(Kind::Float);
        let prediction = &from - model_output.to_kind(Kind::Float) * self.sigmas[self.index];
        if let Some((previous, order)) = &self.last
            && !self.config.disable_corrector.contains(&(self.index - 1))
        {
            from = self.correct(&prediction, previous, *order);
        }
        self.predictions.truncate(self.config.solver_order - 1);
        self.predictions.push_front(prediction);
        let highest = if self.config.lower_order_final { steps_left } else { usize::MAX };
        // The first steps have fewer earlier predictions.
        let order = self.config.solver_order.min(highest).min(self.predictions.len());
        let next = self.predict(&from, order);
        self.last = Some((from, order));
        self.index += 1;
        next.to_kind(sample.kind())
    }
}

/// The scalars of one step from sigma `index` to `index + 1`.
struct Coefficients {
    /// Share of the old sample.
    keep: f64,
    /// Share of the latest prediction, subtracted.
    data: f64,
    /// `alpha * B(h)`.
    scale: f64,
    /// Distances in lambda of earlier predictions, in steps: negative.
    ratios: Vec<f64>,
    /// The right-hand side of the linear system for the weights.
    right: Vec<f64>,
}

impl Coefficients {
    fn new(sigmas: &[f64], index: usize, order: usize, solver: SolverType) -> Self {
        let (old, new) = (sigmas[index], sigmas[index + 1]);
        let alpha = 1.0 - new;
        let h = lambda(new) - lambda(old);
        let hh = -h;
        let phi_1 = hh.exp_m1();
        let b = match solver {
            SolverType::Bh1 => hh,
            SolverType::Bh2 => phi_1,
        };
        let ratios = (1..order).map(|i| (lambda(sigmas[index - i]) - lambda(old)) / h).collect();
        let mut phi = phi_1 / hh - 1.0;
        let mut factorial = 1.0;
        let mut right = Vec::with_capacity(order);
        for i in 1..=order {
            right.push(phi * factorial / b);
            factorial *= (i + 1) as f64;
            phi = phi / hh - 1.0 / factorial;
        }
        Self { keep: new / old, data: alpha * phi_1, scale: alpha * b, ratios, right }
    }

    /// Row i holds the ratios (and 1 for the new point) to the power i.
    fn matrix(&self, size: usize) -> Vec<Vec<f64>> {
        let points: Vec<f64> = self.ratios.iter().copied().chain([1.0]).take(size).collect();
        (0..size).map(|power| points.iter().map(|point| point.powi(power as i32)).collect()).collect()
    }
}

fn lambda(sigma: f64) -> f64 {
    (1.0 - sigma).ln() - sigma.ln()
}

/// Solves a small linear system by Gauss–Jordan elimination; the Vandermonde matrix is regular, because all points differ.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))
            .unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        for row in (0..size).filter(|row| *row != column) {
            let from = matrix[column].clone();
            let factor = matrix[row][column] / from[column];
            matrix[row].iter_mut().zip(&from).for_each(|(value, from)| *value -= factor * from);
            right[row] -= factor * right[column];
        }
    }
    (0..size).map(|row| right[row] / matrix[row][row]).collect()
}
