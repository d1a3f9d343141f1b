//! Download of the finished file: ranges, conditional requests, and little memory whatever the size.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{
        StatusCode,
        header::{self, EntityTag},
    },
    web,
};
use futures::{Stream, stream};
use videosdgx_api::{Code, JobStatus, Problem};
use videosdgx_jobs::{JobOutput, JobRecord};
use videosdgx_shell::{Caller, Failure, HandlerResult, Query, Read, run_blocking};

use crate::{
    job_path::JobPath,
    output_file::{FileKind, OutputFile},
    outputs::Outputs,
    problem_response::queue_failure,
    range::{Selection, select},
    service::Service,
};

/// Bytes read at a time.
const CHUNK: usize = 128 * 1024;

/// Download the video, or pictures of it
///
/// `variant=thumbnail` is a WebP picture of the middle frame, `variant=spritesheet` a JPEG picture of up to 25 small frames in rows of
/// five. Supports one byte range. The ETag never changes, so `If-Range` and `If-None-Match` work.
#[utoipa::path(method(get, head), path = "/jobs/{id}/download", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("variant" = Option<String>, Query, pattern = "^(video|thumbnail|spritesheet)$",
            description = "`video` (default): the file; `thumbnail`, `spritesheet`"),
        ("Range" = Option<String>, Header, description = "For example `bytes=0-1023` or `bytes=-500`"),
        ("If-Range" = Option<String>, Header, description = "Send the whole file when it is not this ETag"),
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 when it is this ETag")),
    responses(
        (status = 200, description = "The whole file", headers(("etag" = String), ("accept-ranges" = String), ("content-disposition" = String)),
            content((Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/jpeg"))),
        (status = 206, description = "The requested range", headers(("etag" = String), ("content-range" = String)),
            content((Vec<u8> = "video/mp4"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/jpeg"))),
        (status = 304, description = "The client has it already")))]
pub(crate) async fn download(
    caller: Caller<Read>,
    id: JobPath,
    request: HttpRequest,
    service: web::Data<Service>,
) -> HandlerResult {
    let variant = Variant::read(&Query::of(&request, &["variant"])?)?;
    let record = service.queue.get(&caller.principal, &id.0).await.map_err(queue_failure)?;
    let output = finished(record)?;
    let wanted = variant.file(&output.path)?;
    let name = wanted.name();
    let (file, length) = {
        let (service, name) = (Arc::clone(&service), name.clone());
        run_blocking(move || open(&service.outputs, &name, variant)).await??
    };
    // Results never change under their name.
    let tag = EntityTag::new_strong(format!("{}-{length:x}", name.trim_end_matches(".mp4")));
    if has_it_already(&request, &tag) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, tag.to_string())).finish());
    }
    let range = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, first, taken) = match select(range.filter(|_| range_still_holds(&request, &tag)), length) {
        Selection::Whole => (StatusCode::OK, 0, length),
        Selection::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Selection::Unsatisfiable => return Ok(unsatisfiable(length)),
    };
    let mut response = HttpResponse::build(status);
    response
        .content_type(wanted.kind.media_type())
        .insert_header((header::ETAG, tag.to_string()))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    if status == StatusCode::PARTIAL_CONTENT {
        let last = first + taken - 1;
        response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}")));
    }
    Ok(response.body(SizedStream::new(taken, read(file, first, taken))))
}

fn finished(record: JobRecord) -> HandlerResult<JobOutput> {
    match (record.status, record.output) {
        (JobStatus::Completed, Some(output)) => Ok(output),
        (status, _) => {
            let detail = if status.is_terminal() {
                format!("the job is {}: there will be no video", status.as_str())
            } else {
                format!("the job is {}: the video is not there yet", status.as_str())
            };
            Err(Failure::new(Code::NotCompleted, detail))
        }
    }
}

/// Which file of a job is wanted.
#[derive(Debug, Clone, Copy)]
enum Variant {
    Video,
    Preview(FileKind),
}

impl Variant {
    fn read(query: &Query) -> HandlerResult<Self> {
        match query.get("variant") {
            None | Some("video") => Ok(Self::Video),
            Some("thumbnail") => Ok(Self::Preview(FileKind::Thumbnail)),
            Some("spritesheet") => Ok(Self::Preview(FileKind::Spritesheet)),
            Some(_) => Err(Failure(Problem::field("variant", "variant is video, thumbnail or spritesheet"))),
        }
    }

    /// The file of the result named `result`.
    fn file(self, result: &str) -> HandlerResult<OutputFile> {
        let result = OutputFile::parse(result)
            .ok_or_else(|| Failure::internal(format!("{result} is no name of a result")))?;
        Ok(match self {
            Self::Video => result,
            Self::Preview(kind) => OutputFile { kind, ..result },
        })
    }
}

fn open(outputs: &Outputs, name: &str, variant: Variant) -> HandlerResult<(File, u64)> {
    let gone = || {
        let detail = match variant {
            Variant::Video => "the video has been removed from the disk",
            Variant::Preview(_) => {
                "the video has no such picture: it was removed from the disk, or never made"
            }
        };
        Failure::new(Code::OutputMissing, detail)
    };
    let path = outputs.path(name).ok_or_else(gone)?;
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
        Err(error) => return Err(Failure::internal(format!("{}: {error}", path.display()))),
    };
    let length = file.metadata().map_err(Failure::internal)?.len();
    Ok((file, length))
}

fn has_it_already(request: &HttpRequest, tag: &EntityTag) -> bool {
    let mut values = request.headers().get_all(header::IF_NONE_MATCH);
    values.any(|value| {
        value.to_str().is_ok_and(|value| {
            value.trim() == "*"
                || value
                    .split(',')
                    .filter_map(|one| one.trim().parse::<EntityTag>().ok())
                    .any(|one| one.weak_eq(tag))
        })
    })
}

/// Whether `If-Range` (a strong ETag; dates are never sent, so none can match) is absent or still true.
fn range_still_holds(request: &HttpRequest, tag: &EntityTag) -> bool {
    let Some(value) = request.headers().get(header::IF_RANGE) else { return true };
    value
        .to_str()
        .ok()
        .and_then(|value| value.parse::<EntityTag>().ok())
        .is_some_and(|given| given.strong_eq(tag))
}

fn unsatisfiable(length: u64) -> HttpResponse {
    let problem =
        Problem::new(Code::RangeNotSatisfiable, format!("the video has {length} bytes")).with_limit(length);
    let mut response = HttpResponse::from_error(Failure(problem));
    if let Ok(value) = header::HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// `taken` bytes from `first` on, a chunk at a time: memory does not grow with the file.
fn read(file: File, first: u64, taken: u64) -> impl Stream<Item = io::Result<web::Bytes>> {
    let file = Arc::new(file);
    stream::unfold((first, taken), move |(at, left)| {
        let file = Arc::clone(&file);
        async move {
            if left == 0 {
                return None;
            }
            let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = web::block(move || {
                let mut chunk = vec![0; size];
                file.read_exact_at(&mut chunk, at).map(|()| chunk)
            });
            let chunk = match read.await {
                Ok(chunk) => chunk,
                Err(_) => Err(io::Error::other("the service is shutting down")),
            };
            // After an error the connection is closed, so that an incomplete response cannot be mistaken for
            // a complete one.
            let left = if chunk.is_ok() { left - size as u64 } else { 0 };
            Some((chunk.map(web::Bytes::from), (at + size as u64, left)))
        }
    })
}
