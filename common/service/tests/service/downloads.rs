//! The file: whole, in parts, unchanged, gone.

use reqwest::Method;
use serde_json::json;
use videosdgx_testing::{TestClient, TestResponse};

use crate::support::{TestService, quick};

async fn with(tester: &TestClient, method: Method, path: &str, headers: &[(&str, &str)]) -> TestResponse {
    let request = headers
        .iter()
        .fold(tester.request(method, path), |request, (name, value)| request.header(*name, *value));
    tester.send(request).await
}

#[actix_web::test]
async fn parts_of_the_file_are_sent_as_rfc_9110_says() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    let path = format!("/jobs/{id}/download");
    let whole = tester.get(&path).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-disposition"), format!("attachment; filename=\"{id}.mp4\""));
    let (file, length) = (whole.body.clone(), whole.body.len());
    assert_eq!(whole.header("content-length"), length.to_string());
    assert_eq!(&file[4..8], b"ftyp");
    let tag = whole.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");

    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, length - 1),
        ("bytes=-10", length - 10, length - 1),
        ("bytes=0-999999", 0, length - 1),
        ("bytes=-999999", 0, length - 1),
    ] {
        let part = with(&tester, Method::GET, &path, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/{length}"), "{range}");
        assert_eq!(part.body, file[first..=last], "{range}");
        assert_eq!(part.header("etag"), tag);
    }
    for range in [format!("bytes={length}-"), "bytes=-0".to_owned(), "bytes=99999999999999999999-".to_owned()]
    {
        let answer = with(&tester, Method::GET, &path, &[("range", &range)]).await;
        assert_eq!(answer.code(416), "range_not_satisfiable", "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes */{length}"));
    }
    for range in ["bytes=0-1,5-6", "bytes=5-2", "lines=0-1", "bytes=x"] {
        let answer = with(&tester, Method::GET, &path, &[("range", range)]).await;
        assert_eq!((answer.status, answer.body.len()), (200, length), "{range}");
    }
    let fresh = with(&tester, Method::GET, &path, &[("range", "bytes=0-3"), ("if-range", &tag)]).await;
    assert_eq!(fresh.status, 206);
    for stale in ["\"another\"", "W/\"another\"", "Sun, 22 Nov 2026 05:00:00 GMT"] {
        let answer = with(&tester, Method::GET, &path, &[("range", "bytes=0-3"), ("if-range", stale)]).await;
        assert_eq!((answer.status, answer.body.len()), (200, length), "{stale}");
    }
    for same in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = with(&tester, Method::GET, &path, &[("if-none-match", &same)]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{same}");
        assert_eq!(answer.header("etag"), tag);
    }
    assert_eq!(with(&tester, Method::GET, &path, &[("if-none-match", "\"x\"")]).await.status, 200);
    let head = with(&tester, Method::HEAD, &path, &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        (head.header("content-length"), head.header("etag")),
        (length.to_string().as_str(), tag.as_str())
    );
}

#[actix_web::test]
async fn a_large_file_is_streamed() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let id = tester.submit_prompt("a").await;
    tester.finished(&id).await;
    // As if the engine had made 40 MB; sparse, and told from zeros at its end.
    let path = service.folder.path().join("outputs").join(format!("{id}.mp4"));
    let length = 40 << 20;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(length).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", length - 3).unwrap();
    let answer = tester.get(&format!("/jobs/{id}/download")).await;
    assert_eq!(answer.body.len() as u64, length);
    assert!(answer.body.ends_with(b"end"));
    let part = with(&tester, Method::GET, &format!("/jobs/{id}/download"), &[("range", "bytes=-3")]).await;
    assert_eq!(part.body, b"end");
}

#[actix_web::test]
async fn what_is_not_there_yet_or_no_more_is_said() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    let running = tester.submit_prompt("slow 60").await;
    let early = tester.get(&format!("/jobs/{running}/download")).await;
    assert_eq!(early.code(409), "not_completed");
    tester.delete(&format!("/jobs/{running}")).await;
    let id = tester.submit(json!({"prompt": "a"})).await;
    tester.finished(&id).await;
    std::fs::remove_file(service.folder.path().join("outputs").join(format!("{id}.mp4"))).unwrap();
    assert_eq!(tester.get(&format!("/jobs/{id}/download")).await.code(410), "output_missing");
}
