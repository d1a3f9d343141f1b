//! The settings of one generation, each defined once: request, stored form and job are made from the same list.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{LoraChoice, ModelDescription, Priority, Resolution, Support, lora, whole_number::RequestValue};

/// Makes an enum of names: each variant with the name that it has in JSON, in OpenAPI and on the command line.
macro_rules! named_choice {
    ($(#[$attribute:meta])* $choice:ident { $($(#[$variant_attribute:meta])* $variant:ident = $name:tt,)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum $choice {
            $($(#[$variant_attribute])* #[serde(rename = $name)] $variant,)*
        }

        impl $choice {
            /// Every choice.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in requests and answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

named_choice! {
    /// What the file is: an MP4 file with a video track of this codec, or a picture file with the only frame.
    #[derive(Default)]
    OutputFormat {
        /// H.264, supported by every player.
        #[default]
        #[serde(alias = "mp4")]
        H264 = "h264",
        /// AV1, royalty-free.
        Av1 = "av1",
        /// A PNG file of a single frame.
        Png = "png",
        /// A lossless WebP file of a single frame.
        Webp = "webp",
    }
}

impl OutputFormat {
    /// Whether the file is a picture: a single frame without sound.
    #[must_use]
    pub const fn is_picture(self) -> bool {
        matches!(self, Self::Png | Self::Webp)
    }

    /// Extension of the file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::H264 | Self::Av1 => "mp4",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

named_choice! {
    /// Codec of the MP4 file's sound track.
    #[derive(Default)]
    AudioFormat {
        /// Opus: small, plays in every browser.
        #[default]
        Opus = "opus",
        /// FLAC: lossless, in 24 bits.
        Flac = "flac",
    }
}

named_choice! {
    /// Scheduler (sampler) of a flow-matching model.
    SchedulerName {
        /// UniPC multistep, order 2.
        Unipc = "unipc",
        /// Flow-match Euler.
        Euler = "euler",
        /// Flow-match Euler with new noise at every step.
        EulerAncestral = "euler_ancestral",
    }
}

/// Makes [`GenerateRequest`], [`GenerationSettings`] and the conversion between them from one list of fields:
///
/// - `required`: the same in both.
/// - `defaulted`: optional in a request, with the model's default in the settings. `as` names the type in OpenAPI.
/// - `added`: as `defaulted`, but absent in jobs stored before the field existed: then it is the type's default, which is not
///   written either.
/// - `optional`: the same in both; the type's default when absent, so that jobs stored before the field existed are
///   still read.
/// - `attachments`: whole files as base64 or data URIs, optional in both. The queue stores them beside the settings
///   (see [`GenerationSettings::take_attachments`]) and a [`Job`](crate::Job) does not show them.
/// - `request_only`: not part of the settings.
macro_rules! generation_settings {
    (
        required { $($(#[$required_attribute:meta])* $required:ident: $required_type:ty,)* }
        defaulted {
            $($(#[$defaulted_attribute:meta])* $defaulted:ident: $defaulted_type:ty as $schema:ty = $default:expr,)*
        }
        added { $($(#[$added_attribute:meta])* $added:ident: $added_type:ty = $added_default:expr,)* }
        optional { $($(#[$optional_attribute:meta])* $optional:ident: $optional_type:ty,)* }
        attachments { $($(#[$attachment_attribute:meta])* $attachment:ident,)* }
        request_only { $($(#[$request_attribute:meta])* $request:ident: $request_type:ty,)* }
    ) => {
        /// Body of `POST /generate`. Only `prompt` is required: absent fields take the checkpoint's defaults, and the job
        /// shows the values used. `/info` has the limits of the model.
        ///
        /// ```
        /// use videosdgx_api::GenerateRequest;
        ///
        /// let request = GenerateRequest { prompt: "a red circle".into(), fps: Some(8), ..Default::default() };
        /// assert_eq!(serde_json::to_string(&request)?, r#"{"prompt":"a red circle","fps":8}"#);
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct GenerateRequest {
            $($(#[$required_attribute])* pub $required: $required_type,)*
            $(
                $(#[$defaulted_attribute])*
                #[serde(
                    default,
                    skip_serializing_if = "Option::is_none",
                    deserialize_with = "RequestValue::deserialize_optional"
                )]
                #[schema(value_type = Option<$schema>)]
                pub $defaulted: Option<$defaulted_type>,
            )*
            $(
                $(#[$added_attribute])*
                #[serde(
                    default,
                    skip_serializing_if = "Option::is_none",
                    deserialize_with = "RequestValue::deserialize_optional"
                )]
                pub $added: Option<$added_type>,
            )*
            $(
                $(#[$optional_attribute])*
                #[serde(default, skip_serializing_if = "is_default")]
                pub $optional: $optional_type,
            )*
            $(
                $(#[$attachment_attribute])*
                #[serde(default, skip_serializing_if = "is_default")]
                #[schema(example = json!(null))]
                pub $attachment: Option<String>,
            )*
            $(
                $(#[$request_attribute])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $request: Option<$request_type>,
            )*
        }

        /// Everything that decides which video is generated, with all defaults filled in. Part of
        /// [`ResolvedRequest`](crate::ResolvedRequest) and of [`Job`](crate::Job), in JSON among their own fields.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
        pub struct GenerationSettings {
            $($(#[$required_attribute])* pub $required: $required_type,)*
            $($(#[$defaulted_attribute])* #[schema(value_type = $schema)] pub $defaulted: $defaulted_type,)*
            $(
                $(#[$added_attribute])*
                #[serde(default, skip_serializing_if = "is_default")]
                pub $added: $added_type,
            )*
            $(
                $(#[$optional_attribute])*
                #[serde(default, skip_serializing_if = "is_default")]
                pub $optional: $optional_type,
            )*
            $(
                $(#[$attachment_attribute])*
                #[serde(default, skip_serializing_if = "is_default")]
                #[schema(ignore)]
                pub $attachment: Option<String>,
            )*
        }

        impl GenerateRequest {
            /// The settings, with the defaults of `model` where the request names no value. Checks no limit and leaves
            /// `duration` to the caller.
            #[must_use]
            pub fn into_settings(self, model: &ModelDescription) -> GenerationSettings {
                GenerationSettings {
                    $($required: self.$required,)*
                    $(
                        $defaulted: self.$defaulted.unwrap_or_else(|| {
                            let default: fn(&ModelDescription) -> $defaulted_type = $default;
                            default(model)
                        }),
                    )*
                    $(
                        $added: self.$added.unwrap_or_else(|| {
                            let default: fn(&ModelDescription) -> $added_type = $added_default;
                            default(model)
                        }),
                    )*
                    $($optional: self.$optional,)*
                    $($attachment: self.$attachment,)*
                }
            }
        }

        impl GenerateRequest {
            /// The request without its attachments, which are not copied.
            #[must_use]
            pub fn without_attachments(&self) -> Self {
                Self {
                    $($required: Clone::clone(&self.$required),)*
                    $($defaulted: Clone::clone(&self.$defaulted),)*
                    $($added: Clone::clone(&self.$added),)*
                    $($optional: Clone::clone(&self.$optional),)*
                    $($attachment: None,)*
                    $($request: Clone::clone(&self.$request),)*
                }
            }

            /// The request with the attachments of `settings`.
            #[must_use]
            pub fn with_attachments_of(mut self, settings: &GenerationSettings) -> Self {
                $(self.$attachment.clone_from(&settings.$attachment);)*
                self
            }
        }

        impl GenerationSettings {
            fn attachments_mut(&mut self) -> Vec<(&'static str, &mut Option<String>)> {
                vec![$((stringify!($attachment), &mut self.$attachment),)*]
            }
        }
    };
}

generation_settings! {
    required {
        /// What the video shows, 1 to 1000 characters.
        #[schema(min_length = 1, max_length = 1000, example = "a red circle moving right on a black background")]
        prompt: String,
    }
    defaulted {
        /// What the video should not show, at most 1000 characters. Default: empty.
        #[schema(max_length = 1000)]
        negative_prompt: String as String = |_| String::new(),
        /// Frames per second of the file, 1 to 60.
        #[schema(minimum = 1, maximum = 60)]
        fps: u32 as u32 = |model| model.default_fps,
        /// Width and height in pixels, for example `832x480`.
        #[schema(pattern = "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$", example = "64x64")]
        resolution: Resolution as String = |model| model.default_resolution,
        /// Number of frames, one that the model's `frame_rule` in `/info` allows; 1 makes a still image, and is the default with
        /// `format` `png` or `webp`. Not together with `duration`.
        #[schema(minimum = 1)]
        num_frames: u32 as u32 = |model| model.default_num_frames,
        /// Denoising steps, 1 to 200.
        #[schema(minimum = 1, maximum = 200)]
        steps: u32 as u32 = |model| model.default_steps,
        /// Scale of classifier-free guidance, 1 (none) to 20.
        #[schema(minimum = 1.0, maximum = 20.0)]
        guidance_scale: f64 as f64 = |model| model.default_guidance_scale,
        /// Seed of the noise. The same request with the same seed produces the same bytes on the same machine with the same
        /// program, checkpoint, dtype and quantization; above 256 pixels per side only if the model also fits into memory whole
        /// (or does not) both times. Default: random, drawn when the request is accepted, so that a second attempt makes the
        /// same video.
        #[schema(minimum = 0)]
        seed: u64 as u64 = |_| random_seed(),
        /// Codec of the MP4 file's video track, or `png` or `webp` for a picture file of a single frame; one of the model's
        /// `formats` in `/info`.
        format: OutputFormat as OutputFormat = |model| model.default_format,
        /// Scheduler, one of the model's `schedulers` in `/info`. Default: the checkpoint's own.
        scheduler: SchedulerName as SchedulerName = |model| model.default_scheduler,
    }
    added {
        /// Whether the file has a sound track, which models with `audio` in `/info` make together with the picture. Default: true
        /// for these models, unless `format` is a picture's.
        audio: bool = |model| model.limits.audio != Support::Unsupported,
    }
    optional {
        /// Codec of the sound track. Default: `opus`. Only with sound.
        audio_format: Option<AudioFormat>,
        /// Scale of classifier-free guidance of the sound, 1 to 20, for models with `guidances` in `/info`. Default: the
        /// model's, which may depend on `guidance_scale`.
        audio_guidance_scale: Option<f64>,
        /// Scale of spatio-temporal guidance, 0 (none) to 10, for models with `guidances`. Default: the model's.
        stg_scale: Option<f64>,
        /// Scale of the guidance away from picture and sound that do not know of each other, 1 (none) to 10, for models with
        /// `guidances`. Default: the model's.
        modality_scale: Option<f64>,
        /// Share, 0 to 1, to which a guided prediction is rescaled to the deviation of the unguided one, for models with
        /// `guidances`. Default: the model's.
        guidance_rescale: Option<f64>,
        /// Whether the video is made at half of its width and height first, then enlarged and refined, for models with
        /// `upscale` in `/info`.
        upscale: bool,
        /// LoRAs that change the model, at most 4, by their names in `GET /loras`. Default: none.
        #[serde(deserialize_with = "lora::choices")]
        #[schema(max_items = 4)]
        loras: Vec<LoraChoice>,
    }
    attachments {
        /// First frame for image-to-video checkpoints: PNG, JPEG or WebP as a data URI or plain base64; at most 10 MiB, 8192
        /// pixels per side and 16,777,216 pixels.
        image,
        /// Last frame, for models with `last_image` in `/info`: as `image`, and only together with it.
        last_image,
        /// Given sound, for models with `audio_input` in `/info`, which make a picture to it: a WAV file (PCM or float) or an MP4
        /// file with sound (AAC, Opus or FLAC) as a data URI or plain base64; at most 10 MiB, one or two channels, and not longer
        /// than the video.
        audio_input,
    }
    request_only {
        /// Length in seconds, up to 60; rounded to a number of frames that the model can make. Not together with
        /// `num_frames`.
        #[schema(exclusive_minimum = 0.0, maximum = 60.0, example = 2.0)]
        duration: f64,
        /// 0 (least urgent) to 9. Default: 5.
        priority: Priority,
    }
}

impl GenerationSettings {
    /// Length of the file in seconds.
    #[must_use]
    pub fn duration(&self) -> f64 {
        f64::from(self.num_frames) / f64::from(self.fps.max(1))
    }

    /// A hash of every setting, attachments included. It distinguishes intermediate results of different generations; it
    /// is stable within one build of a program only.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        // The derived text lists every field, so that a new one cannot be left out.
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// Removes the attachments and returns them as one value to store: megabytes among the other settings would make
    /// every listing of jobs slow. `None` when there is no attachment.
    pub fn take_attachments(&mut self) -> Option<Vec<u8>> {
        let taken = self.attachments_mut().into_iter();
        pack(taken.filter_map(|(name, attachment)| Some((name, attachment.take()?))).collect())
    }

    /// Puts back what [`Self::take_attachments`] returned.
    ///
    /// # Errors
    /// [`InvalidAttachments`] when `stored` is not such a value.
    pub fn restore_attachments(&mut self, stored: Vec<u8>) -> Result<(), InvalidAttachments> {
        for (name, file) in unpack(stored)? {
            let mut known = self.attachments_mut().into_iter();
            let (_, attachment) =
                known.find(|(known, _)| *known == name).ok_or(InvalidAttachments::UnknownField(name))?;
            *attachment = Some(file);
        }
        Ok(())
    }
}

/// Why stored attachments cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAttachments {
    /// A single attachment is not UTF-8.
    #[error("it is not UTF-8")]
    Text(#[from] std::string::FromUtf8Error),
    /// Several attachments are not a JSON object of strings.
    #[error("it is not a JSON object of strings")]
    Json(#[from] serde_json::Error),
    /// No attachment has this name.
    #[error("there is no attachment `{0}`")]
    UnknownField(String),
}

/// The attachment that is stored as its plain text when it is the only one.
const PLAIN_ATTACHMENT: &str = "image";

fn pack(mut files: Vec<(&'static str, String)>) -> Option<Vec<u8>> {
    match files.as_mut_slice() {
        [] => None,
        [(PLAIN_ATTACHMENT, file)] => Some(std::mem::take(file).into_bytes()),
        _ => {
            let object: serde_json::Map<_, _> =
                files.into_iter().map(|(name, file)| (name.to_owned(), file.into())).collect();
            Some(serde_json::Value::Object(object).to_string().into_bytes())
        }
    }
}

/// The reverse of [`pack`]. Neither base64 nor a data URI begins with a brace.
fn unpack(stored: Vec<u8>) -> Result<Vec<(String, String)>, InvalidAttachments> {
    if stored.starts_with(b"{") {
        let files: std::collections::BTreeMap<_, _> = serde_json::from_slice(&stored)?;
        return Ok(files.into_iter().collect());
    }
    Ok(vec![(PLAIN_ATTACHMENT.to_owned(), String::from_utf8(stored)?)])
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// 53 random bits, so that every JSON reader keeps the seed exactly.
fn random_seed() -> u64 {
    // Bits 12–15 of the high half hold the UUID's version, the top two bits of the low half its variant.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    (high >> 16 << 5) | (low & 31)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> GenerationSettings {
        serde_json::from_value(json!({
            "prompt": "a", "negative_prompt": "", "resolution": "64x48", "num_frames": 17, "fps": 8, "steps": 20,
            "guidance_scale": 3.0, "seed": u64::MAX, "format": "h264", "scheduler": "unipc",
        }))
        .unwrap()
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = serde_json::from_str::<GenerateRequest>(r#"{"prompt":"a","guidance":3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `guidance`"), "{error}");
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_decimal_point() {
        let fields = ["fps", "num_frames", "steps", "seed", "priority"];
        for (text, number) in [("8.0", 8), ("8", 8), ("8e0", 8), ("0.08e2", 8), ("0.0", 0)] {
            for field in fields {
                let body = format!(r#"{{"prompt":"a","{field}":{text}}}"#);
                let request: GenerateRequest = serde_json::from_str(&body).unwrap();
                let stored = serde_json::to_value(request).unwrap();
                assert_eq!(stored[field], json!(number), "{body}");
            }
        }
        for text in
            ["8.5", "-1.0", "-1", "1e300", "9007199254740994.0", "18446744073709551616", "\"8\"", "true"]
        {
            for field in fields {
                let body = format!(r#"{{"prompt":"a","{field}":{text}}}"#);
                assert!(serde_json::from_str::<GenerateRequest>(&body).is_err(), "{body}");
            }
        }
        let error = serde_json::from_str::<GenerateRequest>(r#"{"prompt":"a","fps":8.5}"#).unwrap_err();
        assert!(error.to_string().contains("a whole number"), "{error}");
        for field in [
            "fps",
            "negative_prompt",
            "resolution",
            "format",
            "scheduler",
            "guidance_scale",
            "priority",
            "audio",
            "audio_format",
        ] {
            let body = format!(r#"{{"prompt":"a","{field}":null}}"#);
            let request: GenerateRequest = serde_json::from_str(&body).unwrap();
            assert_eq!(request, GenerateRequest { prompt: "a".into(), ..Default::default() }, "{body}");
        }
        let seed: GenerateRequest =
            serde_json::from_str(r#"{"prompt":"a","seed":18446744073709551615}"#).unwrap();
        assert_eq!(seed.seed, Some(u64::MAX));
    }

    #[test]
    fn every_setting_changes_the_fingerprint() {
        let base = settings().fingerprint();
        assert_eq!(settings().fingerprint(), base);
        let stored = serde_json::to_value(settings()).unwrap();
        for (name, other) in [
            ("prompt", json!("b")),
            ("negative_prompt", json!("b")),
            ("resolution", json!("48x64")),
            ("num_frames", json!(21)),
            ("fps", json!(9)),
            ("steps", json!(21)),
            ("guidance_scale", json!(3.5)),
            ("seed", json!(1)),
            ("format", json!("av1")),
            ("scheduler", json!("euler")),
            ("loras", json!([{"name": "a"}])),
            ("audio", json!(true)),
            ("audio_format", json!("flac")),
            ("audio_guidance_scale", json!(2.0)),
            ("stg_scale", json!(1.0)),
            ("modality_scale", json!(2.0)),
            ("guidance_rescale", json!(0.5)),
            ("upscale", json!(true)),
            ("image", json!("aGk=")),
            ("last_image", json!("aGk=")),
            ("audio_input", json!("aGk=")),
        ] {
            let mut stored = stored.clone();
            stored[name] = other;
            let changed: GenerationSettings = serde_json::from_value(stored).unwrap();
            assert_ne!(changed.fingerprint(), base, "{name}");
        }
    }

    #[test]
    fn attachments_are_taken_and_restored() {
        let mut settings = settings();
        assert_eq!(settings.take_attachments(), None);
        settings.image = Some("aGk=".into());
        let with_image = settings.clone();
        let stored = settings.take_attachments().unwrap();
        assert_eq!((stored.as_slice(), &settings.image), (b"aGk=".as_slice(), &None));
        settings.restore_attachments(stored).unwrap();
        assert_eq!(settings, with_image);
        assert!(settings.restore_attachments(b"{".to_vec()).is_err());
        assert!(settings.restore_attachments(br#"{"hat": "aGk="}"#.to_vec()).is_err());
        assert!(settings.restore_attachments(vec![0xFF]).is_err());
        settings.last_image = Some("YQ==".into());
        settings.audio_input = Some("Yg==".into());
        let with_all = settings.clone();
        let stored = settings.take_attachments().unwrap();
        assert_eq!((&settings.image, &settings.last_image, &settings.audio_input), (&None, &None, &None));
        settings.restore_attachments(stored).unwrap();
        assert_eq!(settings, with_all);
    }

    #[test]
    fn several_attachments_are_stored_as_one_object() {
        let stored = pack(vec![("image", "a".into()), ("last_image", "b".into())]).unwrap();
        let files = [("image", "a"), ("last_image", "b")].map(|(name, file)| (name.into(), file.into()));
        assert_eq!(unpack(stored).unwrap(), files);
    }

    #[test]
    fn names_in_json_are_those_of_as_str() {
        for format in OutputFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
        }
        for format in AudioFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
        }
        for scheduler in SchedulerName::ALL {
            assert_eq!(serde_json::to_value(scheduler).unwrap(), scheduler.as_str());
        }
        assert_eq!(serde_json::from_value::<OutputFormat>("mp4".into()).unwrap(), OutputFormat::H264);
    }

    #[test]
    fn names_in_openapi_are_those_of_json() {
        fn documented<T: utoipa::PartialSchema>() -> serde_json::Value {
            serde_json::to_value(T::schema()).unwrap()["enum"].take()
        }
        assert_eq!(documented::<OutputFormat>(), serde_json::to_value(OutputFormat::ALL).unwrap());
        assert_eq!(documented::<AudioFormat>(), serde_json::to_value(AudioFormat::ALL).unwrap());
        assert_eq!(documented::<SchedulerName>(), serde_json::to_value(SchedulerName::ALL).unwrap());
    }
}
