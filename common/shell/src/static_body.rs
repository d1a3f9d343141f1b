//! Response bodies from bytes that exist already.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};

/// Bytes that are copied for a connection at once.
const PART: usize = 16 * 1024;

/// A body that hands out small parts: the server copies what it gets, so that a client which requests a large file many times
/// and reads nothing would otherwise hold a copy of it.
pub(crate) struct StaticBody {
    left: Bytes,
    size: u64,
}

impl StaticBody {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { size: bytes.len() as u64, left: bytes }
    }
}

impl MessageBody for StaticBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let part = self.left.len().min(PART);
        Poll::Ready(Some(Ok(self.left.split_to(part))))
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_large_file_is_handed_out_in_small_parts_without_copies() {
        let bytes = Bytes::from(vec![7; 5 * PART + 3]);
        let range = bytes.as_ptr_range();
        let mut body = StaticBody::new(bytes.clone());
        assert_eq!(body.size(), BodySize::Sized(bytes.len() as u64));
        let mut length = 0;
        while let Some(part) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
            let part = part.unwrap();
            assert!(part.len() <= PART && range.contains(&part.as_ptr()));
            length += part.len();
        }
        assert_eq!(length, bytes.len());
    }
}
