//! Tool calling: tools of a request, formats and grammars of calls, and incremental parsing of calls from the output.

mod arguments;
mod call_id;
mod choice;
mod format;
mod grammar;
mod hermes;
mod json;
mod markers;
mod output;
mod schema;
mod tagged;
mod toolset;

pub use self::choice::ToolChoice;
pub use self::format::{OutputFormat, ToolFormat};
pub use self::grammar::tool_constraint;
pub use self::output::{OutputDelta, OutputParser, ToolCallDelta};
pub use self::toolset::{Tool, ToolError, ToolSet};

pub(crate) use self::markers::Markers;
