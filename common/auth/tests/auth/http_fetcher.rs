//! The fetcher of key sets over HTTP: bounded in size, no redirects.

use videosdgx_auth::{HttpJwksFetcher, JwksFetcher};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

#[tokio::test]
async fn it_reads_documents_and_nothing_else() {
    let server = MockServer::start().await;
    let answers = [
        ("/good", ResponseTemplate::new(200).set_body_string("{\"keys\":[]}")),
        ("/missing", ResponseTemplate::new(404)),
        ("/elsewhere", ResponseTemplate::new(302).insert_header("location", "/good")),
        ("/huge", ResponseTemplate::new(200).set_body_bytes(vec![b'x'; HttpJwksFetcher::MAX_BYTES + 1])),
    ];
    for (route, answer) in answers {
        Mock::given(path(route)).respond_with(answer).mount(&server).await;
    }
    let fetcher = HttpJwksFetcher::new().unwrap();
    let get = async |route: &str| fetcher.fetch(&format!("{}{route}", server.uri())).await;
    assert_eq!(get("/good").await.unwrap(), b"{\"keys\":[]}");
    assert!(get("/missing").await.unwrap_err().contains("404"));
    assert!(get("/elsewhere").await.unwrap_err().contains("302"));
    assert!(get("/huge").await.unwrap_err().contains("larger than"));
}
