//! Pictures of a request: from the addresses that were sent to the bytes of their files.

use std::sync::LazyLock;

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
        files.push(match address(&source.url) {
            Address::Data(data) => decode(data, &source.field)?,
            Address::Web if urls == ImageUrls::Fetch => fetched(source).await?,
            Address::Web => {
                let detail = "pictures are not fetched here: send the file as data:image/png;base64,…";
                return Err(Problem::field(&source.field, detail));
            }
            Address::Other => {
                let detail = "send the picture as data:image/png;base64,… (PNG, JPEG or WebP)";
                return Err(Problem::field(&source.field, detail));
            }
        });
    }
    Ok(files)
}

async fn fetched(source: &PictureSource) -> Result<Vec<u8>, Problem> {
    // One for the process: its limit of fetches at once holds for all requests.
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

enum Address<'a> {
    /// What follows `data:`.
    Data(&'a str),
    Web,
    Other,
}

fn address(url: &str) -> Address<'_> {
    let begins =
        |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if begins("data:") {
        Address::Data(&url["data:".len()..])
    } else if begins("https://") || begins("http://") {
        Address::Web
    } else {
        Address::Other
    }
}

/// The bytes of `image/png;base64,iVBOR…`. What they are, they say themselves.
fn decode(data: &str, field: &str) -> Result<Vec<u8>, Problem> {
    let wrong = |detail: &str| Problem::field(field, detail);
    let (kind, text) = data.split_once(',').ok_or_else(|| wrong("a data URI has a comma before its data"))?;
    if !kind.trim_end().to_ascii_lowercase().ends_with(";base64") {
        return Err(wrong("send the picture's bytes as base64: data:image/png;base64,…"));
    }
    if text.len() / 4 * 3 > MAX_PICTURE_BYTES + 3 {
        let detail = format!("a picture has at most {MAX_PICTURE_BYTES} bytes");
        return Err(wrong(&detail).with_limit(MAX_PICTURE_BYTES));
    }
    let text = text.trim_end_matches('=');
    let bytes = general_purpose::STANDARD_NO_PAD
        .decode(text)
        .or_else(|_| general_purpose::URL_SAFE_NO_PAD.decode(text))
        .map_err(|error| wrong(&format!("that is no base64: {error}")))?;
    if bytes.is_empty() {
        return Err(wrong("the picture has no bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn data_is_taken_and_all_else_is_named() {
        let one = |url: &str| [PictureSource { url: url.to_owned(), field: "f".to_owned() }];
        for url in [
            "data:image/png;base64,AQID",
            "DATA:;base64,AQID",
            "data:image/png;charset=x;base64,AQID",
            "data:image/webp;base64,AQI=",
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
