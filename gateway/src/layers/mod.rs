//! The layers of the gateway, one per file. [`crate::stack`] defines their order.

pub(crate) mod access;
pub(crate) mod authenticate;
pub(crate) mod body_limit;
pub(crate) mod cors;
pub(crate) mod in_flight;
pub(crate) mod rate;
pub(crate) mod request_id;
pub(crate) mod security_headers;
pub(crate) mod timeout;
pub(crate) mod trace;
