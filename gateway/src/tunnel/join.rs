//! Two ends of a WebSocket, joined: bytes go both ways as fast as the slower end takes them, nothing is kept.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frames::{BAD_GATEWAY, FrameTracker, GOING_AWAY, close};

/// Bytes under way in one direction.
const BUFFER: usize = 16 * 1024;
/// While the gateway drains, a service that says nothing for so long is in the middle of nothing.
const QUIET: Duration = Duration::from_secs(2);
/// What one end gets to close after the other has.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Carries bytes until both ends have said goodbye, one end closes, nothing moves for `idle`, or the gateway drains and the
/// service is silent. Whatever ends it but the service's own close frame is told to the client by one, when it falls between
/// two frames.
pub(super) async fn join<C, S>(client: C, service: S, idle: Duration, draining: &CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_service, mut to_service) = tokio::io::split(service);
    let moved = Moved::now();
    let goodbyes = Goodbyes::default();
    let mut tracker = FrameTracker::default();
    let ended = {
        let up = async {
            let mut asked = FrameTracker::default();
            let mut note = |bytes: &[u8]| {
                asked.advance(bytes);
                goodbyes.note(&goodbyes.by_client, &asked);
            };
            let _ = carry(&mut from_client, &mut to_service, &moved, &mut note).await;
            let _ = to_service.shutdown().await;
        };
        let down = async {
            let mut note = |bytes: &[u8]| {
                moved.by_service();
                tracker.advance(bytes);
                goodbyes.note(&goodbyes.by_service, &tracker);
            };
            tokio::select! {
                ended = carry(&mut from_service, &mut to_client, &moved, &mut note) => match ended {
                    Ok(()) => Ended::ByService,
                    Err(_) => Ended::Broken,
                },
                ended = moved.stop(idle, draining) => ended,
                // It is for this side to close then (RFC 6455 section 7.1.1), however long the service takes.
                () = goodbyes.both.notified() => Ended::ByService,
            }
        };
        tokio::pin!(up, down);
        tokio::select! {
            ended = &mut down => ended,
            // The client is gone or has nothing more to say; the service may still answer that.
            () = &mut up => {
                tokio::time::timeout(CLOSE_WITHIN, &mut down).await.unwrap_or(Ended::Broken)
            }
        }
    };
    let farewell = match ended {
        Ended::ByService => close(BAD_GATEWAY, "the service broke the connection"),
        Ended::Idle => close(GOING_AWAY, "the connection was idle"),
        Ended::Draining => close(GOING_AWAY, "the gateway is shutting down"),
        Ended::Broken => return,
    };
    let last = async {
        if tracker.between_frames() && !tracker.has_closed() {
            to_client.write_all(&farewell).await?;
        }
        to_client.shutdown().await?;
        // Closing over unread bytes would take the last frames back from the client.
        let mut unread = vec![0; BUFFER];
        while from_client.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(CLOSE_WITHIN, last).await;
}

/// Why it is over.
enum Ended {
    /// The service closed its end.
    ByService,
    /// The client does not take what it is sent.
    Broken,
    /// Nothing moved.
    Idle,
    /// The gateway is going away.
    Draining,
}

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &Moved,
    note: &mut (impl FnMut(&[u8]) + Send),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        // An end that breaks has closed as well.
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        moved.by_anyone();
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let written = to.write(left).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            // To the byte: this may be stopped before the rest is written.
            note(&left[..written]);
            left = &left[written..];
        }
        to.flush().await?;
    }
}

/// Whose close frame has passed.
#[derive(Default)]
struct Goodbyes {
    by_client: AtomicBool,
    by_service: AtomicBool,
    both: Notify,
}

impl Goodbyes {
    fn note(&self, whose: &AtomicBool, tracker: &FrameTracker) {
        if tracker.has_closed() && tracker.between_frames() {
            whose.store(true, Ordering::Relaxed);
            if self.by_client.load(Ordering::Relaxed) && self.by_service.load(Ordering::Relaxed) {
                self.both.notify_one();
            }
        }
    }
}

/// When bytes last moved.
struct Moved(Mutex<Moments>);

#[derive(Clone, Copy)]
struct Moments {
    anyone: Instant,
    service: Instant,
}

impl Moved {
    fn now() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Moments { anyone: now, service: now }))
    }

    fn moments(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn by_anyone(&self) {
        self.moments().anyone = Instant::now();
    }

    fn by_service(&self) {
        self.moments().service = Instant::now();
    }

    /// Completes when there is a reason to end the connection.
    async fn stop(&self, idle: Duration, draining: &CancellationToken) -> Ended {
        loop {
            let moments = *self.moments();
            let is_draining = draining.is_cancelled();
            let now = Instant::now();
            if moments.anyone + idle <= now {
                return Ended::Idle;
            }
            if is_draining && moments.service + QUIET <= now {
                return Ended::Draining;
            }
            let next = if is_draining {
                (moments.service + QUIET).min(moments.anyone + idle)
            } else {
                moments.anyone + idle
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = draining.cancelled(), if !is_draining => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    const IDLE: Duration = Duration::from_secs(60);

    fn joined(draining: &CancellationToken) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, near) = duplex(64);
        let (service, far) = duplex(64);
        let draining = draining.clone();
        let task = tokio::spawn(async move { join(near, far, IDLE, &draining).await });
        (client, service, task)
    }

    async fn rest(client: &mut DuplexStream) -> Vec<u8> {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn bytes_pass_and_a_close_frame_of_the_service_is_the_last_word() {
        let (mut client, mut service, task) = joined(&CancellationToken::new());
        client.write_all(b"question").await.unwrap();
        let mut asked = [0; 8];
        service.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"question");
        let goodbye = close(1000, "done");
        service.write_all(&goodbye).await.unwrap();
        drop(service);
        assert_eq!(rest(&mut client).await, goodbye);
        drop(client);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn after_both_goodbyes_nobody_waits_for_the_service() {
        let (mut client, mut service, task) = joined(&CancellationToken::new());
        let started = Instant::now();
        client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        service.read_exact(&mut [0; 8]).await.unwrap();
        let goodbye = close(1000, "");
        service.write_all(&goodbye).await.unwrap();
        assert_eq!(rest(&mut client).await, goodbye);
        drop(client);
        task.await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
        drop(service);
    }

    #[tokio::test]
    async fn a_service_that_dies_is_told_only_between_frames() {
        let (mut client, mut service, _task) = joined(&CancellationToken::new());
        service.write_all(&[0x81, 2, b'o', b'k']).await.unwrap();
        drop(service);
        assert!(rest(&mut client).await.ends_with(&close(BAD_GATEWAY, "the service broke the connection")));
        let (mut client, mut service, _task) = joined(&CancellationToken::new());
        service.write_all(&[0x81, 5, b'o', b'k']).await.unwrap();
        drop(service);
        assert_eq!(rest(&mut client).await, [0x81, 5, b'o', b'k']);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_a_draining_one_when_the_service_is_silent() {
        let (mut client, _service, _task) = joined(&CancellationToken::new());
        let started = Instant::now();
        assert_eq!(rest(&mut client).await, close(GOING_AWAY, "the connection was idle"));
        assert_eq!(started.elapsed(), IDLE);

        let draining = CancellationToken::new();
        let (mut client, mut service, _task) = joined(&draining);
        draining.cancel();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            service.write_all(&[0x81, 1, b'x']).await.unwrap();
        }
        let last = Instant::now();
        let all = rest(&mut client).await;
        assert_eq!(&all[..15], [0x81, 1, b'x'].repeat(5));
        assert_eq!(all[15..], close(GOING_AWAY, "the gateway is shutting down"));
        assert_eq!(last.elapsed(), QUIET);
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_service_side() {
        let (client, mut service, task) = joined(&CancellationToken::new());
        drop(client);
        assert_eq!(service.read(&mut [0; 8]).await.unwrap(), 0);
        drop(service);
        task.await.unwrap();
    }
}
