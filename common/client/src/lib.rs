//! VideosDGX: client.
