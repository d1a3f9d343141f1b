use std::time::Duration;

use reqwest::{Method, header};
use tokio::time::Instant;
use videosdgx_api::{Job, JobEvent, JobId, JobStatus, Stage};

use crate::{Client, ClientError, client::job_path, sse::SseParser};

/// Progress of a job, from its events or by polling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Status of the job.
    pub status: JobStatus,
    /// Percentage of the whole job, 0 to 100.
    pub percent: u8,
    /// Present stage.
    pub stage: Option<Stage>,
    /// Completed and total steps of this stage.
    pub steps: Option<(u32, u32)>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

impl From<&JobEvent> for Progress {
    fn from(event: &JobEvent) -> Self {
        Self {
            status: event.status,
            percent: event.progress,
            stage: event.stage,
            steps: event.step.zip(event.stage_steps),
            attempt: event.attempt,
        }
    }
}

impl From<&Job> for Progress {
    fn from(job: &Job) -> Self {
        Self {
            status: job.status,
            percent: job.progress,
            stage: job.stage,
            steps: job.step.zip(job.stage_steps),
            attempt: job.attempt,
        }
    }
}

/// How long the gateway may be unreachable, for example while a service restarts, before following fails.
const MAX_OUTAGE: Duration = Duration::from_secs(180);

impl Client {
    /// Follows a job to its end by its events, or by polling if events are not available, and returns its final state
    /// (completed, failed, cancelled or dead). `on_progress` is called at every change.
    ///
    /// # Errors
    /// A refusal (401, 404, …) at once; an unreachable server after three minutes.
    pub async fn follow(
        &self,
        id: &JobId,
        mut on_progress: impl FnMut(&Progress),
    ) -> Result<Job, ClientError> {
        let mut last_id = None;
        let mut last_answer = Instant::now();
        loop {
            match self.listen(id, &mut last_id, &mut last_answer, &mut on_progress).await {
                Err(error) if matches!(error.status(), Some(401 | 403)) => return Err(error),
                _ => {}
            }
            // However the stream ended, the job itself has the status.
            match self.job(id).await {
                Ok(job) if job.status.is_terminal() => {
                    on_progress(&Progress::from(&job));
                    return Ok(job);
                }
                Ok(job) => {
                    last_answer = Instant::now();
                    on_progress(&Progress::from(&job));
                }
                Err(error) if !error.is_temporary() || last_answer.elapsed() > MAX_OUTAGE => {
                    return Err(error);
                }
                Err(_) => {}
            }
            tokio::time::sleep(self.poll_every).await;
        }
    }

    /// Reads the event stream until the stream or the job ends.
    async fn listen(
        &self,
        id: &JobId,
        last_id: &mut Option<String>,
        last_answer: &mut Instant,
        on_progress: &mut impl FnMut(&Progress),
    ) -> Result<(), ClientError> {
        let mut request = self
            .request(Method::GET, &job_path(id, &["events"]))?
            .header(header::ACCEPT, "text/event-stream");
        if let Some(last_id) = last_id.as_deref() {
            request = request.header("last-event-id", last_id);
        }
        let mut response = self.send(request).await?;
        let mut parser = SseParser::default();
        while let Some(chunk) = response.chunk().await.map_err(ClientError::transport)? {
            *last_answer = Instant::now();
            let events = parser.push(&chunk).map_err(ClientError::unreadable)?;
            for event in events {
                // Unknown kinds of events are skipped.
                let Ok(job_event) = serde_json::from_str::<JobEvent>(&event.data) else { continue };
                *last_id = event.id;
                on_progress(&Progress::from(&job_event));
                if job_event.status.is_terminal() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
