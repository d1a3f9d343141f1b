use std::{
    io::Read,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::Context;
use reqwest::{Response, StatusCode, header};
use tokio::{
    fs,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::{Hub, PullError, RemoteFile};
use crate::{ClientError, download::parse_content_range};

/// Downloads one file to `target`: first to `<target>.partial`, which is resumed if it exists and renamed when the checksum
/// is verified. `on_bytes` receives the number of bytes on disk.
pub(super) async fn fetch(
    hub: &Hub,
    file: &RemoteFile,
    target: &Path,
    on_bytes: &(dyn Fn(u64) + Sync),
) -> Result<(), PullError> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).await.map_err(PullError::file("create", parent))?;
    }
    let partial = partial_path(target);
    let mut fresh = false;
    loop {
        let context = complete(hub, file, &partial, on_bytes).await?;
        if file.digest.is_of(context) {
            break;
        }
        // The partial file may be from another revision: restart once.
        fs::remove_file(&partial).await.map_err(PullError::file("remove", &partial))?;
        on_bytes(0);
        if fresh {
            return Err(PullError::Checksum { path: file.path.clone(), expected: file.digest });
        }
        fresh = true;
    }
    fs::rename(&partial, target).await.map_err(PullError::file("write", target))
}

/// Whether the file exists with its final name and size; it got that name after its checksum was verified. With `verify`
/// the checksum is computed again.
pub(super) async fn is_complete(file: &RemoteFile, target: &Path, verify: bool) -> Result<bool, PullError> {
    let Ok(metadata) = fs::symlink_metadata(target).await else { return Ok(false) };
    if !metadata.is_file() || metadata.len() != file.size {
        return Ok(false);
    }
    if !verify {
        return Ok(true);
    }
    Ok(file.digest.is_of(hash_existing(file, target.to_owned()).await?))
}

pub(super) fn partial_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Completes the partial file and returns the hash of the whole.
async fn complete(
    hub: &Hub,
    file: &RemoteFile,
    partial: &Path,
    on_bytes: &(dyn Fn(u64) + Sync),
) -> Result<Context, PullError> {
    let have = fs::metadata(partial).await.map_or(0, |metadata| metadata.len());
    if have == file.size && have > 0 {
        on_bytes(have);
        return hash_existing(file, partial.to_owned()).await;
    }
    let have = if have > file.size { 0 } else { have };
    let response = hub.open(file, have).await?;
    let start = start_of(&response, file, have)?;
    let mut context =
        if start > 0 { hash_existing(file, partial.to_owned()).await? } else { file.digest.begin(file.size) };

    let write = |error| PullError::file("write", partial)(error);
    let mut out =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(partial).await.map_err(write)?;
    out.set_len(start).await.map_err(write)?;
    out.seek(std::io::SeekFrom::End(0)).await.map_err(write)?;
    let outcome = copy(response, file, &mut out, &mut context, start, partial, on_bytes).await;
    // Bytes received before a failure are kept for the next attempt.
    out.flush().await.map_err(write)?;
    out.sync_all().await.map_err(write)?;
    outcome.map(|()| context)
}

async fn copy(
    mut response: Response,
    file: &RemoteFile,
    out: &mut fs::File,
    context: &mut Context,
    start: u64,
    partial: &Path,
    on_bytes: &(dyn Fn(u64) + Sync),
) -> Result<(), PullError> {
    let size = |got| PullError::Size { path: file.path.clone(), expected: file.size, got };
    let mut done = start;
    on_bytes(done);
    while let Some(chunk) = response.chunk().await.map_err(ClientError::transport)? {
        done += chunk.len() as u64;
        if done > file.size {
            return Err(size(done));
        }
        out.write_all(&chunk).await.map_err(PullError::file("write", partial))?;
        context.update(&chunk);
        on_bytes(done);
    }
    if done == file.size { Ok(()) } else { Err(size(done)) }
}

/// Offset of the response's first byte: `asked`, or 0 if the server sends the whole file.
fn start_of(response: &Response, file: &RemoteFile, asked: u64) -> Result<u64, PullError> {
    let size = |got| PullError::Size { path: file.path.clone(), expected: file.size, got };
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
            match parse_content_range(range.unwrap_or_default()) {
                Some((start, total)) if start == asked => match total {
                    Some(total) if total != file.size => Err(size(total)),
                    _ => Ok(start),
                },
                _ => Err(size(0)),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Err(size(asked)),
        _ => match response.content_length() {
            Some(length) if length != file.size => Err(size(length)),
            _ => Ok(0),
        },
    }
}

async fn hash_existing(file: &RemoteFile, path: PathBuf) -> Result<Context, PullError> {
    let mut context = file.digest.begin(file.size);
    let name = path.clone();
    let hashing = tokio::task::spawn_blocking(move || -> std::io::Result<Context> {
        let mut input = std::fs::File::open(path)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(context),
                read => context.update(&buffer[..read]),
            }
        }
    });
    let hashed = hashing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    hashed.map_err(PullError::file("read", &name))
}
