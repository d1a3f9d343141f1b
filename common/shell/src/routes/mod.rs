//! The routes of every service, one group of paths per file.

pub mod docs;
pub mod model;
pub mod status;

use crate::RouteHandler;

/// Handlers of the routes in [`videosdgx_api::routes::SHELL`].
pub(crate) const HANDLERS: &[RouteHandler] = crate::routes![
    status::root,
    status::health,
    status::ready,
    model::load,
    model::unload,
    docs::openapi,
    docs::leads_to_docs,
    docs::page,
    docs::file,
    docs::jwks,
];
