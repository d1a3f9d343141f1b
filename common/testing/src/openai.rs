//! Validation of answers against OpenAI's published schemas (`tests/reference/openai_schemas.py`).

use std::{collections::HashMap, sync::LazyLock};

use jsonschema::Validator;
use serde_json::{Value, json};

/// An answer, or one event of a stream, as OpenAI describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the schemas")]
pub enum OpenAiAnswer {
    CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse,
    CreateCompletionResponse,
    CreateCompletionStreamResponse,
    ListModelsResponse,
    Model,
    ErrorResponse,
    Video,
    VideoList,
    VideoDeleted,
}

impl OpenAiAnswer {
    const ALL: [Self; 10] = [
        Self::CreateChatCompletionResponse,
        Self::CreateChatCompletionStreamResponse,
        Self::CreateCompletionResponse,
        Self::CreateCompletionStreamResponse,
        Self::ListModelsResponse,
        Self::Model,
        Self::ErrorResponse,
        Self::Video,
        Self::VideoList,
        Self::VideoDeleted,
    ];

    /// Fails unless `answer` is valid.
    ///
    /// # Panics
    /// With everything that is wrong with it.
    pub fn assert_valid(self, answer: &Value) {
        static VALIDATORS: LazyLock<HashMap<OpenAiAnswer, Validator>> = LazyLock::new(|| {
            let text = include_str!("../../../tests/fixtures/openai/schemas.json");
            let schemas: Value = serde_json::from_str(text).expect("the fixture is JSON");
            let validator = |answer: OpenAiAnswer| {
                let mut schema = schemas.clone();
                schema["$ref"] = json!(format!("#/$defs/{answer:?}"));
                jsonschema::validator_for(&schema).expect("the fixture is a schema")
            };
            OpenAiAnswer::ALL.into_iter().map(|answer| (answer, validator(answer))).collect()
        });
        let errors: Vec<String> = VALIDATORS[&self]
            .iter_errors(answer)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "not a {self:?}:\n{}\n{answer:#}", errors.join("\n"));
    }
}
