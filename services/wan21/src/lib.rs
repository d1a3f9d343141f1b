//! VideosDGX: wan21.
