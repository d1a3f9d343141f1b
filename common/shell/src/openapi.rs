//! Completing an OpenAPI 3.1 document: who may call each operation, and every status that it can answer with.

use std::collections::BTreeMap;

use utoipa::openapi::{
    HttpMethod, Ref, RefOr, Response,
    content::ContentBuilder,
    header::HeaderBuilder,
    path::Operation,
    response::ResponseBuilder,
    schema::{ObjectBuilder, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use videosdgx_api::Code;

use crate::{PROBLEM_JSON, VERSION};

const BEARER: &str = "bearer";

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// A token with this scope.
    Scope(&'static str),
}

/// What an operation needs and how it can refuse.
pub struct Policy {
    /// Who may call it.
    pub access: Access,
    /// Codes that it can answer with, besides those of a refused token.
    pub refusals: &'static [Code],
}

/// Gives `document` the service's name, the scheme of its tokens, and each operation its policy. Problems at paths that
/// `speaks_openai` accepts are OpenAI's error objects.
#[must_use]
pub fn complete_document(
    mut document: utoipa::openapi::OpenApi,
    name: &str,
    policy: impl Fn(&str, &str) -> Policy,
    speaks_openai: impl Fn(&str) -> bool,
) -> utoipa::openapi::OpenApi {
    document.info.title = format!("VideosDGX {name}");
    VERSION.clone_into(&mut document.info.version);
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("Scopes: `generate`, `read`, `admin`. `videosdgx token` mints one."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Head, &mut item.head),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Delete, &mut item.delete),
        ] {
            if let Some(operation) = operation {
                let method = method_name(&method);
                complete(operation, method, policy(method, path), speaks_openai(path));
            }
        }
    }
    document
}

fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Head => "HEAD",
        HttpMethod::Post => "POST",
        HttpMethod::Delete => "DELETE",
        _ => "GET",
    }
}

fn complete(operation: &mut Operation, method: &str, policy: Policy, openai: bool) {
    let Policy { access, refusals } = policy;
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in refusals {
        by_status.entry(code.status()).or_default().push(code.as_str());
    }
    if let Access::Scope(scope) = access {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, [scope])]);
        for code in [Code::Unauthorized, Code::InsufficientScope, Code::Internal] {
            by_status.entry(code.status()).or_default().push(code.as_str());
        }
    } else {
        operation.security = Some(Vec::new());
    }
    for (status, codes) in by_status {
        let key = status.to_string();
        let refusal = refusal(status, &codes, openai);
        match operation.responses.responses.get(&key) {
            // HEAD and /ready describe theirs themselves.
            Some(_) => {}
            None => {
                operation.responses.responses.insert(key, RefOr::T(refusal));
            }
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response
                .headers
                .insert("x-request-id".to_owned(), text_header("The request, as in the log").into());
        }
    }
    if method == "HEAD" {
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response.content.clear();
            }
        }
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_head"));
        operation.summary = Some("Size and ETag of the video".to_owned());
    }
}

fn refusal(status: u16, codes: &[&str], openai: bool) -> Response {
    let (kind, schema) = if openai { ("application/json", "ErrorBody") } else { (PROBLEM_JSON, "Problem") };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
    let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut response = ResponseBuilder::new().description(codes.join(", ")).content(kind, content);
    if matches!(status, 409 | 429 | 503 | 507) {
        let seconds = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
            .description(Some("Seconds to wait"))
            .build();
        response = response.header("retry-after", seconds);
    }
    if status == 401 {
        response = response.header("www-authenticate", text_header("Bearer"));
    }
    response.build()
}

fn text_header(description: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build()
}
