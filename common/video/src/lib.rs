//! VideosDGX: video.

pub mod clip;
pub mod picture;
pub mod schedulers;
pub mod text;
pub mod vae;
