//! The picture files of a request, from `data:` URIs or fetched.

use std::{borrow::Cow, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose};
use videosdgx_api::Problem;

use crate::{
    conversation::PictureSource,
    fetch::{FetchError, FetchLimits, ImageFetcher},
    limits::MAX_PICTURE_BYTES,
    settings::ImageUrls,
};

/// The file of each picture, in order.
pub(crate) async fn files(sources: &[PictureSource], urls: ImageUrls) -> Result<Vec<Vec<u8>>, Problem> {
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        files.push(match classify(&source.url) {
            PictureUrl::Data(data) => decode(data, &source.field)?,
            PictureUrl::Web if urls == ImageUrls::Fetch => fetch(source).await?,
            PictureUrl::Web => {
                let detail = "this service does not fetch pictures: send the file as data:image/png;base64,…";
                return Err(Problem::field(&source.field, detail));
            }
            PictureUrl::Other => {
                let detail = "send the picture as data:image/png;base64,… (PNG, JPEG or WebP)";
                return Err(Problem::field(&source.field, detail));
            }
        });
    }
    Ok(files)
}

async fn fetch(source: &PictureSource) -> Result<Vec<u8>, Problem> {
    // One for the process, because its limit of concurrent fetches applies to all requests.
    static FETCHER: LazyLock<Result<ImageFetcher, FetchError>> =
        LazyLock::new(|| ImageFetcher::new(FetchLimits::default()));
    let fetched = match &*FETCHER {
        Ok(fetcher) => fetcher.fetch(&source.url).await,
        Err(error) => Err(error.clone()),
    };
    fetched.map_err(|error| {
        let problem = Problem::field(&source.field, error.to_string());
        match error {
            FetchError::TooLarge(limit) => problem.with_limit(limit),
            _ => problem,
        }
    })
}

enum PictureUrl<'a> {
    /// A data URI, without `data:`.
    Data(&'a str),
    Web,
    Other,
}

fn classify(url: &str) -> PictureUrl<'_> {
    let has_scheme =
        |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if has_scheme("data:") {
        PictureUrl::Data(&url["data:".len()..])
    } else if has_scheme("https://") || has_scheme("http://") {
        PictureUrl::Web
    } else {
        PictureUrl::Other
    }
}

/// The bytes of `image/png;base64,iVBOR…`. The media type is ignored: the format is detected from the bytes.
fn decode(data: &str, field: &str) -> Result<Vec<u8>, Problem> {
    let problem = |detail: &str| Problem::field(field, detail);
    let (kind, text) =
        data.split_once(',').ok_or_else(|| problem("the data URI has no comma before its data"))?;
    if !kind.trim_end().to_ascii_lowercase().ends_with(";base64") {
        return Err(problem("send the picture's bytes as base64: data:image/png;base64,…"));
    }
    let text: Cow<'_, str> =
        if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() };
    if text.len() / 4 * 3 > MAX_PICTURE_BYTES + 3 {
        let detail = format!("a picture may have at most {MAX_PICTURE_BYTES} bytes");
        return Err(problem(&detail).with_limit(MAX_PICTURE_BYTES));
    }
    let text = text.trim_end_matches('=');
    let bytes = general_purpose::STANDARD_NO_PAD
        .decode(text)
        .or_else(|_| general_purpose::URL_SAFE_NO_PAD.decode(text))
        .map_err(|error| problem(&format!("the picture is not valid base64: {error}")))?;
    if bytes.is_empty() {
        return Err(problem("the picture is empty"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_data_uris_are_accepted_by_default() {
        let one = |url: &str| [PictureSource { url: url.to_owned(), field: "f".to_owned() }];
        for url in [
            "data:image/png;base64,AQID",
            "DATA:;base64,AQID",
            "data:image/png;charset=x;base64,AQID",
            "data:image/webp;base64,AQI=",
            "data:image/png;base64,\r\nAQ\r\nID\n",
            "data:image/png;base64,AQI=\n",
        ] {
            assert_eq!(files(&one(url), ImageUrls::Refuse).await.unwrap()[0][..2], [1, 2], "{url}");
        }
        for url in [
            "",
            "x",
            "data:",
            "data:image/png,abc",
            "data:image/png;base64,",
            "data:image/png;base64,!!!",
            "https://example.org/a.png",
            "http://127.0.0.1/",
            "file:///etc/passwd",
        ] {
            let problem = files(&one(url), ImageUrls::Refuse).await.unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some("f")), "{url}");
        }
        for url in [
            "https://127.0.0.1/a.png",
            "https://[::ffff:10.0.0.1]/a.png",
            "https://localhost/a.png",
            "http://1.1.1.1/",
        ] {
            let problem = files(&one(url), ImageUrls::Fetch).await.unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some("f")), "{url}");
        }
        let long = format!("data:image/png;base64,{}", "A".repeat(28 << 20));
        assert_eq!(
            files(&one(&long), ImageUrls::Refuse).await.unwrap_err().limit,
            Some(MAX_PICTURE_BYTES.into())
        );
    }
}
