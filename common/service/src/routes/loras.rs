//! The LoRAs that requests can name.

use actix_web::{HttpResponse, web};
use videosdgx_api::LoraList;
use videosdgx_shell::{Caller, HandlerResult, Read, run_blocking};

use crate::service::Service;

/// Installed LoRAs
///
/// The files in the service's folder of LoRAs, read at each request. `error` says why one cannot be used with the present
/// checkpoint.
#[utoipa::path(get, path = "/loras", tag = "model", responses((status = 200, body = LoraList)))]
pub(crate) async fn list(_: Caller<Read>, service: web::Data<Service>) -> HandlerResult {
    service.shell.refuse_when_draining()?;
    let shared = service.clone().into_inner();
    let loras = run_blocking(move || shared.engine.loras()).await??;
    Ok(HttpResponse::Ok().json(LoraList { loras }))
}
