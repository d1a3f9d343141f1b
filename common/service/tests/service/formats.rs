//! Files of every format from submission to removal, and the pictures of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestService, files_of, quick};

#[path = "../../../../tests/fixtures/formats.rs"]
mod contract;

#[test]
fn the_fake_engine_makes_every_format_and_refuses_the_rest() {
    let request = json!({"prompt": "a", "resolution": "32x32", "seed": 1});
    contract::makes_every_format(&quick(), &request);
    contract::refuses_by_name(&quick(), &request);
}

#[actix_web::test]
async fn each_format_has_its_name_media_type_and_previews() {
    let service = TestService::start(quick()).await;
    let tester = service.tester();
    for (format, extension, media_type, at, magic) in [
        ("h264", "mp4", "video/mp4", 4, b"ftyp".as_slice()),
        ("av1", "mp4", "video/mp4", 4, b"ftyp"),
        ("png", "png", "image/png", 0, b"\x89PNG"),
        ("webp", "webp", "image/webp", 8, b"WEBP"),
    ] {
        let id = tester.submit(json!({"prompt": "a", "format": format})).await;
        let job = tester.finished(&id).await;
        let name = format!("{id}.{extension}");
        assert_eq!((&job["status"], &job["output_path"]), (&json!("completed"), &json!(name)), "{job}");
        assert_eq!(service.outputs(), files_of(&[&name]));
        let path = format!("/jobs/{id}/download");
        let mut tags = Vec::new();
        for (query, file, media_type, at, magic) in [
            ("", name.clone(), media_type, at, magic),
            ("?variant=video", name.clone(), media_type, at, magic),
            ("?variant=thumbnail", format!("{id}.thumbnail.webp"), "image/webp", 8, b"WEBP"),
            ("?variant=spritesheet", format!("{id}.spritesheet.jpg"), "image/jpeg", 0, b"\xff\xd8\xff"),
        ] {
            let path = format!("{path}{query}");
            let whole = tester.get(&path).await;
            assert_eq!((whole.status, whole.header("content-type")), (200, media_type), "{path}");
            assert_eq!(whole.header("content-disposition"), format!("attachment; filename=\"{file}\""));
            assert_eq!(&whole.body[at..at + magic.len()], magic, "{path}");
            let part = tester.send(tester.request(Method::GET, &path).header("range", "bytes=1-2")).await;
            assert_eq!((part.status, part.body.as_ref()), (206, &whole.body[1..3]), "{path}");
            tags.push(whole.header("etag").to_owned());
        }
        tags.dedup();
        assert_eq!(tags.len(), 3, "files have ETags of their own: {tags:?}");
        let other = tester.get(&format!("{path}?variant=poster")).await;
        assert_eq!((other.code(400), &other.json()["field"]), ("invalid_field".into(), &json!("variant")));
        // A video that an earlier version made has no pictures.
        let outputs = service.folder.path().join("outputs");
        std::fs::remove_file(outputs.join(format!("{id}.thumbnail.webp"))).unwrap();
        assert_eq!(tester.get(&format!("{path}?variant=thumbnail")).await.code(410), "output_missing");
        let forgotten: Value = tester.delete(&format!("/jobs/{id}?forget=true")).await.expect(200);
        assert_eq!(forgotten["status"], "completed");
        assert!(service.outputs().is_empty(), "{:?}", service.outputs());
    }
}
