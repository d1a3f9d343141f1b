//! Jobs of a video service.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Event, TestClient, parse_events};

impl TestClient {
    /// Submits a job and returns its id.
    ///
    /// # Panics
    /// If it is not accepted.
    pub async fn submit(&self, body: Value) -> String {
        let accepted = self.post("/generate", body).await.expect(202);
        accepted["job_id"].as_str().expect("a job id").to_owned()
    }

    /// Submits a job with only a prompt.
    pub async fn submit_prompt(&self, prompt: &str) -> String {
        self.submit(json!({ "prompt": prompt })).await
    }

    /// The job as JSON.
    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.expect(200)
    }

    /// All events of a job, once its stream has ended.
    pub async fn events(&self, id: &str) -> Vec<Event> {
        parse_events(&self.get(&format!("/jobs/{id}/events")).await.text())
    }

    /// The job after its end.
    pub async fn finished(&self, id: &str) -> Value {
        self.events(id).await;
        self.job(id).await
    }

    /// Waits until a worker runs the job.
    ///
    /// # Panics
    /// If it ends before.
    pub async fn running(&self, id: &str) {
        let request = self.request(Method::GET, &format!("/jobs/{id}/events"));
        let mut response = request.send().await.expect("a response");
        let mut text = String::new();
        while let Some(chunk) = response.chunk().await.expect("an open stream") {
            text.push_str(&String::from_utf8_lossy(&chunk));
            // The stream begins with earlier events, so that the job itself has the present status.
            if text.contains("\"status\":\"processing\"") && self.job(id).await["status"] == "processing" {
                return;
            }
        }
        panic!("the job never ran: {text}");
    }
}
