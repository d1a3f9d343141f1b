//! The routes of a video service in addition to the shell's, one group of paths per file.

pub(crate) mod download;
pub(crate) mod events;
pub(crate) mod generate;
pub(crate) mod jobs;
pub(crate) mod loras;
pub(crate) mod metrics;
pub(crate) mod status;

use videosdgx_api::routes::VIDEO_SERVICE;
use videosdgx_shell::{ServiceApi, routes};

/// Handlers of the routes in [`videosdgx_api::routes::VIDEO`]. They need a `web::Data<Service>` besides the shell.
pub(crate) static API: ServiceApi = ServiceApi::new(
    VIDEO_SERVICE,
    routes![
        status::info,
        loras::list,
        generate::generate,
        generate::batch,
        jobs::list,
        jobs::job,
        jobs::delete,
        events::events,
        download::download,
        status::queue,
        metrics::metrics,
    ],
);

#[cfg(test)]
mod tests {
    #[test]
    fn handlers_and_route_table_agree() {
        assert_eq!(super::API.mismatches(), Vec::<String>::new());
    }
}
