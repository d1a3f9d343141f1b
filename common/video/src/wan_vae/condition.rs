//! Conditioning of image to video on a first frame.

use tch::{Kind, Tensor};
use videosdgx_picture::Picture;
use videosdgx_tensor::TensorError;

use super::{TEMPORAL_FACTOR, Tiling, WanVae};
use crate::picture_tensor;

impl WanVae {
    /// Mask and condition for a video of `frames` frames that begins with `picture` (of the video's size):
    /// `[1, 4 + z, latent frames, rows, columns]` f32. The mask (four channels: one for each frame of a latent frame)
    /// is 1 at the given frame; the condition is the normalised encoding of the picture followed by gray.
    ///
    /// # Errors
    /// As [`WanVae::encode_first_frame`].
    pub fn first_frame_condition(
        &self,
        picture: &Picture,
        frames: i64,
        tiling: Option<Tiling>,
    ) -> Result<Tensor, TensorError> {
        let pixels = (picture_tensor(picture) / 255.0 * 2.0 - 1.0).unsqueeze(0).to_device(self.device());
        let condition = self.normalize(&self.encode_first_frame(&pixels, frames, tiling)?);
        let size = condition.size();
        let mask =
            Tensor::zeros([1, TEMPORAL_FACTOR, size[2], size[3], size[4]], (Kind::Float, self.device()));
        let _ = mask.narrow(2, 0, 1).fill_(1.0);
        Ok(Tensor::cat(&[mask, condition], 1))
    }
}
