//! Why a picture could not be fetched.

use std::time::Duration;

/// Shown to the client. It does not reveal whether a server answers at an address that is not public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not an `https:` URL, or one with credentials.
    #[error("the image's URL must be an https: URL without user and password")]
    Address,
    /// The host has an address that is not public.
    #[error("the image's host is not on the public internet")]
    NotPublic,
    /// Too many redirects.
    #[error("the image's URL redirects more than {0} times")]
    TooManyRedirects(usize),
    /// The file is larger than this number of bytes.
    #[error("the image may have at most {0} bytes")]
    TooLarge(usize),
    /// The fetch took longer than this time.
    #[error("the image was not received within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// A status other than 200.
    #[error("the image's server answered with status {0}")]
    Status(u16),
    /// The `Content-Type` is not one of a supported picture format.
    #[error("the image's content type is not image/png, image/jpeg or image/webp")]
    Type,
    /// The connection failed or broke.
    #[error("the image could not be fetched")]
    Unreachable,
}
