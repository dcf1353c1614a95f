//! The catalog: exact prices, honest errors, and which model is the default.

use std::collections::HashMap;

use proptest::prelude::*;
use secrecy::SecretString;

use super::super::{
    Catalog, CatalogOptions, HiddenReasoning, ModelKind, SetupError, key_variables,
    models_file::{pico_per_token, read_text},
};
use crate::{
    domain::TokenPrices,
    wire::{UpstreamFormat, openai_chat::TokensField},
};

fn keys(variables: &[&str]) -> HashMap<String, SecretString> {
    variables.iter().map(|it| ((*it).to_owned(), SecretString::from("sk-test"))).collect()
}

fn with_keys(variables: &[&str]) -> Catalog {
    Catalog::load(CatalogOptions { keys: keys(variables), ..Default::default() }).unwrap()
}

fn ids(catalog: &Catalog) -> Vec<&str> {
    catalog.listed().map(|model| model.id.as_str()).collect()
}

#[test]
fn the_embedded_catalog_holds_the_promised_models_at_their_prices() {
    let catalog = with_keys(&["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "FIREWORKS_API_KEY"]);
    assert_eq!(
        ids(&catalog),
        [
            "accounts/fireworks/models/llama-v3p1-8b-instruct",
            "claude-haiku-4-5",
            "claude-sonnet-4-6",
            "gpt-4o",
            "gpt-4o-mini",
            "gpt-5-nano",
            "gpt-5.4",
            "sandbox",
        ]
    );
    let mini = catalog.find("gpt-4o-mini-2024-07-18").unwrap();
    assert_eq!((mini.id.as_str(), mini.upstream_id.as_str()), ("gpt-4o-mini", "gpt-4o-mini"));
    assert_eq!(mini.tokens_field, TokensField::MaxCompletionTokens);
    let prices = TokenPrices {
        input_pico: 3_000_000,
        cache_read_pico: 300_000,
        cache_write_5m_pico: 3_750_000,
        cache_write_1h_pico: 6_000_000,
        output_pico: 15_000_000,
    };
    let sonnet = catalog.find("claude-sonnet-4-6").unwrap();
    assert_eq!(sonnet.rate(500).prices, prices);
    assert_eq!(sonnet.provider.format, UpstreamFormat::AnthropicMessages);
    let hides = |name: &str| catalog.find(name).unwrap().hidden_reasoning;
    assert_eq!(hides("gpt-4o"), HiddenReasoning::Never);
    assert_eq!(hides("gpt-5-nano"), HiddenReasoning::Always);
    assert_eq!(hides("claude-haiku-4-5"), HiddenReasoning::WhenAsked);
    assert!(sonnet.hides_output(true) && !sonnet.hides_output(false));
    for model in catalog.all() {
        assert!(!model.prices.is_free(), "{}", model.id);
        assert!(model.output_tokens_default <= model.output_tokens_max, "{}", model.id);
        assert!(model.provider.cancel_stops_billing, "{}", model.id);
    }
}

#[test]
fn a_model_without_its_key_is_neither_listed_nor_usable_and_the_log_learns_why() {
    let catalog = with_keys(&[]);
    assert_eq!(ids(&catalog), ["sandbox"]);
    assert!(catalog.find("gpt-4o").is_none());
    let reason = catalog.unusable_reason("gpt-4o").unwrap();
    assert!(reason.contains("OPENAI_API_KEY"), "{reason}");
    assert_eq!(catalog.unusable_reason("sandbox"), None);
    assert_eq!(catalog.unusable_reason("unheard-of"), None);
    let blank = HashMap::from([("OPENAI_API_KEY".to_owned(), SecretString::from(" "))]);
    let options = CatalogOptions { keys: blank, ..Default::default() };
    assert!(Catalog::load(options).unwrap().find("gpt-4o").is_none());
}

#[test]
fn the_default_model_is_the_named_one_else_a_usable_one() {
    let default = |variables: &[&str]| with_keys(variables).default_model().id.clone();
    assert_eq!(default(&["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]), "gpt-4o-mini");
    assert_eq!(default(&["ANTHROPIC_API_KEY"]), "claude-haiku-4-5");
    assert_eq!(default(&[]), "sandbox");

    let named = |name: &str| {
        Catalog::load(CatalogOptions {
            default_model: Some(name.to_owned()),
            keys: keys(&["ANTHROPIC_API_KEY"]),
            ..Default::default()
        })
    };
    let by_alias = named("claude-haiku-4-5-20251001").unwrap();
    assert_eq!(by_alias.default_model().id, "claude-haiku-4-5");
    for (name, says) in [("gpt-4o", "set OPENAI_API_KEY"), ("nope", "no model is called `nope`")] {
        let message = named(name).unwrap_err().to_string();
        assert!(message.contains("FACES_DEFAULT_MODEL") && message.contains(says), "{message}");
    }
}

#[test]
fn the_embedding_model_is_one_that_makes_embeddings_and_nobody_chats_with_it() {
    let load = |name: &str, variables: &[&str]| {
        Catalog::load(CatalogOptions {
            embedding_model: Some(name.to_owned()),
            keys: keys(variables),
            ..Default::default()
        })
    };
    let small = "text-embedding-3-small";
    let catalog = load(small, &["OPENAI_API_KEY"]).unwrap();
    let model = catalog.embedding_model().unwrap();
    assert_eq!(
        (model.id.as_str(), model.kind),
        (small, ModelKind::Embeddings { dimensions: 1_536 })
    );
    assert_eq!((model.prices.input_pico, model.prices.output_pico), (20_000, 0));
    assert_eq!((model.output_tokens_max, model.output_tokens_default), (0, 0));
    assert_eq!(catalog.id_of(small), Some(small));
    assert_eq!(catalog.id_of("text-embedding-3-large"), None, "it is not asked here");
    assert!(catalog.find(small).is_none() && !ids(&catalog).contains(&small));
    let reason = catalog.unusable_reason(small).unwrap();
    assert!(reason.contains("makes embeddings and can't chat"), "{reason}");
    assert!(with_keys(&["OPENAI_API_KEY"]).embedding_model().is_none());
    for (name, variables, says) in [
        ("nope", &["OPENAI_API_KEY"][..], "those that make embeddings are: text-embedding-3-large"),
        ("gpt-4o", &["OPENAI_API_KEY"], "`gpt-4o` makes no embeddings; name one with kind"),
        ("sandbox", &[], "`sandbox` makes no embeddings"),
        ("claude-haiku-4-5-20251001", &["ANTHROPIC_API_KEY"], "`claude-haiku-4-5` makes no"),
        (small, &[], "set OPENAI_API_KEY, or unset the variable"),
    ] {
        let message = load(name, variables).unwrap_err().to_string();
        assert!(
            message.starts_with("FACES_EMBEDDING_MODEL: ") && message.contains(says),
            "{message}"
        );
    }
}

#[test]
fn a_file_adds_a_local_server_that_needs_no_key() {
    let text = r#"
        [provider.ollama]
        base_url = "http://127.0.0.1:11434/v1"

        [model."llama3.2"]
        provider = "ollama"
        context_tokens_max = 8_192
        output_tokens_max = 8_192
        input_usd_per_mtok = "0"
        output_usd_per_mtok = "0"
    "#;
    let catalog = Catalog::build(read_text(text).unwrap(), &CatalogOptions::default()).unwrap();
    assert_eq!(ids(&catalog), ["llama3.2", "sandbox"]);
    assert_eq!(catalog.default_model().id, "llama3.2");
    let model = catalog.find("llama3.2").unwrap();
    assert!(model.prices.is_free());
    assert!(!model.provider.cancel_stops_billing, "nobody said that it does");
    assert_eq!(model.output_tokens_default, 4_096);
}

#[test]
fn a_file_changes_single_fields_or_replaces_everything() {
    let text = "[model.gpt-4o]\ninput_usd_per_mtok = \"9.99\"\n\
                [provider.openai]\nbase_url = \"https://gateway.example/v1\"\n";
    let specs = read_text(text).unwrap();
    assert_eq!(specs.models["gpt-4o"].prices.input_pico, 9_990_000);
    assert_eq!(specs.models["gpt-4o"].prices.output_pico, 10_000_000);
    assert_eq!(specs.providers["openai"].base_url, "https://gateway.example/v1");
    assert_eq!(specs.providers["openai"].key_env.as_deref(), Some("OPENAI_API_KEY"));

    let text = "mode = \"replace\"\n[provider.sandbox]\nkind = \"sandbox\"\n";
    assert!(read_text(text).unwrap().models.is_empty());
    let error = Catalog::build(read_text(text).unwrap(), &CatalogOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("no model is usable"), "{error}");
}

#[test]
fn base_urls_of_the_environment_win_and_are_checked() {
    let load = |url: &str| {
        Catalog::load(CatalogOptions {
            base_urls: HashMap::from([("openai".to_owned(), url.to_owned())]),
            ..Default::default()
        })
    };
    let catalog = load("http://127.0.0.1:1/v1").unwrap();
    let openai = catalog.providers().find(|it| it.name == "openai").unwrap();
    assert_eq!(openai.base_url, "http://127.0.0.1:1/v1");
    for url in ["", "api.openai.com", "ftp://a/v1", "http://u:p@a/v1", "http://a/v1?k=1", "http://"]
    {
        let error = load(url).unwrap_err();
        assert!(matches!(error, SetupError::Provider { .. }), "{url}: {error}");
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_without_being_shown() {
    let broken = SecretString::from("sk-secret\nx");
    let keys = HashMap::from([("OPENAI_API_KEY".to_owned(), broken)]);
    let error = Catalog::load(CatalogOptions { keys, ..Default::default() }).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("OPENAI_API_KEY") && !message.contains("secret"), "{message}");
    let shown = format!("{:?}", with_keys(&["OPENAI_API_KEY"]));
    assert!(!shown.contains("sk-test"));
}

#[test]
fn the_variables_to_read_are_known_before_the_keys_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.toml");
    std::fs::write(
        &file,
        "[provider.groq]\nbase_url = \"https://api.groq.com/openai/v1\"\nkey_env = \"GROQ\"\n",
    )
    .unwrap();
    assert_eq!(
        key_variables(Some(&file)).unwrap(),
        ["ANTHROPIC_API_KEY", "FIREWORKS_API_KEY", "GROQ", "OPENAI_API_KEY"]
    );
    let missing = key_variables(Some(&folder.path().join("none.toml"))).unwrap_err();
    assert!(missing.to_string().contains("none.toml"), "{missing}");
}

/// Every mistake names the file, the table, the field and the fix.
#[test]
fn mistakes_in_the_file_are_told_with_place_and_fix() {
    let model = |fields: &str| {
        format!(
            "[model.m]\nprovider = \"openai\"\ncontext_tokens_max = 1000\n\
             output_tokens_max = 1000\ninput_usd_per_mtok = \"1\"\noutput_usd_per_mtok = \"1\"\n\
             {fields}\n"
        )
    };
    let gpt = |fields: &str| format!("[model.gpt-4o]\n{fields}\n");
    let embed = |fields: &str| {
        format!(
            "[model.e]\nkind = \"embeddings\"\ncontext_tokens_max = 512\n\
             input_usd_per_mtok = \"0\"\n{fields}\n"
        )
    };
    let at = |provider: &str| embed(&format!("dimensions = 384\nprovider = \"{provider}\""));
    let cases = [
        ("mode = \"append\"".to_owned(), "mode: write mode = \"extend\""),
        ("[models.m]".to_owned(), "models: unknown"),
        ("model = 1".to_owned(), "model: this must be tables"),
        ("[provider.x]".to_owned(), "[provider.x] base_url: missing; write base_url"),
        ("[provider.x]\nbase_url = \"x\"".to_owned(), "[provider.x] base_url: "),
        ("[provider.x]\nurl = \"x\"".to_owned(), "[provider.x]: unknown field `url`"),
        ("[provider.x]\nkind = \"x\"".to_owned(), "[provider.x] kind: write kind"),
        ("[provider.openai]\nformat = \"x\"".to_owned(), "[provider.openai] format: write format"),
        ("[provider.openai]\nkey_env = \"\"".to_owned(), "[provider.openai] key_env: name an"),
        ("[model.m]\nprovider = \"openai\"".to_owned(), "[model.\"m\"]: missing field"),
        (model("kind = \"x\""), "[model.\"m\"] kind: write kind = \"chat\""),
        (model("dimensions = 3"), "[model.\"m\"] dimensions: only kind = \"embeddings\""),
        (embed("provider = \"openai\""), "[model.\"e\"] dimensions: say how many"),
        (embed("provider = \"openai\"\ndimensions = 0"), "dimensions: say how many"),
        (embed("provider = \"openai\"\ndimensions = 8_193"), "dimensions: say how many"),
        (at("openai") + "output_tokens_max = 1", "output_tokens_max: embeddings have no output"),
        (at("openai") + "output_usd_per_mtok = \"0\"", "output_usd_per_mtok: embeddings have no"),
        (at("anthropic"), "[model.\"e\"] provider: `anthropic` has no endpoint for embeddings"),
        (at("sandbox"), "[model.\"e\"] provider: `sandbox` has no endpoint for embeddings"),
        (
            "[model.m]\nprovider = \"openai\"\ncontext_tokens_max = 9\n\
             input_usd_per_mtok = \"1\"\noutput_usd_per_mtok = \"1\""
                .to_owned(),
            "[model.\"m\"]: missing field `output_tokens_max`",
        ),
        (
            "[model.m]\nprovider = \"openai\"\ncontext_tokens_max = 9\n\
             input_usd_per_mtok = \"1\"\noutput_tokens_max = 9"
                .to_owned(),
            "[model.\"m\"]: missing field `output_usd_per_mtok`",
        ),
        (model("provider_id = 1"), "[model.\"m\"]: unknown field `provider_id`, expected one of"),
        (gpt("input_usd_per_mtok = 2.5"), "input_usd_per_mtok: a price is a decimal string"),
        (gpt("input_usd_per_mtok = \"2,5\""), "input_usd_per_mtok: `2,5` is not a decimal"),
        (gpt("output_usd_per_mtok = \"-1\""), "output_usd_per_mtok: `-1` is out of range"),
        (gpt("input_usd_per_mtok = \"0.0000001\""), "more than 6 decimal places"),
        (gpt("provider = \"x\""), "[model.\"gpt-4o\"] provider: there is no [provider.x]; add it"),
        (gpt("context_tokens_max = 0"), "context_tokens_max: 0 is out of range"),
        (gpt("output_tokens_max = 999_999"), "output_tokens_max: an answer can't be longer"),
        (gpt("output_tokens_default = 16_385"), "output_tokens_default: it is above"),
        (gpt("tokens_field = \"n\""), "tokens_field: write \"max_tokens\""),
        (gpt("hidden_reasoning = \"n\""), "hidden_reasoning: write \"never\""),
        (gpt("aliases = [\"sandbox\"]"), "aliases: `sandbox` is the id of a model"),
        (model("aliases = [\"gpt-4o-2024-08-06\"]"), "is an alias of `gpt-4o` too; remove one"),
        ("[model.\"a@b\"]".to_owned(), "[model.\"a@b\"]: a name holds no `@`"),
        ("[model.m".to_owned(), "TOML: mend the syntax"),
    ];
    for (text, says) in cases {
        let message = read_text(&text).unwrap_err().to_string();
        assert!(
            message.starts_with("models.toml: ") && message.contains(says),
            "{text}\n{message}"
        );
    }
}

proptest! {
    #[test]
    fn prices_are_exact(pico in 0_i64..1_000_000_000_000) {
        let text = format!("{}.{:06}", pico / 1_000_000, pico % 1_000_000);
        prop_assert_eq!(pico_per_token(&text), Ok(pico));
    }

    #[test]
    fn any_file_is_read_or_refused_without_a_panic(text in "[a-z\\[\\]\".=\n0-9 ]{0,80}") {
        let _ = read_text(&text);
    }
}
