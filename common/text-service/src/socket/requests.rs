//! What a connection does with the messages `generate`, `cancel` and `resume`.

use std::sync::Arc;

use futures::FutureExt as _;
use videosdgx_api::{Code, Problem, ServerEvent, StreamCancel, StreamGenerate, StreamResume};
use videosdgx_shell::{Failure, HandlerResult};

use super::connection::{ConnectionDriver, PendingGeneration, Prepared};
use crate::{
    output::OutputStream,
    runtime::ModelRuntime,
    service::TextService,
    stream::{
        request::{check_request_id, task_of_generate},
        resumable::{NewStream, ResumableStream, ResumeError},
    },
    submission,
};

/// Checks `request`, loads the model and submits the generation to the engine.
async fn submit(
    service: &Arc<TextService>,
    principal: &str,
    stream_id: &str,
    request: StreamGenerate,
) -> HandlerResult<(OutputStream, Arc<ModelRuntime>)> {
    let runtime = service.runtime().await?;
    let task = task_of_generate(&runtime, request).await?;
    service.load(&runtime).await?;
    let outputs = submission::submit(&runtime, principal, stream_id, vec![task]).await?;
    let output = outputs.into_iter().next();
    let output = output.ok_or_else(|| Failure::internal("the engine returned no stream"))?;
    Ok((output, runtime))
}

impl ConnectionDriver {
    pub(super) async fn generate(&mut self, request: StreamGenerate) {
        let request_id = request.request_id.clone();
        let resumable = request.resumable.unwrap_or(false);
        let service = &self.connection.service;
        let stream_id = uuid::Uuid::new_v4().simple().to_string();
        let added = check_request_id(request_id.as_deref()).and_then(|()| {
            if service.shell.drain.has_begun() {
                let detail = "the service is shutting down; try again soon";
                return Err(Problem::new(Code::Draining, detail).with_retry_after(5));
            }
            if resumable && !service.streams.has_capacity(&self.connection.principal) {
                let detail = "too many resumable streams; try again when some have ended";
                return Err(Problem::new(Code::RateLimited, detail).with_retry_after(5));
            }
            self.generations.add(request_id.clone(), stream_id.clone())
        });
        if let Err(problem) = added {
            return self.refuse(request_id, problem).await;
        }
        let announce = request_id.is_some() || resumable;
        let (service, principal) = (Arc::clone(service), self.connection.principal.clone());
        let profile = request.profile.unwrap_or_default();
        self.pending.insert(stream_id.clone(), PendingGeneration { announce, resumable, profile });
        self.preparing.push(
            async move {
                let prepared = submit(&service, &principal, &stream_id, request).await;
                (stream_id, prepared)
            }
            .boxed_local(),
        );
    }

    /// The engine has accepted the generation, or it was refused.
    pub(super) async fn start_prepared(&mut self, (stream_id, prepared): Prepared) {
        let Some(pending) = self.pending.remove(&stream_id) else { return };
        let (output, runtime) = match prepared {
            Ok(accepted) => accepted,
            Err(failure) => {
                let generation = self.generations.remove(&stream_id);
                let request_id = generation.and_then(|generation| generation.request_id);
                return self.refuse(request_id, failure.0).await;
            }
        };
        let Some(generation) = self.generations.get_mut(&stream_id) else { return };
        let (request_id, cancelled) = (generation.request_id.clone(), generation.cancelled);
        let new = NewStream {
            id: stream_id.clone(),
            principal: self.connection.principal.clone(),
            request_id: request_id.clone(),
            profile: pending.profile,
            resumable: pending.resumable,
        };
        if pending.announce {
            self.send(request_id, ServerEvent::Started { stream_id: stream_id.clone() }).await;
        }
        let streams = &self.connection.service.streams;
        let stream = streams.start(new, output, runtime.engine.clone(), Arc::clone(&self.wake));
        if cancelled {
            stream.cancel();
        }
        if let Some(generation) = self.generations.get_mut(&stream_id) {
            generation.stream = Some(stream);
        }
        self.deliver();
    }

    pub(super) async fn cancel(&mut self, cancel: &StreamCancel) {
        let mut found = false;
        let (request_id, stream_id) = (cancel.request_id.as_deref(), cancel.stream_id.as_deref());
        for generation in self.generations.matching(request_id, stream_id) {
            found = true;
            generation.cancelled = true;
            if let Some(stream) = &generation.stream {
                stream.cancel();
            }
        }
        // Cancelling everything is not an error when nothing is running.
        if !found && (cancel.request_id.is_some() || cancel.stream_id.is_some()) {
            let problem = Problem::new(Code::NotFound, "there is no such generation, or it has ended");
            self.refuse(cancel.request_id.clone(), problem).await;
        }
    }

    pub(super) async fn resume(&mut self, resume: StreamResume) {
        let StreamResume { stream_id, position, request_id } = resume;
        if let Err(problem) = check_request_id(request_id.as_deref()) {
            return self.refuse(None, problem).await;
        }
        // If this connection delivers the stream, it is delivered again from `position` on.
        let own = self.generations.remove(&stream_id);
        let streams = &self.connection.service.streams;
        let principal = &self.connection.principal;
        let stream = match streams.resume(&stream_id, principal, position, Arc::clone(&self.wake)) {
            Ok(stream) => stream,
            Err(error) => {
                let (code, message) = match error {
                    ResumeError::NotFound => {
                        ("stream_not_found", "there is no such stream, or it has expired")
                    }
                    ResumeError::PositionDropped => {
                        ("position_forgotten", "the tokens after that position are no longer stored")
                    }
                };
                if let Some(own) = own {
                    self.restore(own.request_id, stream_id, own.stream);
                }
                return self.send_error(request_id, code, message).await;
            }
        };
        let request_id = request_id.or_else(|| stream.request_id.clone());
        if let Err(problem) = self.generations.add(request_id.clone(), stream_id.clone()) {
            stream.detach(false);
            return self.refuse(request_id, problem).await;
        }
        self.send(request_id, ServerEvent::Started { stream_id: stream_id.clone() }).await;
        if let Some(generation) = self.generations.get_mut(&stream_id) {
            generation.stream = Some(stream);
        }
        self.deliver();
    }

    /// Adds a generation again after a `resume` that failed.
    fn restore(
        &mut self,
        request_id: Option<String>,
        stream_id: String,
        stream: Option<Arc<ResumableStream>>,
    ) {
        if self.generations.add(request_id, stream_id.clone()).is_ok()
            && let Some(generation) = self.generations.get_mut(&stream_id)
        {
            generation.stream = stream;
        }
    }
}
