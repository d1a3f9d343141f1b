//! Body of `POST /v1/videos`: JSON, or the form that the official client sends, where every value is text.

use std::borrow::Cow;

use axum::extract::{FromRequest, Multipart, Request};
use base64::Engine as _;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use mime::Mime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use videosdgx_api::{Code, GenerateRequest, NOT_ENCODED, Problem, is_encoded, media_type};

use super::shape::{SETTING_NAMES, in_openai_names};
use crate::failure::Failure;

/// Largest file in a form in bytes.
const MAX_FILE_BYTES: usize = 10 * 1024 * 1024;
/// The parts of a form that are files. All but OpenAI's own may also be text: base64 or a data URI.
const FILES: [&str; 3] = ["input_reference", "last_image", "audio_input"];
/// Largest other part of a form in bytes.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// The JSON body in OpenAPI: OpenAI's fields and, under our names, the settings of [`GenerateRequest`] that OpenAI does
/// not have.
pub(crate) struct CreateVideo;

/// A video to make. Only `prompt` is required: absent fields take the checkpoint's defaults. `model`, `seconds`, `size` and
/// `input_reference` are OpenAI's; the other fields are additions, which the official client sends as `extra_body`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used; the body is read field by field")]
struct OpenAiFields {
    /// An id from `GET /v1/models`; required when there are several.
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
}

impl PartialSchema for CreateVideo {
    fn schema() -> RefOr<Schema> {
        let mut body = object(OpenAiFields::schema());
        let settings = object(GenerateRequest::schema());
        body.required = settings.required;
        body.additional_properties = settings.additional_properties;
        let renamed = |name: &str| SETTING_NAMES.iter().any(|(_, native)| *native == name);
        for (name, property) in settings.properties {
            if !renamed(&name) {
                body.properties.insert(name, without_null(property));
            }
        }
        body.into()
    }
}

impl ToSchema for CreateVideo {
    fn name() -> Cow<'static, str> {
        "CreateVideo".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        OpenAiFields::schemas(schemas);
        GenerateRequest::schemas(schemas);
    }
}

fn object(schema: RefOr<Schema>) -> Object {
    match schema {
        RefOr::T(Schema::Object(object)) => object,
        _ => Object::new(),
    }
}

/// The schema without the alternative `null`.
fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let is_null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let Some(other) = types.iter().find(|kind| **kind != Type::Null)
            {
                object.schema_type = SchemaType::Type(other.clone());
            }
            object.into()
        }
        RefOr::T(Schema::OneOf(mut one_of)) if one_of.items.len() == 2 => {
            one_of.items.retain(|item| !is_null(item));
            one_of.items.pop().unwrap_or_else(|| RefOr::T(Schema::OneOf(one_of)))
        }
        other => other,
    }
}

/// The body as a form: every value is text, the image is a file.
#[derive(Debug, Clone, ToSchema)]
#[expect(dead_code, reason = "the schema of the form; it is read field by field")]
pub(crate) struct CreateVideoForm {
    /// What the video shows, 1 to 1000 characters.
    #[schema(min_length = 1, max_length = 1000)]
    prompt: String,
    /// An id from `GET /v1/models`; required when there are several.
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
    /// Last frame (an addition), as `input_reference`.
    #[schema(format = Binary, content_media_type = "application/octet-stream", nullable = false)]
    last_image: Option<String>,
    /// Given sound (an addition): a WAV file, or an MP4 file with sound, of at most 10 MiB.
    #[schema(format = Binary, content_media_type = "application/octet-stream", nullable = false)]
    audio_input: Option<String>,
}

/// An image in the request itself.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageReference {
    /// A base64 `data:` URL of a PNG, JPEG or WebP, at most 10 MiB. Other URLs are not fetched.
    #[schema(pattern = "^data:image/(png|jpeg|webp);base64,")]
    image_url: String,
}

/// The body under the names of the native API.
pub(crate) struct VideoRequest {
    /// Id of the model, when the body names one.
    pub(crate) model: Option<String>,
    pub(crate) request: GenerateRequest,
}

impl VideoRequest {
    /// Reads JSON or a form, by the content type.
    pub(crate) async fn read(request: Request) -> Result<Self, Failure> {
        refuse_encoded(request.headers())?;
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

/// Fails with 415 when the body has a content coding, as services do.
pub(crate) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|codings| codings.to_str().map_or(true, is_encoded)) {
        return Err(Failure::new(Code::UnsupportedMediaType, NOT_ENCODED));
    }
    Ok(())
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
            let has_file = FILES.contains(&name.as_str());
            // OpenAI's field is always a file.
            let is_file = has_file && (name == "input_reference" || part.file_name().is_some());
            let max = match (is_file, has_file) {
                (true, _) => MAX_FILE_BYTES,
                (false, true) => MAX_FILE_BYTES.div_ceil(3) * 4 + MAX_FIELD_BYTES,
                (false, false) => MAX_FIELD_BYTES,
            };
            let mut bytes = Vec::new();
            while let Some(chunk) = part.chunk().await.map_err(bad_form)? {
                if bytes.len() + chunk.len() > max {
                    let detail = format!("{} is larger than {max} bytes", shown(&name));
                    return Err(Failure::field(&shown(&name), detail).map(|p| p.limit = Some(max.into())));
                }
                bytes.extend_from_slice(&chunk);
            }
            // A browser sends an empty part for a file that was not chosen.
            if has_file && bytes.is_empty() {
                continue;
            }
            if is_file {
                let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
                if name == "input_reference" {
                    fields.image = Some(encoded);
                } else if fields.values.insert(name.clone(), Value::String(encoded)).is_some() {
                    return Err(Failure::field(&name, format!("{name} is given twice")));
                }
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
        let model = self.take("model")?;
        let size: Option<String> = self.take("size")?;
        let image = match (self.image.take(), self.take::<ImageReference>("input_reference")?) {
            (Some(image), _) => Some(image),
            (None, Some(reference)) => Some(data_url(reference.image_url)?),
            (None, None) => None,
        };
        let seconds = self.seconds()?;
        if let Some((_, native)) = SETTING_NAMES.iter().find(|(_, native)| self.values.contains_key(*native))
        {
            return Err(Failure::field(native, format!("unknown field `{native}`")));
        }
        if self.is_form {
            self.read_numbers_and_flags();
        }
        let renamed = [
            ("resolution", size.map(Value::from)),
            ("image", image.map(Value::from)),
            ("duration", seconds.map(Value::from)),
        ];
        for (name, value) in renamed {
            self.values.extend(value.map(|value| (name.to_owned(), value)));
        }
        let request = serde_path_to_error::deserialize(Value::Object(self.values)).map_err(|error| {
            in_openai_names(Problem::invalid_json(&error.path().to_string(), error.inner()).into())
        })?;
        Ok(VideoRequest { model, request })
    }

    /// In a form every value is text: where the native API does not accept text, a number, `true` or `false` is read as JSON.
    fn read_numbers_and_flags(&mut self) {
        for (name, value) in &mut self.values {
            let Some(text) = value.as_str() else { continue };
            let read = match text {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                text => text.parse().ok().map(Value::Number),
            };
            if let Some(read) = read
                && !accepts(name, value)
            {
                *value = read;
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        match self.values.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| Failure::field(name, format!("{name}: {error}"))),
        }
    }

    /// `seconds` is text in the OpenAI API; a number is accepted too.
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

/// Whether the field `name` of the native API accepts `value`.
fn accepts(name: &str, value: &Value) -> bool {
    let mut request = json!({"prompt": ""});
    request[name] = value.clone();
    serde_json::from_value::<GenerateRequest>(request).is_ok()
}

/// Images are part of the request; URLs are never fetched.
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
            let file =
                if ["input_reference", "last_image"].contains(name) { "; filename=\"a.png\"" } else { "" };
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
        });
        parts.collect::<String>() + "--b--\r\n"
    }

    #[tokio::test]
    async fn json_and_form_give_the_same_request() {
        let json = json!({"prompt": "p", "model": "m", "seconds": "2", "size": "64x48", "seed": 7, "steps": 3,
            "guidance_scale": 2.5, "format": "av1", "scheduler": "euler", "priority": 9, "negative_prompt": "n",
            "audio": true, "audio_format": "flac", "last_image": "TEFTVA==", "audio_input": "data:audio/wav;base64,V0FW"});
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
            ("audio", "true"),
            ("audio_format", "flac"),
            ("last_image", "LAST"),
            ("audio_input", "data:audio/wav;base64,V0FW"),
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
        let parts = [("prompt", "p"), ("input_reference", "")];
        let video = read("multipart/form-data; boundary=b", form(&parts)).await.unwrap();
        assert_eq!(video.request.image, None, "no file was chosen");
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
            (json!({"prompt": "p", "audio": "yes"}), "audio"),
            (json!({"prompt": "p", "audio_format": "mp3"}), "audio_format"),
            (json!({"prompt": "p", "last_image": 7}), "last_image"),
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
