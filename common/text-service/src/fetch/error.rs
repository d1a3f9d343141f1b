//! Why a picture was not fetched.

use std::time::Duration;

/// What to tell the client; nothing in it says whether something answered at an address that is not public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not an address we fetch from.
    #[error("the image's address must be an https: URL without user and password")]
    Address,
    /// A name or number that is not one of the public internet's.
    #[error("the image's address does not lead to the public internet")]
    NotPublic,
    /// Too many redirects.
    #[error("the image's address redirects more than {0} times")]
    TooManyRedirects(usize),
    /// More bytes than allowed.
    #[error("the image is at most {0} bytes")]
    TooLarge(usize),
    /// Not there in time.
    #[error("the image was not there within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// Another status than 200.
    #[error("the image's server answered {0}")]
    Status(u16),
    /// Not a picture by its own words.
    #[error("the image's server sent another type than image/png, image/jpeg or image/webp")]
    Type,
    /// No connection, or a broken one.
    #[error("the image could not be fetched")]
    Unreachable,
}
