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
use videosdgx_api::{
    Code,
    routes::{Access, ErrorFormat, Route, RouteTable},
};

use crate::{PROBLEM_JSON, VERSION};

const BEARER: &str = "bearer";

/// Summary of `HEAD` operations.
pub(crate) const HEAD_SUMMARY: &str = "The headers of the same GET request";

/// Adds the service's name, the security scheme, and the access and error responses of each operation.
pub(crate) fn complete_document(
    mut document: utoipa::openapi::OpenApi,
    name: &str,
    table: RouteTable,
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
                let is_head = matches!(method, HttpMethod::Head);
                let route = table.declared(if is_head { "GET" } else { method_name(&method) }, path);
                complete(operation, route, is_head);
            }
        }
    }
    document
}

fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Post => "POST",
        HttpMethod::Delete => "DELETE",
        _ => "GET",
    }
}

fn complete(operation: &mut Operation, route: Option<&Route>, is_head: bool) {
    let access = route.map_or(Access::Public, |route| route.access);
    let openai = route.is_some_and(|route| route.error_format == ErrorFormat::OpenAi);
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in route.map_or(&[][..], |route| route.error_codes) {
        by_status.entry(code.status()).or_default().push(code.as_str());
    }
    if let Access::Scope(scope) = access {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, [scope.as_str()])]);
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
            // HEAD operations and /ready document their own statuses.
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
    if is_head {
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response.content.clear();
            }
        }
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_head"));
        operation.summary = Some(HEAD_SUMMARY.to_owned());
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
