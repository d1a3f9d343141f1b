//! RGB pictures as tensors.

use tch::{Kind, Tensor};

use videosdgx_picture::Picture;

/// A picture as `[3, height, width]` f32, 0 to 255, on the CPU.
pub fn picture_tensor(picture: &Picture) -> Tensor {
    let shape = [picture.height() as i64, picture.width() as i64, 3];
    Tensor::from_data_size(picture.pixels(), &shape, Kind::Uint8)
        .permute([2, 0, 1])
        .to_kind(Kind::Float)
        .contiguous()
}
