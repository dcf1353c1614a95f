//! The room over real sockets: what awc does not tell must be told here.

mod cancel;
mod catalog;
mod pool;
mod sandbox;
mod tls;
mod traps;

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::{
    Catalog, CatalogOptions, Dispatch, Endpoint, Provider, Providers, SentMark, models_file,
    test_upstream::Upstream,
};
use crate::config::Limits;

/// A pool whose providers `up` (OpenAI) and `ant` (Anthropic) are at `url`, without keys.
fn pool(url: &str, limit: impl FnOnce(&mut Limits)) -> Providers {
    pool_with(url, limit, None).unwrap()
}

fn pool_with(
    url: &str,
    limit: impl FnOnce(&mut Limits),
    ca_file: Option<&Path>,
) -> Result<Providers, super::SetupError> {
    let text = format!(
        "[provider.up]\nbase_url = \"{url}/v1/\"\n\
         [provider.ant]\nformat = \"anthropic\"\nbase_url = \"{url}\"\n"
    );
    let specs = models_file::read_text(&text).unwrap();
    let catalog = Catalog::build(specs, &CatalogOptions::default()).unwrap();
    let mut limits = Limits::default();
    limit(&mut limits);
    Providers::start(Arc::new(catalog), &limits, ca_file)
}

fn provider(providers: &Providers, name: &str) -> Arc<Provider> {
    Arc::clone(providers.catalog().providers().find(|it| it.name == name).unwrap())
}

/// A chat completion for the provider `up`.
fn chat(providers: &Providers) -> Dispatch {
    Dispatch {
        provider: provider(providers, "up"),
        endpoint: Endpoint::ChatCompletions,
        query: None,
        headers: Vec::new(),
        body: Bytes::from_static(b"{\"model\":\"m\"}"),
        stream: true,
        sent: SentMark::default(),
    }
}

/// Sends one chat request to `upstream` and reads the whole body.
async fn exchange(
    upstream: &Upstream,
    limit: impl FnOnce(&mut Limits),
) -> Result<(u16, Bytes), super::ProviderError> {
    let providers = pool(&upstream.url(), limit);
    let response = providers.dispatch(chat(&providers)).await?;
    let status = response.status;
    Ok((status, response.body.collect(1 << 30).await?))
}
