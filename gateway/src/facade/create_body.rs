//! The body of `POST /v1/videos`: JSON, or the form that OpenAI's client sends, in which every value is text.

use axum::extract::{FromRequest, Multipart, Request};
use base64::Engine as _;
use http::header::CONTENT_TYPE;
use mime::Mime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use videosdgx_api::{Code, GenerateRequest, OutputFormat, Priority, Resolution, SchedulerName, media_type};

use crate::failure::Failure;

/// Largest reference picture in bytes.
const MAX_IMAGE_BYTES: usize = 10 * 1024 * 1024;
/// Largest other part of a form in bytes.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// A video to generate. Only `prompt` is required; other fields have the checkpoint's defaults. `negative_prompt` and the
/// fields after it are additions to OpenAI's API; OpenAI's client sends them as `extra_body`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "the schema of the JSON body; it is read field by field so that errors name the field"
)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateVideo {
    /// What the video shows, 1 to 1000 characters.
    #[schema(min_length = 1, max_length = 1000, example = "a red circle moving right on a black background")]
    prompt: String,
    /// One of `GET /v1/models`; required when there are several video models.
    #[schema(nullable = false)]
    model: Option<String>,
    /// Length in seconds, as text or number; at most 60.
    #[schema(value_type = Option<String>, example = "2", nullable = false, pattern = "^[0-9]+(\\.[0-9]+)?$")]
    seconds: Option<String>,
    /// Width and height in pixels.
    #[schema(example = "64x64", nullable = false, pattern = "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")]
    size: Option<String>,
    /// First frame for image-to-video checkpoints.
    #[schema(nullable = false)]
    input_reference: Option<ImageReference>,
    /// What the video should not show.
    #[schema(max_length = 1000, nullable = false)]
    negative_prompt: Option<String>,
    /// Frames per second.
    #[schema(minimum = 1, maximum = 60, nullable = false)]
    fps: Option<u32>,
    /// Number of frames, 4k+1. Not together with `seconds`.
    #[schema(minimum = 1, nullable = false)]
    num_frames: Option<u32>,
    /// Denoising steps.
    #[schema(minimum = 1, maximum = 200, nullable = false)]
    steps: Option<u32>,
    /// Classifier-free guidance.
    #[schema(minimum = 1.0, maximum = 20.0, nullable = false)]
    guidance_scale: Option<f64>,
    /// Seed of the random numbers. The same seed and settings give the same video.
    #[schema(minimum = 0, nullable = false)]
    seed: Option<u64>,
    /// Priority in the queue, 0 to 9; higher runs earlier.
    #[schema(value_type = Option<u8>, minimum = 0, maximum = 9, nullable = false)]
    priority: Option<Priority>,
    /// Codec inside the MP4.
    #[schema(nullable = false)]
    format: Option<OutputFormat>,
    /// Scheduler of the denoising steps.
    #[schema(nullable = false)]
    scheduler: Option<SchedulerName>,
}

/// The same as a form: every value is text, the image is a file.
#[derive(Debug, Clone, ToSchema)]
#[expect(dead_code, reason = "the schema of the form; it is read field by field")]
pub(crate) struct CreateVideoForm {
    /// What the video shows, 1 to 1000 characters.
    #[schema(min_length = 1, max_length = 1000)]
    prompt: String,
    /// One of `GET /v1/models`; required when there are several video models.
    #[schema(nullable = false)]
    model: Option<String>,
    /// Length in seconds.
    #[schema(nullable = false)]
    seconds: Option<String>,
    /// `WIDTHxHEIGHT`.
    #[schema(nullable = false)]
    size: Option<String>,
    /// First frame: a PNG, JPEG or WebP file of at most 10 MiB.
    #[schema(format = Binary, content_media_type = "application/octet-stream", nullable = false)]
    input_reference: Option<String>,
}

/// An image in the request itself.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageReference {
    /// A base64 `data:` URL of a PNG, JPEG or WebP, at most 10 MiB. Other URLs are not fetched.
    #[schema(pattern = "^data:image/(png|jpeg|webp);base64,")]
    image_url: String,
}

/// A video request in the services' own terms.
pub(crate) struct VideoRequest {
    pub(crate) model: Option<String>,
    pub(crate) request: GenerateRequest,
}

impl VideoRequest {
    /// Reads JSON or a form, by the content type.
    pub(crate) async fn read(request: Request) -> Result<Self, Failure> {
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| media_type(value.to_str().ok()?));
        match content_type.as_ref().map(Mime::essence_str) {
            Some("application/json") => Fields::from_json(request).await?.into_request(),
            Some("multipart/form-data") => Fields::from_form(request).await?.into_request(),
            _ => {
                Err(Failure::new(Code::UnsupportedMediaType, "send application/json or multipart/form-data"))
            }
        }
    }
}

/// The fields of a body that have not been read yet.
struct Fields {
    values: Map<String, Value>,
    /// Whether the body is a form, in which numbers are text.
    is_form: bool,
    /// The image of a form, base64 or a data URL.
    image: Option<String>,
}

impl Fields {
    async fn from_json(request: Request) -> Result<Self, Failure> {
        let bytes = axum::body::Bytes::from_request(request, &()).await.map_err(|_| unreadable())?;
        let values = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Code::InvalidBody, format!("the body is not a JSON object: {error}"))
        })?;
        Ok(Self { values, is_form: false, image: None })
    }

    async fn from_form(request: Request) -> Result<Self, Failure> {
        let bad_form = |_| unreadable();
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|_| Failure::new(Code::InvalidBody, "the form has no boundary"))?;
        let mut fields = Self { values: Map::new(), is_form: true, image: None };
        while let Some(mut part) = form.next_field().await.map_err(bad_form)? {
            let name = part.name().unwrap_or("").to_owned();
            let is_image = name == "input_reference";
            let max = if is_image { MAX_IMAGE_BYTES } else { MAX_FIELD_BYTES };
            let mut bytes = Vec::new();
            while let Some(chunk) = part.chunk().await.map_err(bad_form)? {
                if bytes.len() + chunk.len() > max {
                    let detail = format!("{} is larger than {max} bytes", shown(&name));
                    return Err(Failure::field(&shown(&name), detail).map(|p| p.limit = Some(max.into())));
                }
                bytes.extend_from_slice(&chunk);
            }
            if is_image {
                fields.image = Some(base64::engine::general_purpose::STANDARD.encode(&bytes));
                continue;
            }
            let text = String::from_utf8(bytes)
                .map_err(|_| Failure::field(&shown(&name), format!("{} is not text", shown(&name))))?;
            // OpenAI's client flattens an object: `input_reference[image_url]`.
            if name == "input_reference[image_url]" {
                fields.image = Some(data_url(text)?);
            } else if fields.values.insert(name.clone(), Value::String(text)).is_some() {
                return Err(Failure::field(&shown(&name), format!("{} is given twice", shown(&name))));
            }
        }
        Ok(fields)
    }

    fn into_request(mut self) -> Result<VideoRequest, Failure> {
        let prompt = self.take("prompt")?.ok_or_else(|| Failure::field("prompt", "prompt is missing"))?;
        let size: Option<String> = self.take("size")?;
        let resolution = size
            .map(|size| size.parse::<Resolution>().map_err(|reason| Failure::field("size", reason)))
            .transpose()?;
        let image = match (self.image.take(), self.take::<ImageReference>("input_reference")?) {
            (Some(image), _) => Some(image),
            (None, Some(reference)) => Some(data_url(reference.image_url)?),
            (None, None) => None,
        };
        let request = GenerateRequest {
            prompt,
            resolution,
            image,
            duration: self.seconds()?,
            negative_prompt: self.take("negative_prompt")?,
            fps: self.take_number("fps")?,
            num_frames: self.take_number("num_frames")?,
            steps: self.take_number("steps")?,
            guidance_scale: self.take_number("guidance_scale")?,
            seed: self.take_number("seed")?,
            priority: self.take_number("priority")?,
            format: self.take("format")?,
            scheduler: self.take("scheduler")?,
        };
        let model = self.take("model")?;
        if let Some(unknown) = self.values.keys().next() {
            let name = shown(unknown);
            return Err(Failure::field(&name, format!("unknown field `{name}`")));
        }
        Ok(VideoRequest { model, request })
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        match self.values.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Failure::field(name, format!("{name}: {error}"))),
        }
    }

    fn take_number<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        if self.is_form
            && let Some(value) = self.values.get_mut(name)
            && let Some(number) = value.as_str().and_then(|text| text.parse::<serde_json::Number>().ok())
        {
            *value = Value::Number(number);
        }
        self.take(name)
    }

    /// `seconds`: text, as in OpenAI's API, or a number.
    fn seconds(&mut self) -> Result<Option<f64>, Failure> {
        let wrong = || Failure::field("seconds", "seconds is a number above 0");
        let seconds = match self.values.remove("seconds") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse::<f64>().map_err(|_| wrong())?,
            Some(Value::Number(number)) => number.as_f64().ok_or_else(wrong)?,
            Some(_) => return Err(wrong()),
        };
        if seconds.is_finite() && seconds > 0.0 { Ok(Some(seconds)) } else { Err(wrong()) }
    }
}

/// Accepts only data URLs: the gateway fetches no images.
fn data_url(url: String) -> Result<String, Failure> {
    let is_image = url.split_once(";base64,").is_some_and(|(head, _)| head.starts_with("data:image/"));
    if is_image {
        Ok(url)
    } else {
        let detail = "input_reference is a file or a base64 data:image/… URL; other URLs are not fetched";
        Err(Failure::field("input_reference", detail))
    }
}

/// A field name from a request, shortened for an error message.
fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

fn unreadable() -> Failure {
    Failure::new(Code::InvalidBody, "the body ended early or is not a valid form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use serde_json::json;

    async fn read(content_type: &str, body: impl Into<Body>) -> Result<VideoRequest, Failure> {
        let request = Request::builder().header(CONTENT_TYPE, content_type).body(body.into()).unwrap();
        VideoRequest::read(request).await
    }

    async fn read_json(body: Value) -> Result<VideoRequest, Failure> {
        read("application/json; charset=utf-8", body.to_string()).await
    }

    fn form(parts: &[(&str, &str)]) -> String {
        let parts = parts.iter().map(|(name, value)| {
            let file = if *name == "input_reference" { "; filename=\"a.png\"" } else { "" };
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
        });
        parts.collect::<String>() + "--b--\r\n"
    }

    #[tokio::test]
    async fn json_and_form_give_the_same_request() {
        let json = json!({"prompt": "p", "model": "m", "seconds": "2", "size": "64x48", "seed": 7, "steps": 3,
            "guidance_scale": 2.5, "format": "av1", "scheduler": "euler", "priority": 9, "negative_prompt": "n"});
        let video = read_json(json).await.unwrap();
        let parts = [
            ("prompt", "p"),
            ("model", "m"),
            ("seconds", "2"),
            ("size", "64x48"),
            ("seed", "7"),
            ("steps", "3"),
            ("guidance_scale", "2.5"),
            ("format", "av1"),
            ("scheduler", "euler"),
            ("priority", "9"),
            ("negative_prompt", "n"),
        ];
        let from_form = read("multipart/form-data; boundary=b", form(&parts)).await.unwrap();
        assert_eq!(video.request, from_form.request);
        assert_eq!((video.model.as_deref(), from_form.model.as_deref()), (Some("m"), Some("m")));
        assert_eq!(video.request.duration, Some(2.0));
        assert_eq!(video.request.resolution.unwrap().to_string(), "64x48");
    }

    #[tokio::test]
    async fn an_image_is_a_file_or_data_url_and_never_fetched() {
        let parts = [("prompt", "p"), ("input_reference", "PNG")];
        let video = read("multipart/form-data; boundary=b", form(&parts)).await.unwrap();
        assert_eq!(video.request.image.as_deref(), Some("UE5H"));
        let url = "data:image/png;base64,UE5H";
        let video = read_json(json!({"prompt": "p", "input_reference": {"image_url": url}})).await.unwrap();
        assert_eq!(video.request.image.as_deref(), Some(url));
        let parts = [("prompt", "p"), ("input_reference[image_url]", url)];
        let video = read("multipart/form-data; boundary=b", form(&parts)).await.unwrap();
        assert_eq!(video.request.image.as_deref(), Some(url));
        for url in
            ["http://127.0.0.1/a.png", "file:///etc/passwd", "data:text/html;base64,AA", "data:image/png,a"]
        {
            let body = json!({"prompt": "p", "input_reference": {"image_url": url}});
            let failure = read_json(body).await.err().expect(url);
            assert_eq!(failure.problem().field.as_deref(), Some("input_reference"));
        }
    }

    #[tokio::test]
    async fn errors_name_the_field() {
        for (body, field) in [
            (json!({}), "prompt"),
            (json!({"prompt": 7}), "prompt"),
            (json!({"prompt": "p", "seconds": "never"}), "seconds"),
            (json!({"prompt": "p", "seconds": "-1"}), "seconds"),
            (json!({"prompt": "p", "seconds": "inf"}), "seconds"),
            (json!({"prompt": "p", "seconds": [1]}), "seconds"),
            (json!({"prompt": "p", "size": "big"}), "size"),
            (json!({"prompt": "p", "seed": -1}), "seed"),
            (json!({"prompt": "p", "seed": "7"}), "seed"),
            (json!({"prompt": "p", "priority": 10}), "priority"),
            (json!({"prompt": "p", "format": "gif"}), "format"),
            (json!({"prompt": "p", "input_reference": {"file_id": "x"}}), "input_reference"),
            (json!({"prompt": "p", "color": "red"}), "color"),
        ] {
            let shown = body.to_string();
            let failure = read_json(body).await.err().expect(&shown);
            assert_eq!(failure.problem().field.as_deref(), Some(field), "{shown}");
            assert_eq!(failure.problem().status, 400);
        }
        let twice = form(&[("prompt", "p"), ("prompt", "q")]);
        let failure = read("multipart/form-data; boundary=b", twice).await.err().unwrap();
        assert_eq!(failure.problem().field.as_deref(), Some("prompt"));
    }

    #[tokio::test]
    async fn unreadable_bodies_are_refused() {
        for (content_type, body, status) in [
            ("application/json", "{", 400),
            ("application/json", "[]", 400),
            ("multipart/form-data", "", 400),
            ("multipart/form-data; boundary=b", "--b\r\nContent-Disp", 400),
            ("text/plain", "prompt", 415),
            ("", "", 415),
        ] {
            let failure = read(content_type, body).await.err().expect(content_type);
            assert_eq!(failure.problem().status, status, "{content_type} {body}");
        }
        let large = "x".repeat(MAX_FIELD_BYTES + 1);
        let failure =
            read("multipart/form-data; boundary=b", form(&[("prompt", &large)])).await.err().unwrap();
        assert_eq!(failure.problem().field.as_deref(), Some("prompt"));
    }
}
