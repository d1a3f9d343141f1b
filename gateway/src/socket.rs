//! A client's connection with a clock: how long it may be silent, half-said or unread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Least that a slow reader takes in the time of [`Times::write_stall`], in bytes.
const MIN_TAKEN: usize = 32 * 1024;

/// How long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// From the first byte of a request's header to its end; on a fresh connection also until the first byte.
    pub(crate) header: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// While the client takes less than it is sent.
    pub(crate) write_stall: Duration,
}

const FRESH: u8 = 0;
const IDLE: u8 = 1;
const HEADER: u8 = 2;
const BUSY: u8 = 3;

/// Where the connection is between two requests; shared by the socket and whoever handles the requests.
#[derive(Debug, Clone)]
pub(crate) struct Phase(Arc<AtomicU8>);

impl Phase {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(FRESH)))
    }

    /// A request's header is complete; from here to [`Phase::idle`] other clocks run.
    pub(crate) fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// The answer has been sent.
    pub(crate) fn idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

/// Says that the answer has been sent when its body is dropped.
pub(crate) struct Answering(pub(crate) Phase);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.idle();
    }
}

/// The connection.
pub(crate) struct Socket {
    stream: TcpStream,
    times: Times,
    phase: Phase,
    reading: Option<(u8, Pin<Box<Sleep>>)>,
    writing: Option<Stall>,
}

struct Stall {
    taken: usize,
    until: Pin<Box<Sleep>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, times: Times, phase: Phase) -> Self {
        Self { stream, times, phase, reading: None, writing: None }
    }

    /// Waits with the clock of the phase.
    fn wait_for_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.phase.0.load(Ordering::Relaxed);
        let limit = match phase {
            FRESH | HEADER => self.times.header,
            IDLE => self.times.idle,
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

    /// Counts what the client takes while it takes less than offered.
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
        let limit = self.times.write_stall;
        let stall = self
            .writing
            .get_or_insert_with(|| Stall { taken: 0, until: Box::pin(tokio::time::sleep(limit)) });
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

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                // The first bytes of a header start its clock; later ones do not start it again.
                let phase = &self.phase.0;
                let begun = [FRESH, IDLE].into_iter().any(|from| {
                    phase.compare_exchange(from, HEADER, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                });
                if begun {
                    self.reading = None;
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.wait_for_bytes(cx),
        }
    }
}

impl AsyncWrite for Socket {
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
