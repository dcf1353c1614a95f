//! Keys and addresses of the model providers.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::environment::Environment;

/// `OPENAI_BASE_URL` when nothing else is said.
pub const OPENAI_BASE_URL_DEFAULT: &str = "https://api.openai.com/v1";
/// `ANTHROPIC_BASE_URL` when nothing else is said (its paths begin with `/v1`).
pub const ANTHROPIC_BASE_URL_DEFAULT: &str = "https://api.anthropic.com";
/// `FIREWORKS_BASE_URL` when nothing else is said.
pub const FIREWORKS_BASE_URL_DEFAULT: &str = "https://api.fireworks.ai/inference/v1";

/// The platform's own provider keys, and where the providers are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Providers")]
pub struct ProviderSettings {
    /// Key for OpenAI; with it, or with another base URL, its models are offered
    #[arg(long, env = "OPENAI_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub openai_api_key: Option<SecretString>,

    /// OpenAI's API, or any OpenAI-compatible server (Ollama, vLLM, llama.cpp: no key needed), up to and with /v1
    #[arg(long, env = "OPENAI_BASE_URL", value_name = "URL", default_value = OPENAI_BASE_URL_DEFAULT, value_parser = base_url)]
    pub openai_base_url: String,

    /// Key for Anthropic; with it its models are offered
    #[arg(long, env = "ANTHROPIC_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub anthropic_api_key: Option<SecretString>,

    /// Anthropic's API, without /v1
    #[arg(long, env = "ANTHROPIC_BASE_URL", value_name = "URL", default_value = ANTHROPIC_BASE_URL_DEFAULT, value_parser = base_url)]
    pub anthropic_base_url: String,

    /// Key for Fireworks; with it its models are offered
    #[arg(long, env = "FIREWORKS_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub fireworks_api_key: Option<SecretString>,

    /// Fireworks' API, up to and with /v1
    #[arg(long, env = "FIREWORKS_BASE_URL", value_name = "URL", default_value = FIREWORKS_BASE_URL_DEFAULT, value_parser = base_url)]
    pub fireworks_base_url: String,

    /// PEM file of further certificate authorities to trust for providers (a company's proxy, a test)
    #[arg(long = "provider-ca-file", env = "FACES_PROVIDER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    #[arg(skip)]
    pub(super) environment: Environment,
}

impl ProviderSettings {
    /// The value of a key variable that a models file names (`key_variable = "MY_VLLM_KEY"`), flags
    /// included; `None` when it is unset or empty.
    #[must_use]
    pub fn key(&self, variable: &str) -> Option<SecretString> {
        match variable {
            "OPENAI_API_KEY" => self.openai_api_key.clone(),
            "ANTHROPIC_API_KEY" => self.anthropic_api_key.clone(),
            "FIREWORKS_API_KEY" => self.fireworks_api_key.clone(),
            _ => self.environment.secret(variable).cloned(),
        }
    }
}

/// Checks an absolute http(s) URL and drops slashes at its end, so that paths can be appended.
fn base_url(text: &str) -> Result<String, &'static str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or("it must start with https:// or http://")?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Err("it names no host");
    }
    if host.contains('@') {
        return Err("it must not hold a user or password; use the provider's key variable");
    }
    if text.contains(['?', '#']) || text.contains(char::is_whitespace) {
        return Err("it must not hold `?`, `#` or spaces");
    }
    Ok(text.trim_end_matches('/').to_owned())
}
