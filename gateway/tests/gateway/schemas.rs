//! Videos, models and errors are valid in OpenAI's published schemas.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use videosdgx_api::JobStatus;
use videosdgx_testing::OpenAiAnswer;

use crate::service::Service;
use crate::test_gateway::TestGateway;

async fn valid(request: RequestBuilder, status: u16, schema: OpenAiAnswer) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    let answer: Value = response.json().await.unwrap();
    schema.assert_valid(&answer);
    answer
}

#[tokio::test]
async fn videos_and_models_are_valid() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    gateway.ready().await;
    valid(gateway.get("/v1/models"), 200, OpenAiAnswer::ListModelsResponse).await;
    valid(gateway.get("/v1/models/fake"), 200, OpenAiAnswer::Model).await;
    valid(gateway.get("/v1/videos"), 200, OpenAiAnswer::VideoList).await;
    let statuses = [
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
        JobStatus::Dead,
    ];
    for status in statuses {
        let body = json!({"model": "fake", "prompt": "a red circle", "seconds": "2", "size": "64x48"});
        let video = valid(gateway.post("/v1/videos").json(&body), 200, OpenAiAnswer::Video).await;
        let id = video["id"].as_str().unwrap();
        service.set(id, status);
        valid(gateway.get(&format!("/v1/videos/{id}")), 200, OpenAiAnswer::Video).await;
    }
    let page = valid(gateway.get("/v1/videos"), 200, OpenAiAnswer::VideoList).await;
    assert_eq!(page["data"].as_array().unwrap().len(), statuses.len());
    valid(gateway.post("/v1/videos/fake-0001/cancel"), 200, OpenAiAnswer::Video).await;
    let delete = gateway.request(Method::DELETE, "/v1/videos/fake-0003");
    valid(delete, 200, OpenAiAnswer::VideoDeleted).await;
}

#[tokio::test]
async fn errors_are_valid() {
    let service = Service::start("fake").await;
    let gateway = TestGateway::in_front_of(&service).await;
    gateway.ready().await;
    for (request, status) in [
        (gateway.get("/v1/videos/fake-0009"), 404),
        (gateway.get("/v1/models/none"), 404),
        (gateway.get("/v1/nothing"), 404),
        (gateway.request(Method::PUT, "/v1/videos"), 405),
        (gateway.post("/v1/videos").json(&json!({"prompt": ""})), 400),
        (gateway.post("/v1/videos").body("p"), 415),
        (gateway.post("/v1/chat/completions").json(&json!({})), 400),
        (gateway.client.get(gateway.url("/v1/models")), 401),
    ] {
        valid(request, status, OpenAiAnswer::ErrorResponse).await;
    }
}
