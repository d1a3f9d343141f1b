use std::time::Duration;

use reqwest::{Method, header};
use tokio::time::Instant;
use videosdgx_api::{Job, JobEvent, JobId, JobStatus, Stage};

use crate::{Client, ClientError, client::job_path, sse::SseParser};

/// Where a job is, from its events or from asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// State.
    pub status: JobStatus,
    /// 0 to 100.
    pub percent: u8,
    /// What is being done.
    pub stage: Option<Stage>,
    /// Steps of this stage done, and in all.
    pub steps: Option<(u32, u32)>,
    /// From 1.
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

/// The gateway may be away this long, for example while a service restarts, before following gives up.
const PATIENCE: Duration = Duration::from_secs(180);

impl Client {
    /// Follows a job to its end by its events, or by asking where events do not get through, and answers it as it ended
    /// (completed, failed, cancelled or dead). `on_progress` sees every change.
    ///
    /// # Errors
    /// Refusals (401, 404, …) at once; a server that cannot be reached after three minutes.
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
            // Whatever became of the stream: the job itself says whether it is over.
            match self.job(id).await {
                Ok(job) if job.status.is_terminal() => {
                    on_progress(&Progress::from(&job));
                    return Ok(job);
                }
                Ok(job) => {
                    last_answer = Instant::now();
                    on_progress(&Progress::from(&job));
                }
                Err(error) if !error.is_passing() || last_answer.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(self.poll_every).await;
        }
    }

    /// Reads the event stream until it ends or the job does.
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
            let events = parser.push(&chunk).map_err(|error| ClientError::Unreadable(error.to_string()))?;
            for event in events {
                // Kinds of events that are still to come are not for us.
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
