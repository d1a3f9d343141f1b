//! Formats of tool calls and reasoning, detected from a model's template.

/// Format of a model's tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolFormat {
    /// `<tool_call>\n{"name": "f", "arguments": {…}}\n</tool_call>` (Qwen 3, Qwen 3 VL and many others).
    Hermes,
    /// `<tool_call>\n<function=f>\n<parameter=p>\nvalue\n</parameter>\n</function>\n</tool_call>` (Qwen 3 Coder).
    QwenXml,
    /// `<tool_call>f<arg_key>p</arg_key><arg_value>value</arg_value></tool_call>` (GLM 4.5 and later).
    Glm,
}

impl ToolFormat {
    /// The name in `/info`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::QwenXml => "qwen_xml",
            Self::Glm => "glm",
        }
    }
}

/// Format of a model's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputFormat {
    /// Format of tool calls; `None`: the model does not support tools.
    pub tools: Option<ToolFormat>,
    /// Whether the output may begin with reasoning between `<think>` and `</think>`.
    pub reasoning: bool,
}

impl OutputFormat {
    /// Detects the format from the source of a chat template.
    #[must_use]
    pub fn of_template(source: &str) -> Self {
        let tools = if source.contains("<arg_key>") {
            Some(ToolFormat::Glm)
        } else if source.contains("<function=") {
            Some(ToolFormat::QwenXml)
        } else if source.contains("<tool_call>") {
            Some(ToolFormat::Hermes)
        } else {
            None
        };
        Self { tools, reasoning: source.contains("</think>") }
    }
}
