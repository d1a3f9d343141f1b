//! The access rule of a request, by method and path alone.

use http::Method;
use videosdgx_api::routes::{self, ANY_SERVICE, SHELL};
use videosdgx_auth::Scope;

use crate::native::service_path;

/// What the caller must present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    Public,
    /// A valid token, whatever its scopes.
    Token,
    /// A valid token with this scope.
    Scope(Scope),
}

/// Whether `path` is `/health` or `/ready`, which are answered under overload and while draining too.
pub(crate) fn is_status_path(path: &str) -> bool {
    matches!(path, "/health" | "/ready")
}

/// The access rule of the gateway's own paths and, below `/models/{model}`, of the services' route tables. A service
/// checks again.
pub(crate) fn access(method: &Method, path: &str) -> Access {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    // Paths outside the tables exist nowhere, or in a newer service.
    let default = Access::Scope(if reads { Scope::Read } else { Scope::Generate });
    if let Some(path) = service_path(path) {
        let method = if reads { "GET" } else { method.as_str() };
        return ANY_SERVICE.find(method, path).map_or(default, |route| match route.access {
            routes::Access::Public => Access::Public,
            routes::Access::Scope(scope) => Access::Scope(scope),
        });
    }
    if path.starts_with("/v1/") {
        return default;
    }
    match path {
        "/metrics" => Access::Scope(Scope::Read),
        path if path.starts_with("/docs/") || is_public(path) => Access::Public,
        _ => Access::Token,
    }
}

/// Whether `path` is one of the status and documentation pages that the gateway has in common with every service.
fn is_public(path: &str) -> bool {
    SHELL.iter().any(|route| route.access == routes::Access::Public && route.matches(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_of_each_path() {
        use Access::{Public, Token};
        use Scope::{Admin, Generate, Read};
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        for (method, path, expected) in [
            (&get, "/", Public),
            (&get, "/health", Public),
            (&get, "/ready", Public),
            (&get, "/docs/index.html", Public),
            (&get, "/openapi.json", Public),
            (&get, "/.well-known/jwks.json", Public),
            (&get, "/metrics", Access::Scope(Read)),
            (&get, "/v1/models", Access::Scope(Read)),
            (&get, "/v1/videos/x/content", Access::Scope(Read)),
            (&post, "/v1/videos", Access::Scope(Generate)),
            (&delete, "/v1/videos/x", Access::Scope(Generate)),
            (&post, "/v1/chat/completions", Access::Scope(Generate)),
            (&post, "/v1/completions", Access::Scope(Generate)),
            (&get, "/models/qwen3-4b/dashboard", Public),
            (&get, "/models/qwen3-4b/telemetry", Access::Scope(Read)),
            (&get, "/models/qwen3-4b/stream", Access::Scope(Generate)),
            (&Method::HEAD, "/models/qwen3-4b/stream", Access::Scope(Generate)),
            (&post, "/models/qwen3-4b/tokenize", Access::Scope(Read)),
            (&post, "/models/qwen3-4b/v1/chat/completions", Access::Scope(Generate)),
            (&get, "/models/wan21/", Public),
            (&get, "/models/wan21/health", Public),
            (&get, "/models/wan21/.well-known/jwks.json", Public),
            (&get, "/models/wan21/info", Access::Scope(Read)),
            (&get, "/models/wan21/metrics", Access::Scope(Read)),
            (&post, "/models/wan21/generate", Access::Scope(Generate)),
            (&post, "/models/wan21/load", Access::Scope(Generate)),
            (&post, "/models/wan21/unload", Access::Scope(Admin)),
            (&delete, "/models/wan21/jobs/x", Access::Scope(Generate)),
            (&post, "/models/wan21/health", Access::Scope(Generate)),
            (&get, "/healthz", Token),
            (&get, "/docsx", Token),
            (&get, "/models/wan21", Token),
            (&get, "/nothing", Token),
        ] {
            assert_eq!(access(method, path), expected, "{method} {path}");
        }
    }

    /// Each route of a service needs the same below `/models/{model}` as at the service itself.
    #[test]
    fn services_and_gateway_agree() {
        for (name, table) in [("video", routes::VIDEO_SERVICE), ("text", routes::TEXT_SERVICE)] {
            for route in table.iter() {
                let method: Method = route.method.as_str().parse().unwrap();
                let path = format!("/models/{name}{}", route.path);
                let expected = match route.access {
                    routes::Access::Public => Access::Public,
                    routes::Access::Scope(scope) => Access::Scope(scope),
                };
                assert_eq!(access(&method, &path), expected, "{method} {path}");
                if table == routes::TEXT_SERVICE {
                    assert_eq!(crate::failure::error_format(&path), route.error_format, "{path}");
                }
            }
        }
    }
}
