//! The OpenAPI document of the gateway and of all services behind it.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use videosdgx_api::routes::ErrorFormat;

use crate::failure::error_format;
use crate::upstream::Models;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

#[derive(OpenApi)]
#[openapi(
    info(title = "VideosDGX", description = "Generative models behind one gateway.", license(name = "Apache-2.0")),
    components(schemas(videosdgx_api::Problem, videosdgx_api::openai::ErrorBody, videosdgx_api::openai::ChatChunk)),
    security(("bearer" = []))
)]
struct Base;

/// Title, licence, the bearer token and the error schemas.
pub(crate) fn base() -> utoipa::openapi::OpenApi {
    let mut document = Base::openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("Mint one with `videosdgx token`."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    document
}

/// The gateway's own document, as in `docs/openapi/gateway.json`.
pub(crate) fn own() -> Value {
    let (_, document) = crate::routes::documented().split_for_parts();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        for (method, operation) in operations(item) {
            if operation.get("security").is_some() {
                // Public: limited only by address and by overload.
                add_problems(operation, path, if is_status(path) { &[429] } else { &[429, 503] });
                continue;
            }
            add_problems(operation, path, &[401, 403, 429, 503]);
            if path.starts_with("/v1/videos") {
                add_problems(operation, path, &[400, 502, 504]);
            }
            if path.contains('{') || method == "post" {
                add_problems(operation, path, &[404]);
            }
            if is_completion(path) {
                add_problems(operation, path, &[400, 408, 413, 415, 502, 504]);
            } else if method == "post" {
                add_problems(operation, path, &[400, 408, 409, 413, 415, 422, 507]);
            }
        }
    }
    document
}

fn is_status(path: &str) -> bool {
    crate::layers::access::is_status_path(path)
}

fn is_completion(path: &str) -> bool {
    matches!(path, "/v1/chat/completions" | "/v1/completions")
}

/// The gateway's document with those of the services under `/models/{name}`.
pub(crate) fn merged(models: &Models) -> Value {
    let mut document = own();
    for model in models.iter() {
        if let Some(service) = model.document() {
            merge(&mut document, &model.name, &service);
        }
    }
    document
}

/// Adds the document of a service under the prefix of its model. Component names get the model's name as a prefix, since
/// two services may use one name for different schemas; the security scheme is the gateway's.
fn merge(document: &mut Value, model: &str, service: &Value) {
    let mut service = service.clone();
    rename_references(&mut service, model);
    if let Some(components) = service.get_mut("components").map(Value::take) {
        for (kind, parts) in into_object(components) {
            if kind == "securitySchemes" {
                continue;
            }
            let target = object_at(object_at(document, "components"), &kind);
            for (name, part) in into_object(parts) {
                object(target).insert(format!("{model}.{name}"), part);
            }
        }
    }
    let everywhere = service.get("security").cloned();
    let Some(paths) = service.get_mut("paths").map(Value::take) else { return };
    for (path, mut item) in into_object(paths) {
        for (_, operation) in operations(&mut item) {
            convert_operation(operation, model, &path, everywhere.as_ref());
        }
        object(object_at(document, "paths")).insert(format!("/models/{model}{path}"), item);
    }
}

/// Converts an operation of a service to one of the gateway.
fn convert_operation(operation: &mut Value, model: &str, path: &str, everywhere: Option<&Value>) {
    let needs_token = match operation.get("security").or(everywhere) {
        Some(Value::Array(choices)) => {
            !choices.iter().any(|choice| choice.as_object().is_some_and(Map::is_empty)) && !choices.is_empty()
        }
        _ => false,
    };
    let has_body = operation.get("requestBody").is_some();
    let id = operation.get("operationId").and_then(Value::as_str).map(|id| format!("{model}_{id}"));
    let fields = object(operation);
    fields.insert("tags".to_owned(), json!([model]));
    fields.insert("security".to_owned(), if needs_token { json!([{"bearer": []}]) } else { json!([{}]) });
    if let Some(id) = id {
        fields.insert("operationId".to_owned(), id.into());
    }
    add_problems(operation, path, &[404, 429, 502, 503, 504]);
    if needs_token {
        add_problems(operation, path, &[401, 403]);
    }
    if has_body {
        add_problems(operation, path, &[400, 408, 413, 415]);
    }
}

/// Documents these statuses where the operation does not document them itself.
fn add_problems(operation: &mut Value, path: &str, statuses: &[u16]) {
    let (media, schema) = match error_format(path) {
        ErrorFormat::OpenAi => ("application/json", "ErrorBody"),
        ErrorFormat::Native => ("application/problem+json", "Problem"),
    };
    let responses = object_at(operation, "responses");
    for status in statuses {
        let reference = format!("#/components/schemas/{schema}");
        let content = json!({ media: { "schema": { "$ref": reference } } });
        let response = json!({ "description": meaning(*status), "content": content });
        object(responses).entry(status.to_string()).or_insert(response);
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "A field or the body is invalid; `field` names the field.",
        401 => "The token is missing or invalid.",
        403 => "The token lacks a scope.",
        404 => "It does not exist, or belongs to another caller.",
        408 => "The body came too slowly.",
        409 => "Not possible in this state.",
        413 => "The body is too large.",
        415 => "The content type is not supported.",
        422 => "The same `Idempotency-Key` was used with another body.",
        429 => "Too many requests; `Retry-After` says how long to wait.",
        502 => "The service does not answer.",
        503 => {
            "Overloaded, shutting down, or the model cannot be loaded; `Retry-After` says when to try again."
        }
        504 => "The service did not answer in time.",
        507 => "The disk is full.",
        _ => "The request failed.",
    }
}

/// Renames `#/components/schemas/Job` to `#/components/schemas/wan21.Job`.
fn rename_references(value: &mut Value, model: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(reference) if name == "$ref" => {
                        if let Some((kind, part)) =
                            reference.strip_prefix("#/components/").and_then(|rest| rest.split_once('/'))
                        {
                            *reference = format!("#/components/{kind}/{model}.{part}");
                        }
                    }
                    value => rename_references(value, model),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename_references(value, model)),
        _ => {}
    }
}

fn operations(item: &mut Value) -> impl Iterator<Item = (String, &mut Value)> {
    let fields = item.as_object_mut().into_iter().flatten();
    fields.filter(|(name, _)| METHODS.contains(&name.as_str())).map(|(name, value)| (name.clone(), value))
}

fn into_object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

/// The value as an object; anything else is replaced by an empty one.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("it has just been made an object"),
    }
}

fn object_at<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    object(value).entry(name).or_insert_with(|| Value::Object(Map::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_merged_under_their_names() {
        let service = json!({
            "openapi": "3.1.0",
            "security": [{"jwt": []}],
            "paths": {
                "/jobs/{id}": {
                    "parameters": [{"$ref": "#/components/parameters/Id"}],
                    "get": {"operationId": "getJob", "tags": ["jobs"], "responses": {
                        "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}},
                        "404": {"description": "theirs"}}}},
                "/health": {"get": {"security": [{}], "responses": {}}}},
            "components": {
                "securitySchemes": {"jwt": {"type": "http", "scheme": "bearer"}},
                "parameters": {"Id": {"name": "id", "in": "path"}},
                "schemas": {"Job": {"properties": {"next": {"$ref": "#/components/schemas/Job"}}}}}});
        let mut document = own();
        let paths_before = document["paths"].as_object().unwrap().len();
        merge(&mut document, "wan21", &service);
        let item = &document["paths"]["/models/wan21/jobs/{id}"];
        assert_eq!(item["parameters"][0]["$ref"], "#/components/parameters/wan21.Id");
        let get = &item["get"];
        assert_eq!((&get["operationId"], &get["tags"]), (&json!("wan21_getJob"), &json!(["wan21"])));
        assert_eq!(get["security"], json!([{"bearer": []}]));
        assert_eq!(get["responses"]["404"]["description"], "theirs");
        assert!(get["responses"]["429"].is_object() && get["responses"]["401"].is_object());
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(schema["$ref"], "#/components/schemas/wan21.Job");
        let next = &document["components"]["schemas"]["wan21.Job"]["properties"]["next"]["$ref"];
        assert_eq!(next, "#/components/schemas/wan21.Job");
        assert_eq!(document["paths"]["/models/wan21/health"]["get"]["security"], json!([{}]));
        assert!(document["components"]["securitySchemes"]["jwt"].is_null());
        assert!(document["components"]["schemas"]["Problem"].is_object());
        assert_eq!(document["paths"].as_object().unwrap().len(), paths_before + 2);
    }

    #[test]
    fn an_invalid_document_is_ignored() {
        for service in [json!(null), json!({"paths": 7}), json!({"paths": {"/x": []}, "components": "a"})] {
            let mut document = own();
            merge(&mut document, "m", &service);
            assert!(document["paths"]["/health"].is_object());
        }
    }

    #[test]
    fn every_reference_resolves() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    fields.values().for_each(|value| check(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = own();
        assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
        check(&document, &document);
    }
}
