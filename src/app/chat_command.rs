//! `faces chat`: the same as the `curl`, in the terminal.

use std::{collections::HashMap, process::ExitCode, sync::Arc};

use bytes::Bytes;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    App, admin_socket,
    commands::{administer, complain, print_note, print_text, start_failed},
    run_file,
};
use crate::{
    config::{ChatArgs, DatabaseUrl, Settings},
    domain::{FaceName, ModelSelector},
    faces::Formula,
    flows::admin::AdminRequest,
    providers::{
        Catalog, CatalogOptions, Dispatch, Endpoint, Providers, SentMark, UpstreamResponse,
    },
    wire::SseDecoder,
};

const FAILED: u8 = 1;
/// 128 + SIGINT, as shells show it.
const INTERRUPTED: u8 = 130;
/// A model of the embedded catalog whose provider speaks OpenAI's format: this server does too.
const OPENAI_MODEL: &str = "gpt-4o-mini";
/// Most bytes of an answer that is not streamed, or of an error.
const BODY_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// Asks and prints until the answer ends or Ctrl-C: then the connection is closed, and the server
/// bills what was produced.
pub(super) async fn run(settings: Settings, chat: ChatArgs) -> ExitCode {
    let running = match run_file::read(&settings.data_dir) {
        Some(running) if is_alive(&settings, &running).await => Some(running),
        _ => None,
    };
    let own_server = chat.url.is_none() && running.is_none();
    let app = if own_server { Some(settings.clone()) } else { None };
    let app = match app {
        Some(mut settings) => {
            settings.listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            match App::build_quietly(settings).await {
                Ok(app) => Some(app),
                Err(error) => return start_failed(&error),
            }
        }
        None => None,
    };
    let url = match (&chat.url, &app, &running) {
        (Some(url), _, _) => url.clone(),
        (None, Some(app), _) => app.url().to_owned(),
        (None, None, Some(running)) => running.url.clone(),
        (None, None, None) => settings.local_url(),
    };
    let code = tokio::select! {
        code = ask(&settings, &chat, &url) => code,
        _ = tokio::signal::ctrl_c() => {
            print_text("\n");
            ExitCode::from(INTERRUPTED)
        }
    };
    if let Some(app) = app {
        app.run_until(async {}).await;
    }
    code
}

/// Whether the server of a run file lives: a crash leaves the file behind.
async fn is_alive(settings: &Settings, running: &run_file::RunningServer) -> bool {
    if matches!(settings.database(), DatabaseUrl::Sqlite(_)) {
        return admin_socket::is_served(&settings.data_dir).await;
    }
    let address = running.url.trim_start_matches("http://").trim_end_matches('/');
    tokio::net::TcpStream::connect(address).await.is_ok()
}

async fn ask(settings: &Settings, chat: &ChatArgs, url: &str) -> ExitCode {
    match answer(settings, chat, url).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&problem);
            ExitCode::from(FAILED)
        }
    }
}

async fn answer(settings: &Settings, chat: &ChatArgs, url: &str) -> Result<(), String> {
    let key = match &chat.key {
        Some(key) => key.clone(),
        None => own_key(settings, &chat.model_selector).await?,
    };
    let providers = client(settings, url, key)?;
    let provider =
        providers.catalog().find(OPENAI_MODEL).ok_or("the embedded catalog is incomplete")?;
    let dispatch = Dispatch {
        provider: Arc::clone(&provider.provider),
        endpoint: Endpoint::ChatCompletions,
        query: None,
        headers: Vec::new(),
        body: Bytes::from(request(chat).to_string()),
        stream: !chat.no_stream,
        sent: SentMark::default(),
    };
    let response = providers
        .dispatch(dispatch)
        .await
        .map_err(|error| format!("no answer from {url}: {error}; is the server running?"))?;
    if response.status != 200 {
        return Err(refusal(response).await);
    }
    if chat.no_stream { print_whole(response).await } else { print_stream(response).await }
}

fn request(chat: &ChatArgs) -> Value {
    let model = match (&chat.model, ModelSelector::split(&chat.model_selector)) {
        (
            Some(llm),
            ModelSelector::FaceOrModel(face) | ModelSelector::FaceWithModel { face, .. },
        ) => {
            format!("{face}@{llm}")
        }
        (Some(llm), ModelSelector::Composite { formula, .. }) => format!("{formula}@{llm}"),
        (None, _) => chat.model_selector.clone(),
    };
    let mut messages = Vec::new();
    if let Some(system) = &chat.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": chat.message}));
    let mut request = json!({"model": model, "messages": messages});
    if !chat.no_stream {
        request["stream"] = json!(true);
        request["stream_options"] = json!({"include_usage": true});
    }
    request
}

/// A key of ten minutes on the account that owns the face: whoever may read the data directory may
/// do that.
async fn own_key(settings: &Settings, model: &str) -> Result<SecretString, String> {
    let face = match ModelSelector::split(model) {
        ModelSelector::FaceOrModel(face) | ModelSelector::FaceWithModel { face, .. } => {
            FaceName::parse(face).ok()
        }
        ModelSelector::Composite { formula, .. } => {
            Formula::parse(formula).ok().and_then(|formula| formula.operands().first().cloned())
        }
    };
    let request = AdminRequest::CreateChatKey { face };
    let made = administer(settings, request).await.map_err(|refusal| {
        format!("{}; or give a key with --key or FACES_API_KEY", refusal.message)
    })?;
    let key = made.get("key").and_then(Value::as_str).ok_or("the server gave no key")?;
    Ok(SecretString::from(key))
}

/// An HTTP client for this server: the pool, with its catalog pointed here.
fn client(settings: &Settings, url: &str, key: SecretString) -> Result<Providers, String> {
    let base_url = format!("{}/v1", url.trim_end_matches('/').trim_end_matches("/v1"));
    let options = CatalogOptions {
        keys: HashMap::from([("OPENAI_API_KEY".to_owned(), key)]),
        base_urls: HashMap::from([("openai".to_owned(), base_url)]),
        ..CatalogOptions::default()
    };
    let catalog = Catalog::load(options).map_err(|error| error.to_string())?;
    Providers::start(Arc::new(catalog), &settings.limits, settings.providers.ca_file.as_deref())
        .map_err(|error| error.to_string())
}

async fn refusal(response: UpstreamResponse) -> String {
    let status = response.status;
    let body = response.body.collect(BODY_BYTES_MAX).await.unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| Some(body.get("error")?.get("message")?.as_str()?.to_owned()));
    format!("{} (HTTP {status})", message.as_deref().unwrap_or("the server refused the request"))
}

async fn print_whole(response: UpstreamResponse) -> Result<(), String> {
    let body = response.body.collect(BODY_BYTES_MAX).await.map_err(|error| error.to_string())?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let text =
        body.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default();
    print_text(&format!("{text}\n"));
    Ok(())
}

async fn print_stream(mut response: UpstreamResponse) -> Result<(), String> {
    let mut decoder = SseDecoder::new(usize::try_from(BODY_BYTES_MAX).unwrap_or(usize::MAX));
    while let Some(chunk) = response.body.next().await {
        decoder.push(chunk.map_err(|error| format!("the answer broke off: {error}"))?);
        while let Some(record) = decoder.next().map_err(|error| error.to_string())? {
            let Some(data) = record.data else { continue };
            if data.as_ref() == b"[DONE]" {
                print_text("\n");
                return Ok(());
            }
            print_event(&data)?;
        }
    }
    Err("the answer ended before it was complete".to_owned())
}

fn print_event(data: &[u8]) -> Result<(), String> {
    let event: Value = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    if let Some(error) = event.get("error") {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("the answer failed");
        return Err(message.to_owned());
    }
    if let Some(text) = event.pointer("/choices/0/delta/content").and_then(Value::as_str) {
        print_text(text);
    }
    if let Some(note) = bill_note(data) {
        print_note(&format!("\n{note}"));
    }
    Ok(())
}

/// The money fields of a usage chunk, as the server wrote them: a float would round them or show
/// them as `5.25e-7`.
#[derive(Deserialize)]
struct Billed<'a> {
    #[serde(borrow)]
    usage: Option<BilledUsage<'a>>,
}

/// See [`Billed`].
#[derive(Deserialize)]
struct BilledUsage<'a> {
    #[serde(borrow)]
    cost_usd: Option<&'a RawValue>,
    #[serde(borrow)]
    balance_usd: Option<&'a RawValue>,
}

/// What the answer cost, when the event tells it.
fn bill_note(event: &[u8]) -> Option<String> {
    let usage = serde_json::from_slice::<Billed<'_>>(event).ok()?.usage?;
    let (cost, balance) = (usage.cost_usd?, usage.balance_usd?);
    Some(format!("[cost {cost} USD, balance {balance} USD]"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_model_flag_replaces_the_model_after_the_at_sign() {
        let chat = ChatArgs {
            model_selector: "alice@gpt-4o".to_owned(),
            message: "Hi".to_owned(),
            url: None,
            key: Some(SecretString::from("sk-faces-x")),
            model: Some("sandbox".to_owned()),
            system: Some("Be brief.".to_owned()),
            no_stream: true,
        };
        let request = request(&chat);
        assert_eq!(request["model"], "alice@sandbox");
        assert_eq!(request["messages"][0]["role"], "system");
        assert!(request.get("stream").is_none());
        assert!(!format!("{chat:?}").contains(chat.key.as_ref().unwrap().expose_secret()));
    }
    #[test]
    fn the_smallest_costs_are_shown_in_plain_digits() {
        let event = br#"{"choices":[],"usage":{"total_tokens":15,"cost_usd":0.000000525,"balance_usd":4.999999475}}"#;
        let note = bill_note(event);
        assert_eq!(note.as_deref(), Some("[cost 0.000000525 USD, balance 4.999999475 USD]"));
        assert_eq!(bill_note(br#"{"choices":[],"usage":null}"#), None);
    }
}
