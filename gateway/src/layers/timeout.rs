use videosdgx_api::Code;

use crate::Gateway;
use crate::config::duration;
use crate::failure::Failure;

/// An answer must begin in time; how long its body takes is its own business.
pub(crate) async fn in_time<T>(gateway: &Gateway, answer: impl Future<Output = T>) -> Result<T, Failure> {
    let limit = duration(gateway.config.limits.response_seconds);
    tokio::time::timeout(limit, answer)
        .await
        .map_err(|_| Failure::new(Code::Timeout, "the service did not answer in time"))
}
