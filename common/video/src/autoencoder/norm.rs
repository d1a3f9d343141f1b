//! Root mean square normalisation over channels, alone or fused with the activation.

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use super::norm_kernel;

/// `x / √(mean(x²) + eps) · gamma` over channels, computed in f32.
pub(crate) struct ChannelNorm {
    /// `[channels]` f32.
    gamma: Tensor,
    /// A copy in host memory.
    host_gamma: Vec<f32>,
    eps: f64,
}

impl ChannelNorm {
    /// Loads `gamma` `[channels, 1, …]` with `dimensions` trailing ones.
    pub(crate) fn load(
        weights: &Weights,
        channels: i64,
        dimensions: usize,
        eps: f64,
    ) -> Result<Self, TensorError> {
        let shape: Vec<i64> = std::iter::once(channels).chain(std::iter::repeat_n(1, dimensions)).collect();
        let gamma = weights.tensor_as("gamma", &shape, Kind::Float)?.f_reshape([channels])?;
        let host_gamma = Vec::<f32>::try_from(&gamma)?;
        Ok(Self { gamma, host_gamma, eps })
    }

    /// A normalisation without a scale.
    pub(crate) fn without_gamma(channels: i64, eps: f64, device: Device) -> Self {
        let gamma = Tensor::ones([channels], (Kind::Float, device));
        Self { gamma, host_gamma: vec![1.0; channels as usize], eps }
    }

    /// `[…, channels]` → the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        self.on_host(x, false).unwrap_or_else(|| self.by_libtorch(x).to_kind(x.kind()))
    }

    /// `silu(norm(x))`.
    pub(crate) fn silu(&self, x: &Tensor) -> Tensor {
        self.on_host(x, true).unwrap_or_else(|| self.by_libtorch(x).silu_().to_kind(x.kind()))
    }

    /// In one pass over memory, where the kernel supports it.
    fn on_host(&self, x: &Tensor, silu: bool) -> Option<Tensor> {
        (x.device() == Device::Cpu)
            .then(|| norm_kernel::normalize(x, &self.host_gamma, self.eps as f32, silu))
            .flatten()
    }

    fn by_libtorch(&self, x: &Tensor) -> Tensor {
        x.to_kind(Kind::Float).rms_norm([self.gamma.size()[0]], Some(&self.gamma), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_agrees_with_libtorch() {
        for (channels, eps) in [(1, 1e-24), (6, 1e-24), (16, 1e-8), (40, 1e-24), (96, 1e-8)] {
            for (kind, bound) in [(Kind::Float, 2e-6), (Kind::BFloat16, 3e-3)] {
                tch::manual_seed(channels);
                let float = (Kind::Float, Device::Cpu);
                let gamma = Tensor::randn([channels], float) + 1.0;
                let norm = ChannelNorm { host_gamma: Vec::try_from(&gamma).unwrap(), gamma, eps };
                // From tiny to huge, and a pixel of zeros.
                let scale = Tensor::logspace(-8, 12, 70 * 90, 10.0, float).view([70, 90, 1]);
                let x = Tensor::randn([70, 90, channels], float) * scale;
                let _ = x.get(3).get(4).zero_();
                let x = x.to_kind(kind);
                for silu in [false, true] {
                    let normed = norm.by_libtorch(&x);
                    let want = if silu { normed.silu() } else { normed };
                    let got = norm.on_host(&x, silu).unwrap();
                    assert_eq!((got.size(), got.kind()), (x.size(), kind));
                    let error = (got.to_kind(Kind::Float) - &want).norm() / want.norm();
                    let error = f64::try_from(error).unwrap();
                    assert!(error < bound, "{channels} channels, {kind:?}, silu {silu}: {error:e}");
                }
            }
        }
    }
}
