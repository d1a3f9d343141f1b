//! VideosDGX: tensor.
