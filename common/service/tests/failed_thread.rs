//! A service one of whose threads has panicked. A test program of its own, since that is a fact of the whole process.

use videosdgx_auth::AuthConfig;
use videosdgx_service::{Running, ServiceConfig, VideoSettings, fake::FakeEngine};
use videosdgx_testing::TestClient;

#[actix_web::test]
async fn readiness_names_the_thread_and_health_still_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = ServiceConfig::from_lookup("fake", |_| None).unwrap();
    config.listen.set_port(0);
    config.state_dir = folder.path().join("state");
    config.auth = AuthConfig::with_dir(folder.path().join("auth"));
    let mut settings = VideoSettings::from_lookup("fake", |_| None).unwrap();
    settings.outputs_dir = folder.path().join("outputs");
    let running = Running::start(FakeEngine::default(), config, settings).await.unwrap();
    let client = TestClient::new(running.url(), "");
    assert_eq!(client.get("/ready").await.expect(503)["accepting_jobs"], true, "it is only not loaded yet");

    let thread = videosdgx_threads::spawn_vital("jobs-writer", || panic!("/secret/path")).unwrap();
    thread.join().unwrap_err();
    let ready = client.get("/ready").await.expect(503);
    let reason = ready["reason"].as_str().unwrap();
    assert!(reason.contains("jobs-writer") && !reason.contains("secret"), "{reason}");
    assert_eq!(ready["accepting_jobs"], false);
    client.get("/health").await.expect(200);
}
