//! The routes of a text service in addition to the shell's, one group of paths per file.

pub(crate) mod completions;
pub(crate) mod generate;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod socket;
pub(crate) mod status;
pub(crate) mod telemetry;
pub(crate) mod tokens;

use videosdgx_api::routes::TEXT_SERVICE;
use videosdgx_shell::{ServiceApi, routes};

/// Handlers of the routes in [`videosdgx_api::routes::TEXT`]. They need a `web::Data<TextService>` besides the shell.
pub(crate) static API: ServiceApi = ServiceApi::new(
    TEXT_SERVICE,
    routes![
        status::info,
        completions::chat,
        completions::complete,
        models::list,
        models::retrieve,
        generate::generate,
        socket::socket,
        tokens::tokenize,
        tokens::detokenize,
        metrics::metrics,
        telemetry::telemetry,
        telemetry::dashboard,
    ],
);

#[cfg(test)]
mod tests {
    #[test]
    fn handlers_and_route_table_agree() {
        assert_eq!(super::API.mismatches(), Vec::<String>::new());
    }
}
