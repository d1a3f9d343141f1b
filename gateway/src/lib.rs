//! VideosDGX: gateway.
