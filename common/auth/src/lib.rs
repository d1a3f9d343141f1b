//! VideosDGX: auth.
