//! How a connection delivers the events of its streams.

use std::time::Duration;

use videosdgx_api::{Problem, ServerEvent, ServerMessage, StreamProblem};

use super::{connection::ConnectionDriver, writer::Outgoing};
use crate::errors;

impl ConnectionDriver {
    /// Queues the streams' messages in turns until nothing is due or the queue is full.
    pub(super) fn deliver(&mut self) {
        let slow = std::mem::take(&mut self.blocked);
        let mut ended = Vec::new();
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for generation in self.generations.iter_mut() {
                let Some(stream) = &generation.stream else { continue };
                if !stream.is_read_by(&self.wake) {
                    // Another connection of this client has resumed it.
                    ended.push(generation.stream_id.clone());
                    generation.stream = None;
                    continue;
                }
                let Ok(permit) = self.outgoing.try_reserve() else {
                    self.blocked = true;
                    progress = false;
                    break;
                };
                let Some(event) = stream.take(slow) else {
                    if stream.is_delivered() {
                        ended.push(generation.stream_id.clone());
                    }
                    continue;
                };
                let message = ServerMessage { request_id: generation.request_id.clone(), index: None, event };
                permit.send(Outgoing::Message(self.connection.format.encode(&message)));
                self.spoke = true;
                progress = true;
            }
        }
        for stream_id in ended {
            if let Some(Some(stream)) =
                self.generations.remove(&stream_id).map(|generation| generation.stream)
                && stream.is_read_by(&self.wake)
            {
                // Every message is queued; if the connection breaks now, the client can still resume the stream.
                stream.detach(false);
            }
        }
    }

    /// Time until the next message of any stream is to be delivered.
    pub(super) fn next_delivery_in(&mut self) -> Option<Duration> {
        let streams = self.generations.iter_mut().filter_map(|generation| generation.stream.as_ref());
        streams.filter_map(|stream| stream.next_delivery_in()).min()
    }

    /// Sends an `error` message for a refused request.
    pub(super) async fn refuse(&mut self, request_id: Option<String>, problem: Problem) {
        let error = errors::refusal(problem);
        self.send(request_id, ServerEvent::Error { error }).await;
    }

    pub(super) async fn send_error(&mut self, request_id: Option<String>, code: &str, message: &str) {
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

    /// Queues a message. Waits while the queue is full: nothing is read from a client that does not read its answers.
    pub(super) async fn send(&mut self, request_id: Option<String>, event: ServerEvent) {
        let message = ServerMessage { request_id, index: None, event };
        let _ = self.outgoing.send(Outgoing::Message(self.connection.format.encode(&message))).await;
    }
}
