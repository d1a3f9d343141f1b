//! The routes of every service: one table for each kind of service, from which routers, OpenAPI documents, scopes and the
//! gateway's access rules follow.
//!
//! A service registers a handler for every entry of its tables; a test of each service fails when an entry has no handler
//! or a handler no entry.
//!
//! ```
//! use videosdgx_api::Scope;
//! use videosdgx_api::routes::{Access, ErrorFormat, TEXT_SERVICE};
//!
//! let route = TEXT_SERVICE.find("POST", "/v1/chat/completions").unwrap();
//! assert_eq!(route.access, Access::Scope(Scope::Generate));
//! assert_eq!(route.error_format, ErrorFormat::OpenAi);
//! assert!(TEXT_SERVICE.find("GET", "/jobs/text-1").is_none());
//! ```

mod shell;
mod text;
mod video;

use crate::{Code, Scope};

pub use shell::SHELL;
pub use text::TEXT;
pub use video::VIDEO;

/// Routes of a service that has none besides the shell's.
pub const SHELL_SERVICE: RouteTable = RouteTable(&[SHELL]);
/// Routes of a video service.
pub const VIDEO_SERVICE: RouteTable = RouteTable(&[SHELL, VIDEO]);
/// Routes of a text service.
pub const TEXT_SERVICE: RouteTable = RouteTable(&[SHELL, TEXT]);
/// Routes of every kind of service: for a caller that does not know the kind. A path that several kinds have has the same
/// access and error format in all of them.
pub const ANY_SERVICE: RouteTable = RouteTable(&[SHELL, VIDEO, TEXT]);

/// A method that a route is declared for. `HEAD` follows from `GET`, see [`Route::head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
}

impl Method {
    /// The name in HTTP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Public,
    /// A token with this scope.
    Scope(Scope),
}

/// How errors of a route are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// RFC 9457 problem documents, [`crate::Problem`].
    Native,
    /// OpenAI's error object, [`crate::openai::ErrorBody`].
    OpenAi,
}

/// One operation of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// Path template: `/jobs/{id}`. A parameter stands for one segment that is not empty.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How its errors are written.
    pub error_format: ErrorFormat,
    /// Problem codes that it can answer with, besides 401, 403 and 500.
    pub error_codes: &'static [Code],
    /// Whether `HEAD` is answered like `GET`, without a body.
    pub head: bool,
}

impl Route {
    const fn new(method: Method, path: &'static str, access: Access, error_codes: &'static [Code]) -> Self {
        let head = matches!(method, Method::Get);
        Self { method, path, access, error_format: ErrorFormat::Native, error_codes, head }
    }

    const fn get(path: &'static str, access: Access, error_codes: &'static [Code]) -> Self {
        Self::new(Method::Get, path, access, error_codes)
    }

    const fn post(path: &'static str, access: Access, error_codes: &'static [Code]) -> Self {
        Self::new(Method::Post, path, access, error_codes)
    }

    const fn delete(path: &'static str, access: Access, error_codes: &'static [Code]) -> Self {
        Self::new(Method::Delete, path, access, error_codes)
    }

    /// The same route with OpenAI's error objects.
    const fn openai(self) -> Self {
        Self { error_format: ErrorFormat::OpenAi, ..self }
    }

    /// The same route without `HEAD`: its answer is a stream.
    const fn without_head(self) -> Self {
        Self { head: false, ..self }
    }

    /// Whether the path template matches `path`.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if self.path == path {
            return true;
        }
        // Most routes are decided by what is before their first parameter.
        let Some(literal) = self.path.find('{') else { return false };
        if !path.as_bytes().starts_with(&self.path.as_bytes()[..literal]) {
            return false;
        }
        let (mut template, mut segments) = (self.path.split('/'), path.split('/'));
        loop {
            match (template.next(), segments.next()) {
                (None, None) => return true,
                (Some(expected), Some(segment)) => {
                    let parameter = expected.starts_with('{') && !segment.is_empty();
                    if expected != segment && !parameter {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }
}

/// All routes of one kind of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTable(&'static [&'static [Route]]);

impl RouteTable {
    /// Every route.
    pub fn iter(self) -> impl Iterator<Item = &'static Route> {
        self.0.iter().copied().flatten()
    }

    /// The route of a request. `HEAD` is not mapped to `GET`.
    #[must_use]
    pub fn find(self, method: &str, path: &str) -> Option<&'static Route> {
        self.iter().find(|route| route.method.as_str() == method && route.matches(path))
    }

    /// The route that is declared with exactly this template.
    #[must_use]
    pub fn declared(self, method: &str, template: &str) -> Option<&'static Route> {
        self.iter().find(|route| route.method.as_str() == method && route.path == template)
    }

    /// How errors at `path` are written, whatever the method. Paths below `/v1` that do not exist have OpenAI's format
    /// where the service has OpenAI's routes.
    #[must_use]
    pub fn error_format(self, path: &str) -> ErrorFormat {
        if let Some(route) = self.iter().find(|route| route.matches(path)) {
            return route.error_format;
        }
        let below_v1 = path == "/v1" || path.starts_with("/v1/");
        if below_v1 && self.iter().any(|route| route.error_format == ErrorFormat::OpenAi) {
            ErrorFormat::OpenAi
        } else {
            ErrorFormat::Native
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_segments() {
        let job = Route::get("/jobs/{id}", Access::Public, &[]);
        for (path, expected) in [
            ("/jobs/a", true),
            ("/jobs/{id}", true),
            ("/jobs/", false),
            ("/jobs", false),
            ("/jobs/a/", false),
            ("/jobs/a/events", false),
            ("/job/a", false),
        ] {
            assert_eq!(job.matches(path), expected, "{path}");
        }
        assert!(Route::get("/", Access::Public, &[]).matches("/"));
        assert!(!Route::get("/docs", Access::Public, &[]).matches("/docs/"));
    }

    #[test]
    fn error_formats_follow_from_the_path() {
        use ErrorFormat::{Native, OpenAi};
        for (path, text, video) in [
            ("/v1/chat/completions", OpenAi, Native),
            ("/v1/no-such-path", OpenAi, Native),
            ("/v1", OpenAi, Native),
            ("/v1x", Native, Native),
            ("/tokenize", OpenAi, Native),
            ("/stream", Native, Native),
            ("/stream/generate", Native, Native),
            ("/jobs/x", Native, Native),
        ] {
            assert_eq!(TEXT_SERVICE.error_format(path), text, "{path}");
            assert_eq!(VIDEO_SERVICE.error_format(path), video, "{path}");
            assert_eq!(ANY_SERVICE.error_format(path), text, "{path}");
        }
    }

    #[test]
    fn a_route_is_declared_once_per_service() {
        for table in [VIDEO_SERVICE, TEXT_SERVICE] {
            for route in table.iter() {
                let same = |other: &&Route| other.method == route.method && other.path == route.path;
                assert_eq!(table.iter().filter(same).count(), 1, "{route:?}");
            }
        }
    }

    /// The gateway does not always know the kind of a service, so the answer must not depend on it.
    #[test]
    fn services_agree_on_routes_that_they_share() {
        for table in [VIDEO_SERVICE, TEXT_SERVICE] {
            for route in table.iter() {
                let any = ANY_SERVICE.find(route.method.as_str(), route.path).unwrap();
                assert_eq!((any.access, any.error_format), (route.access, route.error_format), "{route:?}");
            }
        }
    }
}
