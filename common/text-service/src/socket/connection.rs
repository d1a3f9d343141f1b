//! The event loop of one connection. Client messages are handled in [`super::requests`], output in [`super::delivery`].

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::web::Bytes;
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, ProtocolError, Session};
use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval_at},
};
use videosdgx_api::{ClientMessage, ClientProfile};
use videosdgx_shell::{HandlerResult, body, run_blocking};

use super::{
    Format,
    generations::Generations,
    writer::{self, Outgoing},
};
use crate::{
    output::OutputStream, runtime::ModelRuntime, service::TextService, stream::resumable::ResumableStream,
};

/// Maximum number of open WebSockets of the process; further ones are closed with code 1013.
const MAX_SOCKETS: usize = 1024;
/// Messages queued for the socket.
const QUEUED_MESSAGES: usize = 16;
/// Pings sent within the idle time, after which a silent client is disconnected.
const PINGS_PER_IDLE_TIME: u32 = 3;
/// While a generation is open, a ping is sent if there was no message for this time: a gateway that shuts down keeps the connections
/// whose service is not silent.
const OPEN_GENERATION_PING: Duration = Duration::from_secs(1);
/// Invalid messages after which the connection is closed.
const MAX_INVALID_MESSAGES: u32 = 100;
/// Time for sending the last messages and the close frame.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// An accepted WebSocket.
pub(crate) struct Connection {
    pub(crate) service: Arc<TextService>,
    pub(crate) principal: String,
    pub(crate) format: Format,
}

/// What happens to the streams of a connection that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionEnd {
    /// The client closed the connection or violated the protocol: its streams are cancelled.
    Closed,
    /// The connection broke, or the service shuts down: resumable streams are kept.
    Lost,
}

/// The stream id of a prepared generation, and the engine's output or the refusal.
pub(super) type Prepared = (String, HandlerResult<(OutputStream, Arc<ModelRuntime>)>);

/// A generation that the engine has not accepted yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingGeneration {
    /// The client expects a `started` message.
    pub(super) announce: bool,
    pub(super) resumable: bool,
    pub(super) profile: ClientProfile,
}

/// The state of one connection.
pub(super) struct ConnectionDriver {
    pub(super) connection: Connection,
    pub(super) generations: Generations<Arc<ResumableStream>>,
    pub(super) preparing: FuturesUnordered<LocalBoxFuture<'static, Prepared>>,
    /// By stream id.
    pub(super) pending: HashMap<String, PendingGeneration>,
    /// Notified when a stream of this connection has events.
    pub(super) wake: Arc<Notify>,
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    /// The queue was full at the last attempt to deliver.
    pub(super) blocked: bool,
    /// A message was queued since the last tick of [`OPEN_GENERATION_PING`].
    pub(super) spoke: bool,
    invalid_messages: u32,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(connection: Connection, session: Session, incoming: AggregatedMessageStream) {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    struct OpenSocket(Arc<TextService>);
    impl Drop for OpenSocket {
        fn drop(&mut self) {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            self.0.metrics.sockets.dec();
        }
    }
    if OPEN.fetch_add(1, Ordering::Relaxed) >= MAX_SOCKETS {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        return writer::reject(session).await;
    }
    connection.service.metrics.sockets.inc();
    let _open = OpenSocket(Arc::clone(&connection.service));
    let (outgoing, queue) = mpsc::channel(QUEUED_MESSAGES);
    let mut writer = actix_web::rt::spawn(writer::write(session, queue, connection.format));
    let mut driver = ConnectionDriver {
        generations: Generations::default(),
        preparing: FuturesUnordered::new(),
        pending: HashMap::new(),
        wake: Arc::new(Notify::new()),
        blocked: false,
        spoke: false,
        invalid_messages: 0,
        outgoing,
        connection,
    };
    let end = driver.run(incoming).await;
    // A stream of a service that shuts down cannot be resumed.
    let discard = end == ConnectionEnd::Closed || driver.connection.service.shell.drain.has_begun();
    for generation in driver.generations.into_open() {
        if let Some(stream) = generation.stream {
            stream.detach(discard);
        }
    }
    drop(driver.outgoing);
    if tokio::time::timeout(CLOSE_TIME, &mut writer).await.is_err() {
        // The client reads nothing; without its writer the connection is closed.
        writer.abort();
        tracing::debug!("socket_close_timed_out");
    }
}

impl ConnectionDriver {
    async fn run(&mut self, mut incoming: AggregatedMessageStream) -> ConnectionEnd {
        let idle = self.connection.service.settings.socket_idle;
        let mut pings = interval_at(Instant::now() + idle / PINGS_PER_IDLE_TIME, idle / PINGS_PER_IDLE_TIME);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signs = interval_at(Instant::now() + OPEN_GENERATION_PING, OPEN_GENERATION_PING);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = self.connection.service.shell.drain.watch();
        let mut drain_seen = false;
        let mut last_message = Instant::now();
        let mut unanswered_pings = 0;
        loop {
            if drain_seen && self.generations.is_empty() {
                let reason = "the service is shutting down";
                return self.close(CloseCode::Away, reason, ConnectionEnd::Lost).await;
            }
            let delivery = self.next_delivery_in();
            let (blocked, preparing) = (self.blocked, !self.preparing.is_empty());
            let wake = Arc::clone(&self.wake);
            let outgoing = self.outgoing.clone();
            tokio::select! {
                message = incoming.recv() => {
                    last_message = Instant::now();
                    unanswered_pings = 0;
                    match message {
                        None => return ConnectionEnd::Lost,
                        Some(Ok(message)) => if let Some(end) = self.handle(message).await {
                            return end;
                        },
                        Some(Err(error)) => return self.protocol_error(&error).await,
                    }
                }
                Some(prepared) = self.preparing.next(), if preparing => self.start_prepared(prepared).await,
                () = wake.notified(), if !blocked => self.deliver(),
                () = tokio::time::sleep(delivery.unwrap_or(idle)), if delivery.is_some() && !blocked => self.deliver(),
                permit = outgoing.reserve(), if blocked => match permit {
                    Ok(permit) => {
                        drop(permit);
                        self.deliver();
                    }
                    Err(_) => return ConnectionEnd::Lost,
                },
                () = outgoing.closed() => return ConnectionEnd::Lost,
                _ = pings.tick() => {
                    // Both conditions: after a suspend of this process, elapsed time alone would disconnect every client.
                    if unanswered_pings >= PINGS_PER_IDLE_TIME && last_message.elapsed() >= idle {
                        return self.close(CloseCode::Policy, "no answer to pings", ConnectionEnd::Lost).await;
                    }
                    // If the queue is full, the client does not read and the ping would not arrive either.
                    let _ = self.outgoing.try_send(Outgoing::Ping);
                    unanswered_pings += 1;
                }
                _ = signs.tick(), if !self.generations.is_empty() => {
                    if !std::mem::take(&mut self.spoke) {
                        let _ = self.outgoing.try_send(Outgoing::Ping);
                    }
                }
                seen = draining.wait_for(|draining| *draining), if !drain_seen => {
                    drop(seen);
                    drain_seen = true;
                }
            }
        }
    }

    async fn handle(&mut self, message: AggregatedMessage) -> Option<ConnectionEnd> {
        match (message, self.connection.format) {
            (AggregatedMessage::Text(text), Format::Json) => self.handle_message(text.into_bytes()).await,
            (AggregatedMessage::Binary(bytes), Format::MessagePack) => self.handle_message(bytes).await,
            (AggregatedMessage::Binary(_), Format::Json) => {
                let reason = "this connection uses JSON text; offer videosdgx.v1.msgpack for binary messages";
                Some(self.close(CloseCode::Unsupported, reason, ConnectionEnd::Closed).await)
            }
            (AggregatedMessage::Text(_), Format::MessagePack) => {
                let reason = "this connection uses binary MessagePack; offer videosdgx.v1.json for text";
                Some(self.close(CloseCode::Unsupported, reason, ConnectionEnd::Closed).await)
            }
            (AggregatedMessage::Ping(bytes), _) => {
                let _ = self.outgoing.try_send(Outgoing::Pong(bytes.to_vec()));
                None
            }
            (AggregatedMessage::Pong(_), _) => None,
            (AggregatedMessage::Close(_), _) => {
                Some(self.close(CloseCode::Normal, "goodbye", ConnectionEnd::Closed).await)
            }
        }
    }

    async fn handle_message(&mut self, bytes: Bytes) -> Option<ConnectionEnd> {
        let format = self.connection.format;
        let decoded = if bytes.len() <= body::PARSED_AT_ONCE {
            format.decode(&bytes)
        } else {
            let decoding = run_blocking(move || format.decode(&bytes)).await;
            decoding.unwrap_or_else(|failure| Err(failure.0))
        };
        match decoded {
            Ok(ClientMessage::Generate(request)) => self.generate(*request).await,
            Ok(ClientMessage::Cancel(cancel)) => self.cancel(&cancel).await,
            Ok(ClientMessage::Resume(resume)) => self.resume(resume).await,
            Err(problem) => {
                self.invalid_messages += 1;
                if self.invalid_messages > MAX_INVALID_MESSAGES {
                    let reason = "too many invalid messages";
                    return Some(self.close(CloseCode::Policy, reason, ConnectionEnd::Closed).await);
                }
                self.refuse(None, problem).await;
            }
        }
        None
    }

    /// Closes the connection after an invalid frame.
    async fn protocol_error(&mut self, error: &ProtocolError) -> ConnectionEnd {
        match writer::close_code(error) {
            Some((code, reason)) => self.close(code, reason, ConnectionEnd::Closed).await,
            None => ConnectionEnd::Lost,
        }
    }

    async fn close(&mut self, code: CloseCode, reason: &'static str, end: ConnectionEnd) -> ConnectionEnd {
        let closing = self.outgoing.send(Outgoing::Close(code, reason));
        let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
        end
    }
}
