//! VideosDGX: service.
