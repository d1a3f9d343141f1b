//! One connection: messages in, events out, pings between them. What it decides is in [`super::names`] and [`super::buffer`].

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, ProtocolError, Session};
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval_at},
};
use videosdgx_api::{
    ClientMessage, ClientProfile, Code, Problem, ServerEvent, ServerMessage, StreamCancel, StreamGenerate,
    StreamProblem, StreamResume,
};
use videosdgx_shell::HandlerResult;

use super::{
    Format,
    kept::{KeptStream, NewStream, ResumeError},
    names::Names,
    outgoing::{self, Outgoing},
};
use crate::{
    failed,
    output::Output,
    ready::Ready,
    service::TextService,
    stream::plan::{self, check_name},
};

/// Open WebSockets of a service; one more is told to try later.
const MAX_SOCKETS: usize = 1024;
/// Messages on their way to the socket.
const OUTGOING: usize = 16;
/// Pings in the time after which a silent client is given up.
const PINGS: u32 = 3;
/// Messages that cannot be used before the client is sent away.
const MOST_MISTAKES: u32 = 100;
/// What a client gets to take the last messages.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The connection's side of the world.
pub(crate) struct Connection {
    pub(crate) service: Arc<TextService>,
    pub(crate) principal: String,
    pub(crate) format: Format,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The client said goodbye, or did what is not allowed: its streams end.
    ForGood,
    /// The connection broke, or the service goes: resumable streams are kept.
    Lost,
}

type Prepared = (String, HandlerResult<(Output, Arc<Ready>)>);

/// Serves a connection until it ends.
pub(crate) async fn drive(connection: Connection, session: Session, incoming: AggregatedMessageStream) {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    struct Counted(Arc<TextService>);
    impl Drop for Counted {
        fn drop(&mut self) {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            self.0.metrics.sockets.dec();
        }
    }
    if OPEN.fetch_add(1, Ordering::Relaxed) >= MAX_SOCKETS {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        return outgoing::turn_away(session).await;
    }
    connection.service.metrics.sockets.inc();
    let _counted = Counted(Arc::clone(&connection.service));
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let writer = actix_web::rt::spawn(outgoing::write(session, queue, connection.format));
    let mut driver = Driver {
        names: Names::default(),
        preparing: FuturesUnordered::new(),
        pending: HashMap::new(),
        wake: Arc::new(Notify::new()),
        blocked: false,
        mistakes: 0,
        outgoing,
        connection,
    };
    let ending = driver.run(incoming).await;
    // Nobody can come back to a service that shuts down.
    let for_good = ending == Ending::ForGood || driver.connection.service.shell.drain.has_begun();
    for named in driver.names.into_open() {
        if let Some(stream) = named.stream {
            stream.leave(for_good);
        }
    }
    drop(driver.outgoing);
    if tokio::time::timeout(CLOSE_WITHIN, writer).await.is_err() {
        tracing::debug!("socket_cut");
    }
}

/// What is known of a generation while it is being prepared.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Its `started` is sent.
    started: bool,
    resumable: bool,
    profile: ClientProfile,
}

struct Driver {
    connection: Connection,
    names: Names<Arc<KeptStream>>,
    preparing: FuturesUnordered<LocalBoxFuture<'static, Prepared>>,
    pending: HashMap<String, Pending>,
    /// A stream of this connection has something.
    wake: Arc<Notify>,
    outgoing: mpsc::Sender<Outgoing>,
    /// The socket took less than it was given.
    blocked: bool,
    mistakes: u32,
}

impl Driver {
    async fn run(&mut self, mut incoming: AggregatedMessageStream) -> Ending {
        let idle = self.connection.service.settings.socket_idle;
        let mut pings = interval_at(Instant::now() + idle / PINGS, idle / PINGS);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = self.connection.service.shell.drain.watch();
        let mut drain_seen = false;
        let mut heard = Instant::now();
        let mut unanswered = 0;
        loop {
            if drain_seen && self.names.is_empty() {
                return self.close(CloseCode::Away, "the service is shutting down", Ending::Lost).await;
            }
            let due = self.due_in();
            let (blocked, preparing) = (self.blocked, !self.preparing.is_empty());
            let wake = Arc::clone(&self.wake);
            let outgoing = self.outgoing.clone();
            tokio::select! {
                message = incoming.recv() => {
                    heard = Instant::now();
                    unanswered = 0;
                    match message {
                        None => return Ending::Lost,
                        Some(Ok(message)) => if let Some(ending) = self.message(message).await {
                            return ending;
                        },
                        Some(Err(error)) => return self.broken(&error).await,
                    }
                }
                Some(prepared) = self.preparing.next(), if preparing => self.prepared(prepared).await,
                () = wake.notified(), if !blocked => self.flush(),
                () = tokio::time::sleep(due.unwrap_or(idle)), if due.is_some() && !blocked => self.flush(),
                room = outgoing.reserve(), if blocked => match room {
                    Ok(room) => {
                        drop(room);
                        self.flush();
                    }
                    Err(_) => return Ending::Lost,
                },
                () = outgoing.closed() => return Ending::Lost,
                _ = pings.tick() => {
                    // By the clock alone, a process that slept would blame its clients.
                    if unanswered >= PINGS && heard.elapsed() >= idle {
                        return self.close(CloseCode::Policy, "no answer to pings", Ending::Lost).await;
                    }
                    // A full queue says itself that the client does not read.
                    let _ = self.outgoing.try_send(Outgoing::Ping);
                    unanswered += 1;
                }
                seen = draining.wait_for(|draining| *draining), if !drain_seen => {
                    drop(seen);
                    drain_seen = true;
                }
            }
        }
    }

    async fn message(&mut self, message: AggregatedMessage) -> Option<Ending> {
        match (message, self.connection.format) {
            (AggregatedMessage::Text(text), Format::Json) => self.read(text.as_bytes()).await,
            (AggregatedMessage::Binary(bytes), Format::MessagePack) => self.read(&bytes).await,
            (AggregatedMessage::Binary(_), Format::Json) => {
                let why = "messages are JSON text here; offer videosdgx.v1.msgpack for binary ones";
                Some(self.close(CloseCode::Unsupported, why, Ending::ForGood).await)
            }
            (AggregatedMessage::Text(_), Format::MessagePack) => {
                let why = "messages are binary MessagePack here; offer videosdgx.v1.json for text";
                Some(self.close(CloseCode::Unsupported, why, Ending::ForGood).await)
            }
            (AggregatedMessage::Ping(bytes), _) => {
                let _ = self.outgoing.try_send(Outgoing::Pong(bytes.to_vec()));
                None
            }
            (AggregatedMessage::Pong(_), _) => None,
            (AggregatedMessage::Close(_), _) => {
                Some(self.close(CloseCode::Normal, "goodbye", Ending::ForGood).await)
            }
        }
    }

    async fn read(&mut self, bytes: &[u8]) -> Option<Ending> {
        match self.connection.format.read(bytes) {
            Ok(ClientMessage::Generate(asked)) => self.generate(*asked).await,
            Ok(ClientMessage::Cancel(cancel)) => self.cancel(&cancel).await,
            Ok(ClientMessage::Resume(resume)) => self.resume(resume).await,
            Err(problem) => {
                self.mistakes += 1;
                if self.mistakes > MOST_MISTAKES {
                    let why = "too many messages that cannot be read";
                    return Some(self.close(CloseCode::Policy, why, Ending::ForGood).await);
                }
                self.refuse(None, problem).await;
            }
        }
        None
    }

    async fn generate(&mut self, asked: StreamGenerate) {
        let request_id = asked.request_id.clone();
        let resumable = asked.resumable.unwrap_or(false);
        let service = &self.connection.service;
        let stream_id = uuid::Uuid::new_v4().simple().to_string();
        let sound = check_name(request_id.as_deref()).and_then(|()| {
            if service.shell.drain.has_begun() {
                let detail = "the service is shutting down; try again soon";
                return Err(Problem::new(Code::Draining, detail).with_retry_after(5));
            }
            if resumable && !service.kept.has_place(&self.connection.principal) {
                let detail = "too many streams are kept for resuming; try again when some have ended";
                return Err(Problem::new(Code::RateLimited, detail).with_retry_after(5));
            }
            self.names.add(request_id.clone(), stream_id.clone())
        });
        if let Err(problem) = sound {
            // A name that is taken stays the other one's.
            return self.refuse(request_id, problem).await;
        }
        let started = request_id.is_some() || resumable;
        let (service, principal) = (Arc::clone(service), self.connection.principal.clone());
        let profile = asked.profile.unwrap_or_default();
        self.pending.insert(stream_id.clone(), Pending { started, resumable, profile });
        self.preparing.push(
            async move {
                let prepared = plan::begin(&service, &principal, &stream_id, asked).await;
                (stream_id, prepared)
            }
            .boxed_local(),
        );
    }

    /// The engine has taken it, or not.
    async fn prepared(&mut self, (stream_id, prepared): Prepared) {
        let Some(pending) = self.pending.remove(&stream_id) else { return };
        let (output, ready) = match prepared {
            Ok(taken) => taken,
            Err(failure) => {
                let named = self.names.remove(&stream_id);
                return self.refuse(named.and_then(|named| named.request_id), failure.0).await;
            }
        };
        let Some(named) = self.names.get_mut(&stream_id) else { return };
        let (request_id, cancelled) = (named.request_id.clone(), named.cancelled);
        let new = NewStream {
            id: stream_id.clone(),
            principal: self.connection.principal.clone(),
            request_id: request_id.clone(),
            profile: pending.profile,
            resumable: pending.resumable,
        };
        if pending.started {
            self.send(request_id, ServerEvent::Started { stream_id: stream_id.clone() }).await;
        }
        let kept = &self.connection.service.kept;
        let stream = kept.begin(new, output, ready.engine.clone(), Arc::clone(&self.wake));
        if cancelled {
            stream.cancel();
        }
        if let Some(named) = self.names.get_mut(&stream_id) {
            named.stream = Some(stream);
        }
        self.flush();
    }

    async fn cancel(&mut self, cancel: &StreamCancel) {
        let mut found = false;
        for named in self.names.matching(cancel.request_id.as_deref(), cancel.stream_id.as_deref()) {
            found = true;
            named.cancelled = true;
            if let Some(stream) = &named.stream {
                stream.cancel();
            }
        }
        // Who cancels everything may find nothing: it has just ended.
        if !found && (cancel.request_id.is_some() || cancel.stream_id.is_some()) {
            let problem = Problem::new(Code::NotFound, "there is no such generation, or it has ended");
            self.refuse(cancel.request_id.clone(), problem).await;
        }
    }

    async fn resume(&mut self, resume: StreamResume) {
        let StreamResume { stream_id, position, request_id } = resume;
        if let Err(problem) = check_name(request_id.as_deref()) {
            return self.refuse(None, problem).await;
        }
        // On this connection it may still be open: then it goes on from there.
        let own = self.names.remove(&stream_id);
        let kept = &self.connection.service.kept;
        let found = kept.resume(&stream_id, &self.connection.principal, position, Arc::clone(&self.wake));
        let stream = match found {
            Ok(stream) => stream,
            Err(error) => {
                let (code, message) = match error {
                    ResumeError::Unknown => {
                        ("stream_not_found", "there is no such stream, or it is not kept any more")
                    }
                    ResumeError::Forgotten => {
                        ("position_forgotten", "the tokens after that position are not kept any more")
                    }
                };
                if let Some(own) = own {
                    self.put_back(own.request_id, stream_id, own.stream);
                }
                return self.error(request_id, code, message).await;
            }
        };
        let name = request_id.or_else(|| stream.request_id.clone());
        if let Err(problem) = self.names.add(name.clone(), stream_id.clone()) {
            stream.leave(false);
            return self.refuse(name, problem).await;
        }
        self.send(name, ServerEvent::Started { stream_id: stream_id.clone() }).await;
        if let Some(named) = self.names.get_mut(&stream_id) {
            named.stream = Some(stream);
        }
        self.flush();
    }

    fn put_back(&mut self, request_id: Option<String>, stream_id: String, stream: Option<Arc<KeptStream>>) {
        if self.names.add(request_id, stream_id.clone()).is_ok()
            && let Some(named) = self.names.get_mut(&stream_id)
        {
            named.stream = stream;
        }
    }

    /// Hands over what the streams have, while the socket takes it.
    fn flush(&mut self) {
        let slow = std::mem::take(&mut self.blocked);
        let mut ended = Vec::new();
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for named in self.names.iter_mut() {
                let Some(stream) = &named.stream else { continue };
                if !stream.is_read_by(&self.wake) {
                    // Another connection of this client has taken it up.
                    ended.push(named.stream_id.clone());
                    named.stream = None;
                    continue;
                }
                let Ok(room) = self.outgoing.try_reserve() else {
                    self.blocked = true;
                    progress = false;
                    break;
                };
                let Some(event) = stream.take(slow) else {
                    if stream.is_delivered() {
                        ended.push(named.stream_id.clone());
                    }
                    continue;
                };
                let message = ServerMessage { request_id: named.request_id.clone(), index: None, event };
                room.send(Outgoing::Message(self.connection.format.write(&message)));
                progress = true;
            }
        }
        for stream_id in ended {
            if let Some(Some(stream)) = self.names.remove(&stream_id).map(|named| named.stream)
                && stream.is_read_by(&self.wake)
            {
                // All of it is on its way; a connection that breaks now may still come back for it.
                stream.leave(false);
            }
        }
    }

    fn due_in(&mut self) -> Option<Duration> {
        let streams = self.names.iter_mut().filter_map(|named| named.stream.as_ref());
        streams.filter_map(|stream| stream.due_in()).min()
    }

    async fn refuse(&mut self, request_id: Option<String>, problem: Problem) {
        let error = failed::refused(problem);
        self.send(request_id, ServerEvent::Error { error }).await;
    }

    async fn error(&mut self, request_id: Option<String>, code: &str, message: &str) {
        let error = StreamProblem {
            code: code.to_owned(),
            message: message.to_owned(),
            recoverable: false,
            field: None,
            line: None,
            retry_after_seconds: None,
        };
        self.send(request_id, ServerEvent::Error { error }).await;
    }

    /// Waits for room: who does not read its answers is not read from either.
    async fn send(&mut self, request_id: Option<String>, event: ServerEvent) {
        let message = ServerMessage { request_id, index: None, event };
        let _ = self.outgoing.send(Outgoing::Message(self.connection.format.write(&message))).await;
    }

    /// What the client's frames did wrong.
    async fn broken(&mut self, error: &ProtocolError) -> Ending {
        let Some((code, why)) = outgoing::reason_of(error) else { return Ending::Lost };
        self.close(code, why, Ending::ForGood).await
    }

    async fn close(&mut self, code: CloseCode, why: &'static str, ending: Ending) -> Ending {
        let closing = self.outgoing.send(Outgoing::Close(code, why));
        let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
        ending
    }
}
