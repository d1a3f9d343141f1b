//! Limits on connections and request bodies, used by the gateway and by every service: time limits in every phase of a
//! connection ([`TimedStream`]), a share of the connections for each address ([`Connections`]), requests whose framing is
//! ambiguous ([`RequestTracker`]), the rate of a body ([`Pace`]), the bytes of bodies that are held at once ([`BodyBudget`]), and the frames of a WebSocket ([`FrameTracker`]).

mod admission;
mod budget;
mod descriptors;
mod frames;
mod pace;
mod refusal;
mod requests;
mod socket;
mod stream;

pub use admission::{Admitted, ConnectionLimits, Connections, network};
pub use budget::{BodyBudget, BodyLease, BudgetExceeded};
pub use descriptors::raise_descriptor_limit;
pub use frames::{FrameHeader, FrameTracker};
pub use pace::{Pace, TooSlow};
pub use refusal::refuse;
pub use requests::{Position, RequestTracker, Violation, names_websocket};
pub use socket::tune;
pub use stream::{ConnectionHandle, RequestGuard, TimedStream, Timeouts};
