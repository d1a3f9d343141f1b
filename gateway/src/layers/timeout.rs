//! The timeout of a response.

use videosdgx_api::Code;

use crate::Gateway;
use crate::config::duration;
use crate::failure::Failure;

/// Fails with 504 when the response does not begin in time. The duration of its body is not limited.
pub(crate) async fn with_timeout<T>(
    gateway: &Gateway,
    answer: impl Future<Output = T>,
) -> Result<T, Failure> {
    let limit = duration(gateway.config.limits.response_seconds);
    tokio::time::timeout(limit, answer)
        .await
        .map_err(|_| Failure::new(Code::Timeout, "the service did not answer in time"))
}
