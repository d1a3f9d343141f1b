//! Files inside a request: base64 or a data URI, bounded before they are decoded.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use videosdgx_api::Problem;

/// One kind of file that a request can contain.
pub(crate) struct Attachment {
    /// Name of the field.
    pub(crate) field: &'static str,
    /// What the file is, for messages.
    pub(crate) what: &'static str,
    /// How the media types of its data URIs begin.
    pub(crate) media_types: &'static [&'static str],
    /// How a data URI is written.
    pub(crate) example: &'static str,
    /// Maximum size of the file in bytes.
    pub(crate) max_bytes: usize,
}

impl Attachment {
    /// The file in plain base64, and its bytes.
    ///
    /// # Errors
    /// A problem of the field when `text` is not base64 or a data URI of the right kind; `too_large` when the file exceeds the
    /// size.
    pub(crate) fn read<'a>(
        &self,
        text: &'a str,
        too_large: impl FnOnce() -> Problem,
    ) -> Result<(Cow<'a, str>, Vec<u8>), Problem> {
        let encoded = self.plain_base64(text)?;
        if encoded.len() > self.max_bytes.div_ceil(3) * 4 {
            return Err(too_large());
        }
        let bytes = STANDARD.decode(encoded.as_bytes()).map_err(|_| {
            Problem::field(self.field, format!("the {} is no base64; send base64 or a data URI", self.what))
        })?;
        Ok((encoded, bytes))
    }

    /// Without `data:…;base64,` and the line breaks that many encoders write.
    fn plain_base64<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, Problem> {
        let is_wanted =
            |kind: &str| kind.len() < 64 && self.media_types.iter().any(|wanted| kind.starts_with(wanted));
        let encoded = match text.strip_prefix("data:") {
            None => text,
            Some(rest) => rest
                .split_once(";base64,")
                .filter(|(kind, _)| is_wanted(kind))
                .map(|(_, encoded)| encoded)
                .ok_or_else(|| {
                    Problem::field(self.field, format!("a data URI is spelled {}", self.example))
                })?,
        };
        let broken = encoded.contains(['\r', '\n']);
        Ok(if broken { encoded.replace(['\r', '\n'], "").into() } else { encoded.into() })
    }
}
