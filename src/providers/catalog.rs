//! The catalog: which models there are, what they cost, and which of them can be used here.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Model, ModelKind, Provider, ProviderKind, SetupError,
    endpoint::check_base_url,
    models_file::{self, ModelSpec, Specs},
};

/// Preferred where `FACES_DEFAULT_MODEL` is not set: cheap, quick and everywhere.
const DEFAULT_MODEL_PREFERRED: &str = "gpt-4o-mini";

/// What the catalog is made of. The environment is read by `config`, never here.
#[derive(Debug, Default)]
pub struct CatalogOptions {
    /// `FACES_MODELS_FILE`.
    pub models_file: Option<PathBuf>,
    /// `FACES_DEFAULT_MODEL`.
    pub default_model: Option<String>,
    /// `FACES_EMBEDDING_MODEL`.
    pub embedding_model: Option<String>,
    /// Values of the providers' key variables, by variable (see [`key_variables`]). An empty
    /// value counts as none.
    pub keys: HashMap<String, SecretString>,
    /// Base URLs that win over the catalog's, by provider (`openai` → `OPENAI_BASE_URL`). One for
    /// a provider that the catalog lacks is ignored.
    pub base_urls: HashMap<String, String>,
}

/// Every model that is known, usable or not. Immutable; share it in an `Arc`.
#[derive(Debug)]
pub struct Catalog {
    models: BTreeMap<String, Arc<Model>>,
    aliases: HashMap<String, String>,
    providers: BTreeMap<String, Arc<Provider>>,
    default_model: Arc<Model>,
    embedding_model: Option<Arc<Model>>,
}

/// The environment variables that hold the providers' keys, the models file's included, so that
/// whoever reads the environment knows what to read.
///
/// # Errors
/// As [`Catalog::load`], for the file's part.
pub fn key_variables(models_file: Option<&std::path::Path>) -> Result<Vec<String>, SetupError> {
    let specs = models_file::read(models_file)?;
    Ok(specs.providers.into_values().filter_map(|provider| provider.key_env).collect())
}

impl Catalog {
    /// Builds the catalog from the embedded one, the file and the environment's values.
    ///
    /// The default model is the one that was named (id or alias; it must be usable), else
    /// `gpt-4o-mini` when usable, else the first usable model by id that is not the sandbox, else
    /// the sandbox.
    ///
    /// # Errors
    /// [`SetupError`]: the file can't be read or is wrong, a base URL or key is unusable, the
    /// default model is unknown or lacks its key, the embedding model is none that can be asked, or
    /// no model is usable at all.
    pub fn load(options: CatalogOptions) -> Result<Self, SetupError> {
        let specs = models_file::read(options.models_file.as_deref())?;
        Self::build(specs, &options)
    }

    pub(super) fn build(specs: Specs, options: &CatalogOptions) -> Result<Self, SetupError> {
        let mut providers = BTreeMap::new();
        for (name, spec) in specs.providers {
            let base_url = match options.base_urls.get(&name) {
                Some(url) if !spec.sandbox => {
                    check_base_url(url).map_err(|problem| SetupError::Provider {
                        provider: name.clone(),
                        problem: format!("its base URL from the environment: {problem}"),
                    })?;
                    url.clone()
                }
                _ => spec.base_url,
            };
            let key = spec.key_env.as_ref().and_then(|variable| options.keys.get(variable));
            // A server of one's own (Ollama, vLLM, llama.cpp) behind the provider's name.
            let key_env = match key {
                None if options.base_urls.contains_key(&name) => None,
                _ => spec.key_env,
            };
            let provider = Provider {
                key: usable_key(&name, key_env.as_deref(), key)?,
                name: name.clone(),
                format: spec.format,
                base_url,
                cancel_stops_billing: spec.cancel_stops_billing,
                kind: if spec.sandbox { ProviderKind::Sandbox } else { ProviderKind::Http },
                key_env,
            };
            providers.insert(name, Arc::new(provider));
        }
        let mut models = BTreeMap::new();
        let mut aliases = HashMap::new();
        for (id, spec) in specs.models {
            let Some(provider) = providers.get(&spec.raw.provider) else {
                continue; // `models_file` has refused such a model already
            };
            aliases.extend(spec.raw.aliases.iter().map(|alias| (alias.clone(), id.clone())));
            models.insert(id.clone(), Arc::new(model(id, spec, Arc::clone(provider))));
        }
        let default_model = default_model(&models, &aliases, options.default_model.as_deref())?;
        let named = options.embedding_model.as_deref();
        let embedding_model =
            named.map(|name| embedding_model(&models, &aliases, name)).transpose()?;
        Ok(Self { models, aliases, providers, default_model, embedding_model })
    }

    /// The usable model of that id or alias; never one that makes embeddings.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Model>> {
        self.known(name).filter(|model| model.is_usable()).map(Arc::clone)
    }

    /// The usable models, by id. Those that make embeddings are not among them: what is listed can
    /// be named in a chat.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values().filter(|model| model.is_usable())
    }

    /// The id of a model that is asked here (a usable one, or the one that makes embeddings) by its
    /// id or alias.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<&str> {
        let asked = |model: &&Arc<Model>| {
            model.is_usable() || self.embedding_model.as_ref().is_some_and(|it| it.id == model.id)
        };
        self.known(name).filter(asked).map(|model| model.id.as_str())
    }

    /// All models, by id, whether usable or not.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// All providers, by name.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    /// Why a known model can't be used, in words for the log; `None` when it can, or when it is
    /// not known.
    #[must_use]
    pub fn unusable_reason(&self, name: &str) -> Option<String> {
        let model = self.known(name).filter(|model| !model.is_usable())?;
        Some(unusable(model))
    }

    /// The model of a request that names none.
    #[must_use]
    pub const fn default_model(&self) -> &Arc<Model> {
        &self.default_model
    }

    /// The model whose embeddings faces are compared by; `None`: the built-in lexical one.
    #[must_use]
    pub const fn embedding_model(&self) -> Option<&Arc<Model>> {
        self.embedding_model.as_ref()
    }

    fn known(&self, name: &str) -> Option<&Arc<Model>> {
        known(&self.models, &self.aliases, name)
    }
}

fn known<'a>(
    models: &'a BTreeMap<String, Arc<Model>>,
    aliases: &HashMap<String, String>,
    name: &str,
) -> Option<&'a Arc<Model>> {
    models.get(name).or_else(|| aliases.get(name).and_then(|id| models.get(id)))
}

fn unusable(model: &Model) -> String {
    match model.kind {
        ModelKind::Chat => missing_key(model),
        ModelKind::Embeddings { .. } => {
            format!("model `{}` makes embeddings and can't chat", model.id)
        }
    }
}

fn missing_key(model: &Model) -> String {
    let variable = model.provider.key_env.as_deref().unwrap_or_default();
    format!("model `{}` needs the key of `{}`: set {variable}", model.id, model.provider.name)
}

/// A key goes into a header: what can't stand there is refused at start and not at the first call.
fn usable_key(
    provider: &str,
    variable: Option<&str>,
    key: Option<&SecretString>,
) -> Result<Option<SecretString>, SetupError> {
    let Some(text) = key.map(|key| key.expose_secret().trim()).filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(SecretString::from(text)));
    }
    Err(SetupError::Provider {
        provider: provider.to_owned(),
        problem: format!(
            "the key in {} holds a character that no key has; copy it again",
            variable.unwrap_or("its variable")
        ),
    })
}

fn model(id: String, spec: ModelSpec, provider: Arc<Provider>) -> Model {
    let ModelSpec {
        raw,
        kind,
        prices,
        tokens_field,
        hidden_reasoning,
        output_tokens_max,
        output_tokens_default,
    } = spec;
    Model {
        kind,
        aliases: raw.aliases,
        display_name: raw.display_name.unwrap_or_else(|| id.clone()),
        provider,
        upstream_id: raw.upstream_id.unwrap_or_else(|| id.clone()),
        context_tokens_max: raw.context_tokens_max,
        output_tokens_max,
        output_tokens_default,
        image_tokens_max: raw.image_tokens_max,
        prices,
        created_at: raw.created,
        accepts_sampling: raw.accepts_sampling,
        adaptive_thinking: raw.adaptive_thinking,
        native_structured_output: raw.native_structured_output,
        accepts_forced_tool_choice: raw.accepts_forced_tool_choice,
        accepts_mid_system: raw.accepts_mid_system,
        tokens_field,
        hidden_reasoning,
        id,
    }
}

fn default_model(
    models: &BTreeMap<String, Arc<Model>>,
    aliases: &HashMap<String, String>,
    named: Option<&str>,
) -> Result<Arc<Model>, SetupError> {
    if let Some(name) = named {
        let Some(model) = known(models, aliases, name) else {
            let ids: Vec<&str> = models.keys().map(String::as_str).collect();
            return Err(SetupError::DefaultModel(format!(
                "FACES_DEFAULT_MODEL: no model is called `{name}`; the catalog has: {}",
                ids.join(", ")
            )));
        };
        if !model.is_usable() {
            let reason = unusable(model);
            return Err(SetupError::DefaultModel(format!(
                "FACES_DEFAULT_MODEL: {reason}, or name another model"
            )));
        }
        return Ok(Arc::clone(model));
    }
    let usable = || models.values().filter(|model| model.is_usable());
    usable()
        .find(|model| model.id == DEFAULT_MODEL_PREFERRED)
        .or_else(|| usable().find(|model| model.provider.kind == ProviderKind::Http))
        .or_else(|| usable().next())
        .map(Arc::clone)
        .ok_or_else(|| {
            SetupError::DefaultModel(
                "no model is usable: set a provider's key, or add a provider without a key_env \
                 to FACES_MODELS_FILE"
                    .to_owned(),
            )
        })
}

/// The model of `FACES_EMBEDDING_MODEL`. That its provider has the endpoint was checked with the
/// models file.
fn embedding_model(
    models: &BTreeMap<String, Arc<Model>>,
    aliases: &HashMap<String, String>,
    name: &str,
) -> Result<Arc<Model>, SetupError> {
    let wrong = |problem: String| Err(SetupError::EmbeddingModel(problem));
    let makes = |model: &&Arc<Model>| matches!(model.kind, ModelKind::Embeddings { .. });
    let Some(model) = known(models, aliases, name) else {
        let ids: Vec<&str> = models.values().filter(makes).map(|model| model.id.as_str()).collect();
        return wrong(format!(
            "no model is called `{name}`; those that make embeddings are: {}",
            ids.join(", ")
        ));
    };
    if !makes(&model) {
        return wrong(format!(
            "model `{}` makes no embeddings; name one with kind = \"embeddings\" (add it to \
             FACES_MODELS_FILE), or unset the variable for the built-in lexical embedding",
            model.id
        ));
    }
    if !model.provider.has_key() {
        return wrong(format!("{}, or unset the variable", missing_key(model)));
    }
    Ok(Arc::clone(model))
}
