//! What a request needs, by method and path alone.

use http::Method;
use videosdgx_auth::Scope;

/// What the caller must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    Public,
    /// A good token, whatever it allows.
    Token,
    /// A good token that allows this.
    Needs(Scope),
}

/// `/health` and `/ready`: answered also under overload and while draining.
pub(crate) fn is_status_path(path: &str) -> bool {
    matches!(path, "/health" | "/ready")
}

/// The rule for the gateway's own paths and, below `/models/{model}`, for the services'. A service checks again.
pub(crate) fn access(method: &Method, path: &str) -> Access {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if is_document(path) {
        return Access::Public;
    }
    if path == "/metrics" {
        return Access::Needs(Scope::Read);
    }
    if path.starts_with("/v1/") {
        return Access::Needs(if reads { Scope::Read } else { Scope::Generate });
    }
    if let Some(native) = path.strip_prefix("/models/").and_then(|rest| rest.split_once('/')) {
        let inner = format!("/{}", native.1);
        return match inner.as_str() {
            inner if reads && (is_document(inner) || inner == "/dashboard") => Access::Public,
            "/unload" if !reads => Access::Needs(Scope::Admin),
            // A WebSocket opens with a GET and generates.
            "/stream" => Access::Needs(Scope::Generate),
            // These have bodies and change nothing.
            "/tokenize" | "/detokenize" => Access::Needs(Scope::Read),
            _ => Access::Needs(if reads { Scope::Read } else { Scope::Generate }),
        };
    }
    Access::Token
}

/// The pages that say what this is and whether it is well; the same on the gateway and on every service. (A text service has a
/// `/dashboard` besides, which asks for a token by itself.)
fn is_document(path: &str) -> bool {
    matches!(path, "/" | "/health" | "/ready" | "/openapi.json" | "/docs" | "/.well-known/jwks.json")
        || path.starts_with("/docs/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_path_needs() {
        use Access::{Needs, Public, Token};
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        for (method, path, expected) in [
            (&get, "/", Public),
            (&get, "/health", Public),
            (&get, "/ready", Public),
            (&get, "/docs/index.html", Public),
            (&get, "/openapi.json", Public),
            (&get, "/.well-known/jwks.json", Public),
            (&get, "/metrics", Needs(Scope::Read)),
            (&get, "/v1/models", Needs(Scope::Read)),
            (&get, "/v1/videos/x/content", Needs(Scope::Read)),
            (&post, "/v1/videos", Needs(Scope::Generate)),
            (&delete, "/v1/videos/x", Needs(Scope::Generate)),
            (&post, "/v1/chat/completions", Needs(Scope::Generate)),
            (&post, "/v1/completions", Needs(Scope::Generate)),
            (&get, "/models/qwen3-4b/dashboard", Public),
            (&get, "/models/qwen3-4b/telemetry", Needs(Scope::Read)),
            (&get, "/models/qwen3-4b/stream", Needs(Scope::Generate)),
            (&post, "/models/qwen3-4b/tokenize", Needs(Scope::Read)),
            (&post, "/models/qwen3-4b/v1/chat/completions", Needs(Scope::Generate)),
            (&get, "/models/wan21/", Public),
            (&get, "/models/wan21/health", Public),
            (&get, "/models/wan21/.well-known/jwks.json", Public),
            (&get, "/models/wan21/info", Needs(Scope::Read)),
            (&get, "/models/wan21/metrics", Needs(Scope::Read)),
            (&post, "/models/wan21/generate", Needs(Scope::Generate)),
            (&post, "/models/wan21/load", Needs(Scope::Generate)),
            (&post, "/models/wan21/unload", Needs(Scope::Admin)),
            (&delete, "/models/wan21/jobs/x", Needs(Scope::Generate)),
            (&post, "/models/wan21/health", Needs(Scope::Generate)),
            (&get, "/healthz", Token),
            (&get, "/docsx", Token),
            (&get, "/models/wan21", Token),
            (&get, "/nothing", Token),
        ] {
            assert_eq!(access(method, path), expected, "{method} {path}");
        }
    }
}
