//! The HTTP API of a service: from one list of handlers and one route table follow the router, the OpenAPI document and the
//! endpoint list of `GET /`.

use std::sync::OnceLock;

use actix_web::{
    HttpResponse, Route,
    guard::fn_guard,
    http::{Method, header},
    web,
};
use utoipa::openapi::{HttpMethod, OpenApi, RefOr, path::Operation, schema::Schema};
use videosdgx_api::{Code, Endpoint, routes::RouteTable};

use crate::{
    Failure,
    openapi::{HEAD_SUMMARY, complete_document},
    routes::HANDLERS,
};

/// A handler with its method, path and OpenAPI operation, as its `#[utoipa::path]` declares them. Made by [`routes!`].
///
/// [`routes!`]: crate::routes!
pub struct RouteHandler {
    #[doc(hidden)]
    pub methods: fn() -> Vec<HttpMethod>,
    #[doc(hidden)]
    pub path: fn() -> String,
    #[doc(hidden)]
    pub tags: fn() -> Vec<&'static str>,
    #[doc(hidden)]
    pub operation: fn() -> Operation,
    #[doc(hidden)]
    pub schemas: fn(&mut Vec<(String, RefOr<Schema>)>),
    #[doc(hidden)]
    pub route: fn() -> Route,
}

/// A list of [`RouteHandler`]s from `module::handler` paths, each a function with `#[utoipa::path]`.
///
/// ```
/// mod pages {
///     /// Says hello
///     #[utoipa::path(get, path = "/hello", responses((status = 200, body = String)))]
///     pub async fn hello() -> &'static str {
///         "hello"
///     }
/// }
///
/// let handlers: &[videosdgx_shell::RouteHandler] = videosdgx_shell::routes![pages::hello];
/// assert_eq!(handlers.len(), 1);
/// ```
#[macro_export]
macro_rules! routes {
    ($($module:ident :: $handler:ident),* $(,)?) => {
        $crate::__private::paste! {
            &[$($crate::RouteHandler {
                methods: <$module::[<__path_ $handler>] as $crate::__private::utoipa::Path>::methods,
                path: <$module::[<__path_ $handler>] as $crate::__private::utoipa::Path>::path,
                tags: <$module::[<__path_ $handler>] as $crate::__private::utoipa::__dev::Tags<'static>>::tags,
                operation: <$module::[<__path_ $handler>] as $crate::__private::utoipa::Path>::operation,
                schemas:
                    <$module::[<__path_ $handler>] as $crate::__private::utoipa::__dev::SchemaReferences>::schemas,
                route: || $crate::__private::actix_web::web::route().to($module::$handler),
            }),*]
        }
    };
}

/// The API of one kind of service: its handlers, the shell's handlers, and the route table of both.
///
/// ```
/// use videosdgx_api::routes::SHELL_SERVICE;
/// use videosdgx_shell::ServiceApi;
///
/// // A service without routes of its own.
/// static API: ServiceApi = ServiceApi::new(SHELL_SERVICE, &[]);
/// assert!(API.mismatches().is_empty());
/// ```
pub struct ServiceApi {
    table: RouteTable,
    handlers: &'static [RouteHandler],
    endpoints: OnceLock<Vec<Endpoint>>,
}

impl std::fmt::Debug for ServiceApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceApi").field("table", &self.table).finish_non_exhaustive()
    }
}

impl ServiceApi {
    /// The API of `handlers` and of the shell's own handlers; `table` has the routes of both.
    #[must_use]
    pub const fn new(table: RouteTable, handlers: &'static [RouteHandler]) -> Self {
        Self { table, handlers, endpoints: OnceLock::new() }
    }

    /// The route table.
    #[must_use]
    pub fn table(&self) -> RouteTable {
        self.table
    }

    fn handlers(&self) -> impl Iterator<Item = &'static RouteHandler> {
        HANDLERS.iter().chain(self.handlers)
    }

    /// Registers all handlers. A method that a path does not have is answered with 405 and `Allow`.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        let mut by_path: Vec<(String, Vec<&RouteHandler>)> = Vec::new();
        for handler in self.handlers() {
            let path = (handler.path)();
            match by_path.iter_mut().find(|(known, _)| *known == path) {
                Some((_, handlers)) => handlers.push(handler),
                None => by_path.push((path, vec![handler])),
            }
        }
        for (path, handlers) in by_path {
            let mut resource = web::resource(&path);
            let mut allowed = Vec::new();
            for handler in handlers {
                let methods = self.methods(handler, &path);
                allowed.extend(methods.iter().cloned());
                let guard = fn_guard(move |request| methods.contains(&request.head().method));
                resource = resource.route((handler.route)().guard(guard));
            }
            config.service(resource.default_service(method_not_allowed(&allowed)));
        }
    }

    /// The methods that a handler answers: those that it declares, and `HEAD` with `GET` unless the table excludes it.
    fn methods(&self, handler: &RouteHandler, path: &str) -> Vec<Method> {
        let mut methods: Vec<Method> = (handler.methods)().iter().map(http_method).collect();
        let head = self.table.declared("GET", path).is_none_or(|route| route.head);
        if head && methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        methods
    }

    /// Adds all operations to `document`, with their access and error responses, under the title of the service `name`.
    #[must_use]
    pub fn document(&self, mut document: OpenApi, name: &str) -> OpenApi {
        let mut schemas = Vec::new();
        for handler in self.handlers() {
            (handler.schemas)(&mut schemas);
            let (path, mut operation) = ((handler.path)(), (handler.operation)());
            let tags = (handler.tags)().into_iter().map(str::to_owned);
            operation.tags.get_or_insert_default().extend(tags);
            document.paths.add_path_operation(path, (handler.methods)(), operation);
        }
        document.components.get_or_insert_default().schemas.extend(schemas);
        complete_document(document, name, self.table)
    }

    /// The endpoints that `GET /` lists: all but the files of the documentation.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.endpoints.get_or_init(|| {
            let endpoints = self.handlers().flat_map(|handler| {
                let (path, summary) = ((handler.path)(), (handler.operation)().summary.unwrap_or_default());
                (handler.methods)().into_iter().map(move |method| Endpoint {
                    method: http_method(&method).to_string(),
                    path: path.clone(),
                    description: match method {
                        HttpMethod::Head => HEAD_SUMMARY.to_owned(),
                        _ => summary.clone(),
                    },
                })
            });
            endpoints.filter(|endpoint| !endpoint.path.starts_with("/docs/")).collect()
        })
    }

    /// Handlers without an entry in the table, and entries without a handler: for tests, which require that there are none.
    #[must_use]
    pub fn mismatches(&self) -> Vec<String> {
        let handled = |method: &str, path: &str| {
            self.handlers().any(|handler| {
                (handler.path)() == path
                    && (handler.methods)().iter().any(|known| http_method(known) == method)
            })
        };
        let unhandled = self
            .table
            .iter()
            .filter(|route| !handled(route.method.as_str(), route.path))
            .map(|route| format!("{} {} has no handler", route.method.as_str(), route.path));
        let undeclared = self.handlers().flat_map(|handler| {
            let path = (handler.path)();
            let methods = (handler.methods)();
            methods.into_iter().filter_map(move |method| {
                let method = http_method(&method);
                let declared = match method {
                    Method::HEAD => self.table.declared("GET", &path).filter(|route| route.head),
                    _ => self.table.declared(method.as_str(), &path),
                };
                declared.is_none().then(|| format!("{method} {path} is not in the route table"))
            })
        });
        unhandled.chain(undeclared).collect()
    }
}

/// 405 with the allowed methods.
fn method_not_allowed(allowed: &[Method]) -> Route {
    let order = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
    let allow: Vec<&str> =
        order.iter().filter(|method| allowed.contains(method)).map(Method::as_str).collect();
    let allow = allow.join(", ");
    web::to(move || {
        let allow = allow.clone();
        async move {
            let problem = Failure::new(Code::MethodNotAllowed, format!("this path allows {allow}"));
            let mut response = HttpResponse::from_error(problem);
            if let Ok(value) = header::HeaderValue::from_str(&allow) {
                response.headers_mut().insert(header::ALLOW, value);
            }
            response
        }
    })
}

fn http_method(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}
