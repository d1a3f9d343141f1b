//! VideosDGX: tests.
