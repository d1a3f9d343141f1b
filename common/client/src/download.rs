use std::path::{Path, PathBuf};

use reqwest::{Method, Response, StatusCode, header};
use tokio::{fs, io::AsyncWriteExt};
use videosdgx_api::JobId;

use crate::{Client, ClientError, client::job_path};

/// Failed connections in a row, without a new byte, before a download fails.
const ATTEMPTS: u32 = 5;

impl Client {
    /// Downloads the video of a completed job into the file `target` and returns its size in bytes.
    ///
    /// The bytes are written to a temporary file in the same folder (`.<name>.<job>.part`), which a later call resumes by
    /// `Range`; the complete file is synced and renamed. `on_progress` receives the bytes written and, if known, the total.
    ///
    /// # Errors
    /// 409 `not_completed` before the job is completed; see [`ClientError`].
    pub async fn download(
        &self,
        id: &JobId,
        target: &Path,
        mut on_progress: impl FnMut(u64, Option<u64>),
    ) -> Result<u64, ClientError> {
        let part = part_path(id, target);
        let mut etag = None;
        let mut failures = 0;
        let size = loop {
            let before = length(&part).await;
            match self.fetch_rest(id, &part, &mut etag, &mut on_progress).await {
                Ok(size) => break size,
                Err(error @ ClientError::Broken { .. }) => {
                    failures = if length(&part).await > before { 0 } else { failures + 1 };
                    if failures == ATTEMPTS {
                        return Err(error);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(200 << failures)).await;
                }
                Err(error) => return Err(error),
            }
        };
        fs::rename(&part, target).await.map_err(ClientError::file("write", target))?;
        Ok(size)
    }

    async fn fetch_rest(
        &self,
        id: &JobId,
        part: &Path,
        etag: &mut Option<header::HeaderValue>,
        on_progress: &mut impl FnMut(u64, Option<u64>),
    ) -> Result<u64, ClientError> {
        let have = length(part).await;
        let mut request = self.request(Method::GET, &job_path(id, &["download"]))?;
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
            if let Some(etag) = etag.as_ref() {
                request = request.header(header::IF_RANGE, etag.clone());
            }
        }
        let mut response = match self.send(request).await {
            // The file is complete already, or not a part of the video.
            Err(error) if have > 0 && error.status() == Some(416) => {
                let file = fs::File::create(part).await.map_err(ClientError::file("write", part))?;
                drop(file);
                self.send(self.request(Method::GET, &job_path(id, &["download"]))?).await?
            }
            outcome => outcome?,
        };
        *etag = response.headers().get(header::ETAG).cloned();
        let (start, total) = extent(&response, have)?;
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(part)
            .await
            .map_err(ClientError::file("write", part))?;
        let write = |error| ClientError::file("write", part)(error);
        file.set_len(start).await.map_err(write)?;
        tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::End(0)).await.map_err(write)?;
        let mut done = start;
        on_progress(done, total);
        let outcome = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    file.write_all(&chunk).await.map_err(write)?;
                    done += chunk.len() as u64;
                    on_progress(done, total);
                }
                Ok(None) => break Ok(done),
                Err(error) => break Err(ClientError::transport(error)),
            }
        };
        // Bytes received before a failure are kept for the next attempt.
        file.flush().await.map_err(write)?;
        file.sync_all().await.map_err(write)?;
        let done = outcome?;
        if total.is_some_and(|total| total != done) {
            return Err(ClientError::unreadable(format!(
                "it has {done} bytes instead of {}",
                total.unwrap_or(0)
            )));
        }
        Ok(done)
    }
}

/// Offset of the first byte of the response and total size.
fn extent(response: &Response, requested_start: u64) -> Result<(u64, Option<u64>), ClientError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok((0, response.content_length()));
    }
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    parse_content_range(range.unwrap_or_default())
        .filter(|(start, _)| *start == requested_start)
        .ok_or_else(|| ClientError::unreadable("its Content-Range is not the requested range"))
}

/// `bytes 100-199/200` → first byte and size.
pub(crate) fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}

fn part_path(id: &JobId, target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{id}.part"))
}

async fn length(path: &Path) -> u64 {
    fs::metadata(path).await.map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for bad in
            ["", "bytes", "bytes 9-5/10", "bytes 5-10/10", "bytes */10", "octets 5-9/10", "bytes -5-9/10"]
        {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_partial_file_is_in_the_folder_of_its_target() {
        let id: JobId = "wan21-0k3f9a7c21xz".parse().unwrap();
        let part = part_path(&id, Path::new("out/demo.mp4"));
        assert_eq!(part, Path::new("out/.demo.mp4.wan21-0k3f9a7c21xz.part"));
    }
}
