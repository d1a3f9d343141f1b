//! Relays the bytes of a WebSocket between client and service, as fast as the slower end reads them.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use videosdgx_connection::FrameTracker;

use super::frames::{BAD_GATEWAY, GOING_AWAY, close};

/// Size of the buffer of one direction, in bytes.
const BUFFER: usize = 16 * 1024;
/// While the gateway drains, a connection whose service has been silent for this time is closed. A text service is silent for
/// at most two seconds while a generation is open, also while that waits, loads the model or computes its prompt.
const SILENCE: Duration = Duration::from_secs(6);
/// Time that one end has to close after the other one has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Relays bytes until both ends have sent a close frame, one end closes, no byte comes for `idle`, or the gateway drains and
/// the service is silent. Unless the service has sent a close frame itself, the client gets one that states the reason, if
/// the last frame is complete.
pub(super) async fn relay<C, S>(client: C, service: S, idle: Duration, draining: &CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_service, mut to_service) = tokio::io::split(service);
    let activity = Activity::now();
    let close_frames = CloseFrames::default();
    let mut tracker = FrameTracker::default();
    let ended = {
        let up = async {
            let mut tracker = FrameTracker::default();
            let mut note = |bytes: &[u8]| {
                tracker.advance(bytes);
                close_frames.note(&close_frames.by_client, &tracker);
            };
            let _ = copy(&mut from_client, &mut to_service, &activity, &mut note).await;
            let _ = to_service.shutdown().await;
        };
        let down = async {
            let mut note = |bytes: &[u8]| {
                activity.by_service();
                tracker.advance(bytes);
                close_frames.note(&close_frames.by_service, &tracker);
            };
            tokio::select! {
                ended = copy(&mut from_service, &mut to_client, &activity, &mut note) => match ended {
                    Ok(()) => EndReason::ByService,
                    Err(_) => EndReason::Broken,
                },
                ended = activity.stop(idle, draining) => ended,
                // The server's side closes the connection then (RFC 6455 section 7.1.1), without waiting for the service.
                () = close_frames.both.notified() => EndReason::ByService,
            }
        };
        tokio::pin!(up, down);
        tokio::select! {
            ended = &mut down => ended,
            // The client has closed its side; the service may still respond to that.
            () = &mut up => {
                tokio::time::timeout(CLOSE_TIMEOUT, &mut down).await.unwrap_or(EndReason::Broken)
            }
        }
    };
    let close_frame = match ended {
        EndReason::ByService => close(BAD_GATEWAY, "the service broke the connection"),
        EndReason::Idle => close(GOING_AWAY, "the connection was idle"),
        EndReason::Draining => close(GOING_AWAY, "the gateway is shutting down"),
        EndReason::Broken => return,
    };
    let last = async {
        if tracker.between_frames() && !tracker.has_closed() {
            to_client.write_all(&close_frame).await?;
        }
        to_client.shutdown().await?;
        // Closing with unread bytes would reset the connection and lose the last frames.
        let mut unread = vec![0; BUFFER];
        while from_client.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, last).await;
}

/// Why the relay ended.
enum EndReason {
    /// The service closed its end.
    ByService,
    /// The client cannot be written to.
    Broken,
    /// No byte came for the idle time.
    Idle,
    /// The gateway shuts down.
    Draining,
}

/// Copies one direction until its end; calls `note` with the bytes written.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    activity: &Activity,
    note: &mut (impl FnMut(&[u8]) + Send),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        // A read error counts as the end.
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        activity.by_any();
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let written = to.write(left).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            // Note exactly what is written: this future may be dropped before the rest is.
            note(&left[..written]);
            left = &left[written..];
        }
        to.flush().await?;
    }
}

/// Which ends have sent a close frame.
#[derive(Default)]
struct CloseFrames {
    by_client: AtomicBool,
    by_service: AtomicBool,
    both: Notify,
}

impl CloseFrames {
    fn note(&self, end: &AtomicBool, tracker: &FrameTracker) {
        if tracker.has_closed() && tracker.between_frames() {
            end.store(true, Ordering::Relaxed);
            if self.by_client.load(Ordering::Relaxed) && self.by_service.load(Ordering::Relaxed) {
                self.both.notify_one();
            }
        }
    }
}

/// When the last bytes came.
struct Activity(Mutex<LastBytes>);

#[derive(Clone, Copy)]
struct LastBytes {
    any: Instant,
    service: Instant,
}

impl Activity {
    fn now() -> Self {
        let now = Instant::now();
        Self(Mutex::new(LastBytes { any: now, service: now }))
    }

    fn last_bytes(&self) -> std::sync::MutexGuard<'_, LastBytes> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn by_any(&self) {
        self.last_bytes().any = Instant::now();
    }

    fn by_service(&self) {
        self.last_bytes().service = Instant::now();
    }

    /// Completes when the connection is to be closed.
    async fn stop(&self, idle: Duration, draining: &CancellationToken) -> EndReason {
        loop {
            let last_bytes = *self.last_bytes();
            let is_draining = draining.is_cancelled();
            let now = Instant::now();
            if last_bytes.any + idle <= now {
                return EndReason::Idle;
            }
            if is_draining && last_bytes.service + SILENCE <= now {
                return EndReason::Draining;
            }
            let next = if is_draining {
                (last_bytes.service + SILENCE).min(last_bytes.any + idle)
            } else {
                last_bytes.any + idle
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

    fn relayed(draining: &CancellationToken) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, near) = duplex(64);
        let (service, far) = duplex(64);
        let draining = draining.clone();
        let task = tokio::spawn(async move { relay(near, far, IDLE, &draining).await });
        (client, service, task)
    }

    async fn rest(client: &mut DuplexStream) -> Vec<u8> {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn bytes_pass_and_the_services_close_frame_comes_last() {
        let (mut client, mut service, task) = relayed(&CancellationToken::new());
        client.write_all(b"question").await.unwrap();
        let mut received = [0; 8];
        service.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"question");
        let close_frame = close(1000, "done");
        service.write_all(&close_frame).await.unwrap();
        drop(service);
        assert_eq!(rest(&mut client).await, close_frame);
        drop(client);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn after_both_close_frames_the_service_is_not_waited_for() {
        let (mut client, mut service, task) = relayed(&CancellationToken::new());
        let started = Instant::now();
        client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        service.read_exact(&mut [0; 8]).await.unwrap();
        let close_frame = close(1000, "");
        service.write_all(&close_frame).await.unwrap();
        assert_eq!(rest(&mut client).await, close_frame);
        drop(client);
        task.await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
        drop(service);
    }

    #[tokio::test]
    async fn a_broken_service_gives_a_close_frame_only_between_frames() {
        let (mut client, mut service, _task) = relayed(&CancellationToken::new());
        service.write_all(&[0x81, 2, b'o', b'k']).await.unwrap();
        drop(service);
        assert!(rest(&mut client).await.ends_with(&close(BAD_GATEWAY, "the service broke the connection")));
        let (mut client, mut service, _task) = relayed(&CancellationToken::new());
        service.write_all(&[0x81, 5, b'o', b'k']).await.unwrap();
        drop(service);
        assert_eq!(rest(&mut client).await, [0x81, 5, b'o', b'k']);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_a_draining_one_when_the_service_is_silent() {
        let (mut client, _service, _task) = relayed(&CancellationToken::new());
        let started = Instant::now();
        assert_eq!(rest(&mut client).await, close(GOING_AWAY, "the connection was idle"));
        assert_eq!(started.elapsed(), IDLE);

        let draining = CancellationToken::new();
        let (mut client, mut service, _task) = relayed(&draining);
        draining.cancel();
        for _ in 0..5 {
            tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
            service.write_all(&[0x81, 1, b'x']).await.unwrap();
        }
        let last = Instant::now();
        let all = rest(&mut client).await;
        assert_eq!(&all[..15], [0x81, 1, b'x'].repeat(5));
        assert_eq!(all[15..], close(GOING_AWAY, "the gateway is shutting down"));
        assert_eq!(last.elapsed(), SILENCE);
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_service_side() {
        let (client, mut service, task) = relayed(&CancellationToken::new());
        drop(client);
        assert_eq!(service.read(&mut [0; 8]).await.unwrap(), 0);
        drop(service);
        task.await.unwrap();
    }
}
