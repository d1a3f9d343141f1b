//! VideosDGX: video.
