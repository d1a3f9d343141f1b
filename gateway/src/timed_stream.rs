//! A client's connection with timeouts: for an incomplete header, for idling, and for reading too slowly.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes that a slow reader must take within [`Timeouts::write_stall`].
const MIN_TAKEN: usize = 32 * 1024;

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// From the first byte of a request's header to its end; on a fresh connection also until the first byte.
    pub(crate) header: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// Interval within which a client that cannot keep up must take [`MIN_TAKEN`] bytes.
    pub(crate) write_stall: Duration,
}

const FRESH: u8 = 0;
const IDLE: u8 = 1;
const HEADER: u8 = 2;
const BUSY: u8 = 3;

/// What the connection is waiting for; shared by the stream and the request handler.
#[derive(Debug, Clone)]
pub(crate) struct Phase(Arc<AtomicU8>);

impl Phase {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(FRESH)))
    }

    /// A request's header is complete; until [`Phase::idle`] the layers' own timeouts apply.
    pub(crate) fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// The response has been sent.
    pub(crate) fn idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

/// Marks the connection as idle when it is dropped, together with the response body.
pub(crate) struct IdleOnDrop(pub(crate) Phase);

impl Drop for IdleOnDrop {
    fn drop(&mut self) {
        self.0.idle();
    }
}

/// A TCP stream that fails with `TimedOut` when one of its [`Timeouts`] has passed.
pub(crate) struct TimedStream {
    stream: TcpStream,
    timeouts: Timeouts,
    phase: Phase,
    /// The phase that the read timer was started in, and the timer.
    reading: Option<(u8, Pin<Box<Sleep>>)>,
    writing: Option<WriteStall>,
}

struct WriteStall {
    taken: usize,
    until: Pin<Box<Sleep>>,
}

impl TimedStream {
    pub(crate) fn new(stream: TcpStream, timeouts: Timeouts, phase: Phase) -> Self {
        Self { stream, timeouts, phase, reading: None, writing: None }
    }

    /// Waits for bytes with the timeout of the current phase.
    fn wait_for_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.phase.0.load(Ordering::Relaxed);
        let limit = match phase {
            FRESH | HEADER => self.timeouts.header,
            IDLE => self.timeouts.idle,
            _ => {
                self.reading = None;
                return Poll::Pending;
            }
        };
        if self.reading.as_ref().is_none_or(|(timed, _)| *timed != phase) {
            self.reading = Some((phase, Box::pin(tokio::time::sleep(limit))));
        }
        match &mut self.reading {
            Some((_, timer)) => timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    }

    /// Counts the bytes that the client takes while it takes less than it is offered.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(taken)) if taken >= offered => self.writing = None,
            Poll::Ready(Ok(taken)) => {
                if let Some(stall) = &mut self.writing {
                    stall.taken += taken;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => return self.stalled(cx).map(Err),
        }
        wrote
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.timeouts.write_stall;
        let stall = self
            .writing
            .get_or_insert_with(|| WriteStall { taken: 0, until: Box::pin(tokio::time::sleep(limit)) });
        while stall.until.as_mut().poll(cx).is_ready() {
            if stall.taken < MIN_TAKEN {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            stall.taken = 0;
            stall.until.as_mut().reset(Instant::now() + limit);
        }
        Poll::Pending
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                // The first bytes of a header start its timeout; later ones do not restart it.
                let phase = &self.phase.0;
                let started = [FRESH, IDLE].into_iter().any(|from| {
                    phase.compare_exchange(from, HEADER, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                });
                if started {
                    self.reading = None;
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.wait_for_bytes(cx),
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after_write(cx, buf.len(), wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after_write(cx, bufs.iter().map(|buf| buf.len()).sum(), wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
