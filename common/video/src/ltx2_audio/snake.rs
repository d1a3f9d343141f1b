//! Snake activations, computed at twice the sampling rate to keep the new frequencies from aliasing (BigVGAN).

use tch::{Device, Kind, Tensor};
use videosdgx_tensor::{TensorError, Weights};

use super::snake_kernel::{self, TAPS};

/// `x + sin²(αx) / β` for each channel.
pub(super) struct Snake {
    /// `[channels]` f32.
    alpha: Tensor,
    /// `1 / β`, `[channels]` f32.
    inverse_beta: Tensor,
}

impl Snake {
    /// Loads `alpha` and, with `beta`, `beta`, `[channels]` each, which are stored as logarithms; without, β is α.
    pub(super) fn load(weights: &Weights, channels: i64, beta: bool) -> Result<Self, TensorError> {
        const EPS: f64 = 1e-9;
        let alpha = weights.tensor_as("alpha", &[channels], Kind::Float)?.f_exp()?;
        let inverse_beta = match beta {
            true => weights.tensor_as("beta", &[channels], Kind::Float)?.f_exp()?,
            false => alpha.copy(),
        };
        Ok(Self { alpha, inverse_beta: (inverse_beta + EPS).f_reciprocal()? })
    }

    /// `[t, channels]` → the same.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x + (x * &self.alpha).sin().square() * &self.inverse_beta
    }
}

/// [`Snake`] between upsampling and downsampling by 2.
pub(super) struct AntiAliasedSnake {
    snake: Snake,
    /// Filters of upsampling and downsampling, `[1, 1, 12]` f32.
    up: Tensor,
    down: Tensor,
    /// Copies in host memory.
    host: snake_kernel::Parameters,
}

impl AntiAliasedSnake {
    /// Loads `act` ([`Snake`]), `upsample.filter` and `downsample.filter`, `[1, 1, 12]` each.
    pub(super) fn load(weights: &Weights, channels: i64, beta: bool) -> Result<Self, TensorError> {
        let snake = Snake::load(&weights.at("act"), channels, beta)?;
        let filter = |name| weights.tensor_as(name, &[1, 1, TAPS as i64], Kind::Float);
        Self::new(snake, filter("upsample.filter")?, filter("downsample.filter")?)
    }

    fn new(snake: Snake, up: Tensor, down: Tensor) -> Result<Self, TensorError> {
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.f_view([-1])?);
        let taps = |tensor: &Tensor| {
            let mut taps = [0.0; TAPS];
            taps.copy_from_slice(&numbers(tensor)?);
            Ok::<_, TensorError>(taps)
        };
        let host = snake_kernel::Parameters {
            alpha: numbers(&snake.alpha)?,
            inverse_beta: numbers(&snake.inverse_beta)?,
            up: taps(&up)?,
            down: taps(&down)?,
        };
        Ok(Self { snake, up, down, host })
    }

    /// `[t, channels]` → the same.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let on_host = (x.device() == Device::Cpu).then(|| snake_kernel::forward(x, &self.host)).flatten();
        on_host.unwrap_or_else(|| self.by_libtorch(x))
    }

    fn by_libtorch(&self, x: &Tensor) -> Tensor {
        let none = None::<&Tensor>;
        let length = x.size()[0];
        let rows = x.transpose(0, 1).unsqueeze(1);
        let up = rows.replication_pad1d([5, 5]).conv_transpose1d(&self.up, none, [2], [0], [0], 1, [1]);
        // Each output of a filter of 12 taps overlaps the padding by 15 at both ends.
        let up = up.narrow(2, 15, 2 * length).squeeze_dim(1).transpose(0, 1) * 2.0;
        let rows = self.snake.forward(&up).transpose(0, 1).unsqueeze(1);
        let down = rows.replication_pad1d([5, 6]).conv1d(&self.down, none, [2], [0], [1], 1);
        down.squeeze_dim(1).transpose(0, 1).contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_agrees_with_libtorch() {
        let float = (Kind::Float, Device::Cpu);
        for (length, channels) in [(1, 8), (2, 3), (5, 24), (64, 1), (70, 20), (131, 16), (40_000, 12)] {
            tch::manual_seed(length);
            let alpha: Tensor = Tensor::randn([channels], float).exp();
            let inverse_beta = Tensor::randn([channels], float).exp();
            let [up, down] = [(); 2].map(|()| Tensor::randn([1, 1, 12], float) * 0.3);
            let act = AntiAliasedSnake::new(Snake { alpha, inverse_beta }, up, down).unwrap();
            let x = Tensor::randn([length, channels], float) * 3.0;
            let (got, want) = (act.forward(&x), act.by_libtorch(&x));
            let error = f64::try_from((&got - &want).norm() / want.norm()).unwrap();
            assert!(error < 1e-6, "{length} x {channels}: {error:e}");
        }
    }
}
