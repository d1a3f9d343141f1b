//! Decoded frames as bytes.

use tch::{Kind, Tensor};
use videosdgx_tensor::TensorError;

/// Calls `on_frame` with each frame of `[t, h, w, 3]` from -1 to 1 as RGB8 `[h, w, 3]`.
pub(crate) fn rgb_frames<E: From<TensorError>>(
    frames: &Tensor,
    mut on_frame: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let pixels = ((frames + 1.0) * 127.5).round_().to_kind(Kind::Uint8);
    for frame in 0..pixels.size()[0] {
        let frame = pixels.select(0, frame).reshape([-1]);
        let bytes = Vec::<u8>::try_from(&frame).map_err(TensorError::from)?;
        on_frame(&bytes)?;
    }
    Ok(())
}
