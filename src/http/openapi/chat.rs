//! Bodies of inference.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A request in OpenAI's chat format. Other fields of that format travel on to the model.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"model": "alice", "messages": [{"role": "user", "content": "Who are you?"}]}))]
pub struct ChatRequest {
    /// A face (`alice`), a face on a model (`alice@sandbox`) or a model.
    pub model: String,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Whether to answer as a stream of events.
    pub stream: Option<bool>,
    /// `include_usage`: whether the stream's last event tells the usage.
    pub stream_options: Option<BTreeMap<String, Value>>,
    /// Most tokens of the answer.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// The newer name of `max_tokens`.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// Tools that the model may call.
    pub tools: Option<Vec<Value>>,
    /// Which tool it must call.
    pub tool_choice: Option<Value>,
}

/// A message in OpenAI's form.
#[derive(Debug, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// A text, or a list of parts.
    pub content: Option<Value>,
}

/// A finished answer in OpenAI's format. A stream has events with `chat.completion.chunk` objects
/// and ends with `[DONE]`.
#[derive(Debug, ToSchema)]
pub struct ChatCompletion {
    /// The answer's id.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: i64,
    /// What the request named.
    pub model: String,
    /// The answer.
    pub choices: Vec<Value>,
    /// Billed tokens.
    pub usage: Option<BTreeMap<String, Value>>,
}

/// A request in Anthropic's Messages format. Other fields of that format travel on.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"model": "sandbox", "max_tokens": 100,
    "messages": [{"role": "user", "content": "Who are you?"}]}))]
pub struct MessagesRequest {
    /// The model.
    pub model: String,
    /// Most tokens of the answer.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// What the model is told first: a text, or a list of blocks.
    pub system: Option<Value>,
    /// Whether to answer as a stream of events.
    pub stream: Option<bool>,
    /// 0 to 1.
    pub temperature: Option<f64>,
    /// Tools that the model may call.
    pub tools: Option<Vec<Value>>,
    /// Which tool it must call.
    pub tool_choice: Option<Value>,
}

/// A finished answer in Anthropic's format.
#[derive(Debug, ToSchema)]
pub struct Message {
    /// The answer's id.
    pub id: String,
    /// `message`.
    #[schema(rename = "type")]
    pub r#type: String,
    /// `assistant`.
    pub role: String,
    /// What the request named.
    pub model: String,
    /// The answer's blocks.
    pub content: Vec<Value>,
    /// Why it ended.
    pub stop_reason: Option<String>,
    /// Billed tokens.
    pub usage: BTreeMap<String, Value>,
}

/// A request in OpenAI's Responses format. Other fields of that format are refused or travel on.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"model": "alice", "input": "Who are you?"}))]
pub struct ResponsesRequest {
    /// A face, a face on a model, or a model.
    pub model: String,
    /// A text, or a list of items.
    pub input: Value,
    /// What the model is told first.
    pub instructions: Option<String>,
    /// Whether to answer as a stream of events.
    pub stream: Option<bool>,
    /// Most tokens of the answer.
    #[schema(minimum = 1)]
    pub max_output_tokens: Option<u64>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// Tools that the model may call.
    pub tools: Option<Vec<Value>>,
}

/// A finished answer in OpenAI's Responses format.
#[derive(Debug, ToSchema)]
pub struct ResponseObject {
    /// The answer's id.
    pub id: String,
    /// `response`.
    pub object: String,
    /// `completed` or `incomplete`.
    pub status: String,
    /// What the request named.
    pub model: String,
    /// The answer's items.
    pub output: Vec<Value>,
    /// Billed tokens.
    pub usage: Option<BTreeMap<String, Value>>,
}

/// How many tokens a request has.
#[derive(Debug, ToSchema)]
pub struct TokenCount {
    /// Tokens of the input.
    pub input_tokens: u64,
}

/// All models in one page, in OpenAI's form; with the header `anthropic-version`, and below
/// `/v1/anthropic`, in Anthropic's form.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"object": "list", "data": [{"id": "sandbox", "object": "model",
    "created": 1_767_225_600, "owned_by": "sandbox", "provider": "sandbox"}]}))]
pub struct ModelList {
    /// `list`, in OpenAI's form.
    #[schema(nullable = false)]
    pub object: Option<String>,
    /// The models.
    pub data: Vec<Model>,
}

/// A model, in OpenAI's or Anthropic's form.
#[derive(Debug, ToSchema)]
pub struct Model {
    /// The name that requests use.
    pub id: String,
    /// `model`, in OpenAI's form.
    #[schema(nullable = false)]
    pub object: Option<String>,
    /// Seconds since 1970, in OpenAI's form.
    #[schema(nullable = false)]
    pub created: Option<i64>,
    /// Its provider, in OpenAI's form.
    #[schema(nullable = false)]
    pub owned_by: Option<String>,
    /// A name for people, in Anthropic's form.
    #[schema(nullable = false)]
    pub display_name: Option<String>,
}
