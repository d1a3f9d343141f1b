//! How a model writes calls and thoughts, recognised by its template.

/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolFormat {
    /// `<tool_call>\n{"name": "f", "arguments": {…}}\n</tool_call>` (Qwen 3, Qwen 3 VL and many others).
    Hermes,
    /// `<tool_call>\n<function=f>\n<parameter=p>\nvalue\n</parameter>\n</function>\n</tool_call>` (Qwen 3 Coder).
    QwenXml,
    /// `<tool_call>f<arg_key>p</arg_key><arg_value>value</arg_value></tool_call>` (GLM 4.5 and later).
    Glm,
}

/// How a model writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputFormat {
    /// None: it was not taught to call tools.
    pub tools: Option<ToolFormat>,
    /// It may think between `<think>` and `</think>` first.
    pub reasoning: bool,
}

impl OutputFormat {
    /// Read from the text of a chat template.
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
