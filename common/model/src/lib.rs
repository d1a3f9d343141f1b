//! VideosDGX: model.
