//! VideosDGX: video.

pub mod mp4;
pub mod schedulers;
