//! A client's connection with time limits (for an incomplete request, for idling, for reading too slowly), whose requests are unambiguous.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{Admitted, Position, RequestTracker, Violation};

/// Requests that may be read before the one before them has been answered: each takes some kilobytes.
const MAX_AHEAD: u64 = 4;
/// Bytes that a slow reader must take within [`Timeouts::write_stall`].
const MIN_TAKEN: usize = 32 * 1024;

/// The time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte of a request's head to its end; on a new connection also until that byte; and for the rest of a body
    /// whose response has been sent.
    pub header: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Interval within which a client that cannot keep up must take 32 KiB.
    pub write_stall: Duration,
}

/// The state of a connection that the stream, the request handler and [`crate::Connections`] share.
#[derive(Debug, Clone)]
pub struct ConnectionHandle(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Whether a request is being answered; then the limits of bodies and responses apply, not those of the connection.
    busy: bool,
    /// Whether no request has been received yet.
    fresh: bool,
    /// Number of requests whose answer has begun to be made.
    begun: u64,
    /// Whether the stream waits for the next one to begin, because enough requests have been read ahead.
    waits_for_begin: bool,
    /// When the connection was accepted, or the last response was sent.
    since: Instant,
    /// Whether the connection has switched to another protocol, so that there are no further requests.
    upgraded: bool,
    /// Whether the connection must end because its place is needed.
    evicted: bool,
    /// Wakes the task that waits for a request.
    waker: Option<Waker>,
}

impl Default for ConnectionHandle {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            busy: false,
            fresh: true,
            begun: 0,
            waits_for_begin: false,
            since: Instant::now(),
            upgraded: false,
            evicted: false,
            waker: None,
        })))
    }
}

impl ConnectionHandle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of a request is complete. Until the guard is dropped, with the last byte of the response, the connection has
    /// no time limits for reading.
    #[must_use]
    pub fn begin_request(&self) -> RequestGuard {
        let mut state = self.state();
        (state.busy, state.fresh) = (true, false);
        state.begun += 1;
        if std::mem::take(&mut state.waits_for_begin)
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
        RequestGuard(self.clone())
    }

    /// Since when no request is being answered; `None` while one is.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        let state = self.state();
        (!state.busy && !state.evicted).then_some(state.since)
    }

    /// Ends the connection, unless it has begun a request meanwhile.
    pub(crate) fn evict(&self) -> bool {
        let mut state = self.state();
        if state.busy {
            return false;
        }
        state.evicted = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        true
    }
}

/// Marks a connection as answering a request until it is dropped.
#[derive(Debug)]
pub struct RequestGuard(ConnectionHandle);

impl RequestGuard {
    /// The connection has switched to another protocol: the limits of requests no longer apply.
    pub fn upgraded(self) {
        self.0.state().upgraded = true;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.upgraded {
            return;
        }
        // The timer of the stream runs already; it finds the time limit of the phase that starts now.
        (state.busy, state.since) = (false, Instant::now());
    }
}

/// A stream that fails with `TimedOut` when one of its [`Timeouts`] has passed, or its place is needed for another address. At most
/// four requests are read before they are begun to be answered. From a request with ambiguous framing on, the reader gets a byte that makes it refuse the request, and nothing else.
pub struct TimedStream<S> {
    stream: S,
    timeouts: Timeouts,
    admitted: Admitted,
    tracker: RequestTracker,
    /// When the incomplete head began.
    head_since: Option<Instant>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<WriteStall>,
    /// A request was invalid: nothing more is read.
    invalid: bool,
    /// What was read behind the last request that may be read ahead.
    held: Vec<u8>,
}

struct WriteStall {
    taken: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> TimedStream<S> {
    /// A stream of an admitted connection.
    pub fn new(stream: S, timeouts: Timeouts, admitted: Admitted) -> Self {
        let tracker = RequestTracker::default();
        Self {
            stream,
            timeouts,
            admitted,
            tracker,
            head_since: None,
            reading: None,
            writing: None,
            invalid: false,
            held: Vec::new(),
        }
    }

    /// The state that the request handler shares with this stream.
    pub fn handle(&self) -> &ConnectionHandle {
        self.admitted.handle()
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Processes bytes up to the `heads`th request; returns how many these are.
    fn received(&mut self, bytes: &[u8], heads: u64) -> Result<usize, Violation> {
        let began = self.tracker.position();
        let processed = self.tracker.advance_until(bytes, heads)?;
        if self.tracker.position() != Position::Head {
            self.head_since = None;
        } else if self.head_since.is_none() || began != Position::Head {
            self.head_since = Some(Instant::now());
        }
        Ok(processed)
    }

    /// Waits for bytes with the time limit of the current phase.
    fn wait_for_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Timeouts { header, idle, .. } = self.timeouts;
        let deadline = {
            let mut state = self.admitted.handle().state();
            if state.evicted {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            let since = state.since;
            match self.tracker.position() {
                // The limits of bodies and responses apply.
                _ if state.busy => None,
                Position::Between if state.fresh => Some(since + header),
                Position::Between => Some(since + idle),
                Position::Head => Some(self.head_since.map_or(since, |head| head.max(since)) + header),
                Position::Body => Some(since + header),
            }
        };
        // The timer is only ever set earlier; when it ends too early it is set again. With many requests in sequence it is seldom
        // touched. While a request is answered it runs too, so that it finds the limit of the phase that follows: none of them is
        // shorter than that of a head.
        let between = self.tracker.position() == Position::Between;
        let until = |deadline: Option<Instant>| deadline.unwrap_or_else(|| Instant::now() + header);
        let timer = self.reading.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until(deadline))));
        if (deadline.is_some() || !between) && timer.deadline() > until(deadline) {
            timer.as_mut().reset(until(deadline));
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(until(deadline));
        }
        Poll::Pending
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

impl<S> fmt::Debug for TimedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedStream").field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let may_be_read = {
            let mut state = self.admitted.handle().state();
            let may_be_read = state.begun + MAX_AHEAD;
            state.waits_for_begin = self.tracker.heads() >= may_be_read;
            may_be_read
        };
        if self.invalid || self.tracker.heads() >= may_be_read {
            return self.wait_for_bytes(cx);
        }
        let before = buf.filled().len();
        if self.held.is_empty() {
            match Pin::new(&mut self.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.wait_for_bytes(cx),
            }
        } else {
            let count = buf.remaining().min(self.held.len());
            buf.put_slice(&self.held[..count]);
            self.held.drain(..count);
        }
        match self.received(&buf.filled()[before..], may_be_read) {
            Ok(processed) => {
                let rest = &buf.filled()[before + processed..];
                if !rest.is_empty() {
                    self.held.splice(..0, rest.iter().copied());
                    buf.set_filled(before + processed);
                }
            }
            Err(violation) => {
                tracing::debug!(reason = violation.reason, "invalid_request");
                // No parser accepts a NUL there, so the server refuses the request like all that it cannot read.
                let at = before + violation.at;
                buf.filled_mut()[at] = b'\0';
                buf.set_filled(at + 1);
                self.invalid = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::{ConnectionLimits, Connections};

    const TIMEOUTS: Timeouts = Timeouts {
        header: Duration::from_secs(5),
        idle: Duration::from_secs(60),
        write_stall: Duration::from_secs(25),
    };

    fn connect() -> (DuplexStream, TimedStream<DuplexStream>) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let connections = Connections::new(ConnectionLimits::new(10));
        let admitted = connections.admit([127, 0, 0, 1].into()).unwrap();
        (client, TimedStream::new(server, TIMEOUTS, admitted))
    }

    /// How long the stream waits after the client has sent `bytes`, of which the first `requests` requests are answered.
    async fn closed_after(bytes: &str, requests: usize) -> u64 {
        let (mut client, mut stream) = connect();
        client.write_all(bytes.as_bytes()).await.unwrap();
        let mut buffer = vec![0; bytes.len()];
        stream.read_exact(&mut buffer).await.unwrap();
        for _ in 0..requests {
            let guard = stream.handle().begin_request();
            let waits = tokio::time::timeout(Duration::from_secs(100), stream.read(&mut buffer)).await;
            assert!(waits.is_err(), "while a request is answered there is no limit");
            drop(guard);
        }
        let began = Instant::now();
        if bytes.is_empty() || requests > 0 {
            let mut byte = [0];
            let error = stream.read(&mut byte).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            return began.elapsed().as_secs();
        }
        // One byte a second does not extend the time of a head.
        let mut byte = [0];
        loop {
            tokio::select! {
                read = stream.read(&mut byte) => if read.is_err() { return began.elapsed().as_secs() },
                () = tokio::time::sleep(Duration::from_secs(1)) => client.write_all(b"x").await.unwrap(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_phase_has_its_limit() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
        assert_eq!(closed_after("", 0).await, 5);
        assert_eq!(closed_after("GET / HTTP/1.1\r\nX: ", 0).await, 5);
        assert_eq!(closed_after(get, 1).await, 60);
        // Half a head behind a complete request is not idle.
        assert_eq!(closed_after(&format!("{get}GET /"), 1).await, 5);
        assert_eq!(closed_after(&format!("{get}{get}GET / HTTP/1.1\r\nX: "), 2).await, 5);
        // The response was sent before the body came.
        assert_eq!(closed_after(post, 1).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_whose_response_was_sent_may_not_dribble() {
        let (mut client, mut stream) = connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
        let mut head = [0; 100];
        let _ = stream.read(&mut head).await.unwrap();
        drop(stream.handle().begin_request());
        let began = Instant::now();
        let dribble = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.write_all(b"x").await.unwrap();
            }
        };
        let read = async {
            let mut byte = [0];
            while stream.read(&mut byte).await.is_ok() {}
        };
        tokio::select! { () = dribble => {}, () = read => {} }
        assert_eq!(began.elapsed(), TIMEOUTS.header);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_behind_an_invalid_request() {
        let (mut client, mut stream) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\nGET /next").await.unwrap();
        let mut read = [0; 100];
        let count = stream.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], b"GET / HTTP/1.1\r\nHost: x\0");
        client.write_all(b" HTTP/1.1\r\n").await.unwrap();
        assert_eq!(stream.read(&mut read).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn few_requests_are_read_ahead() {
        let (mut client, mut stream) = connect();
        let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
        client.write_all(requests.as_bytes()).await.unwrap();
        let (mut read, mut buffer) = (Vec::new(), [0; 100]);
        let count = |read: &[u8]| read.windows(4).filter(|part| part == b"\r\n\r\n").count() as u64;
        for begun in 0..=20 {
            while let Some(more) = stream.read(&mut buffer).now_or_never() {
                read.extend_from_slice(&buffer[..more.unwrap()]);
            }
            assert_eq!(count(&read), (begun + MAX_AHEAD).min(20));
            drop(stream.handle().begin_request());
        }
        assert_eq!(read, requests.as_bytes(), "in order and whole");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_disconnected() {
        let (client, mut stream) = connect();
        let guard = stream.handle().begin_request();
        let began = Instant::now();
        let error = stream.write_all(&[0; 1 << 20]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, TIMEOUTS.write_stall));
        drop((client, guard));
    }
}
