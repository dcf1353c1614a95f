//! What an operator notices: precedence, messages, help, redaction, `.env.example`.

use std::{collections::BTreeMap, fmt::Write as _, fs, io::Write as _, path::Path};

use clap::{Arg, Command as Definition};
use secrecy::ExposeSecret as _;

use super::{
    load::{definition, settings_args, variable_of},
    *,
};
use crate::domain::NanoUsd;

const ID: &str = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";

fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Cli, CliError> {
    let environment: Environment = variables.iter().copied().collect();
    Cli::parse_from(std::iter::once(&"faces").chain(arguments), &environment)
}

#[track_caller]
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    parse(arguments, variables).unwrap_err().to_string()
}

#[test]
fn the_definitions_of_clap_are_consistent() {
    definition().debug_assert();
}

#[test]
fn without_anything_every_setting_has_its_default() {
    let cli = parse(&[], &[]).unwrap();
    assert!(matches!(cli.command(), Command::Serve));
    assert_eq!(cli.settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(cli.settings.local_url(), "http://127.0.0.1:8080");
    assert_eq!(cli.settings.database().to_string(), "sqlite:./data/faces.db");
    assert!(cli.settings.migrate && cli.settings.makes_demo());
    assert!(!cli.settings.charge_partial_on_upstream_error);
    assert_eq!(cli.settings.markup_bps, 500);
    assert_eq!(cli.settings.log_filter, "info");
    assert!(cli.settings.worker_count() >= 1);
    assert_eq!(format!("{:?}", cli.settings.limits), format!("{:?}", Limits::default()));
}

#[test]
fn a_flag_overrides_a_variable_wherever_it_stands() {
    let variables = [("FACES_LISTEN", "127.0.0.1:1"), ("FACES_BODY_BYTES_MAX", "4096")];
    for arguments in [
        &["--listen", "127.0.0.1:2"][..],
        &["--listen=127.0.0.1:2", "serve"],
        &["serve", "--listen", "127.0.0.1:2"],
        &["audit", "--listen=127.0.0.1:2"],
        &["admin", "account", "list", "--listen=127.0.0.1:2"],
    ] {
        let settings = parse(arguments, &variables).unwrap().settings;
        assert_eq!(settings.listen.port(), 2, "{arguments:?}");
        assert_eq!(settings.limits.body_bytes_max, 4_096, "{arguments:?}");
    }
    assert_eq!(parse(&["serve"], &variables).unwrap().settings.listen.port(), 1);
    // A wrong variable does no harm below a good flag.
    assert!(parse(&["--listen", "127.0.0.1:2"], &[("FACES_LISTEN", "nonsense")]).is_ok());
}

#[test]
fn the_environment_overrides_a_dotenv_file_and_an_empty_value_unsets() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "FACES_LISTEN=127.0.0.1:1\nFACES_MARKUP_BPS=7\nFACES_WORKERS=3").unwrap();
    writeln!(file, "# a comment\nFACES_DEFAULT_MODEL='gpt # 4'\nFACES_MODELS_FILE=").unwrap();
    let process = [("FACES_LISTEN", "127.0.0.1:2"), ("FACES_WORKERS", "")];
    let environment = Environment::from_file(file.path())
        .unwrap()
        .overridden_by(process.map(|(name, value)| (name.into(), value.into())));
    let settings = Cli::parse_from(["faces"], &environment).unwrap().settings;
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(settings.markup_bps, 7);
    assert_eq!(settings.workers, None);
    assert_eq!(settings.default_model.as_deref(), Some("gpt # 4"));
    assert_eq!(settings.models_file, None);
}

#[test]
fn every_variable_that_is_empty_counts_as_unset() {
    let names: Vec<String> = all_args().iter().filter_map(variable_of).collect();
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let settings = parse(&[], &empty).unwrap().settings;
    let mut expected = parse(&[], &[]).unwrap().settings;
    expected.providers.environment = settings.providers.environment.clone();
    assert_eq!(format!("{settings:?}"), format!("{expected:?}"));
}

#[test]
fn a_malformed_dotenv_is_refused_without_repeating_its_text() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "FACES_LISTEN=127.0.0.1:1\nOPENAI_API_KEY sk-planted-secret").unwrap();
    let error = Environment::from_file(file.path()).unwrap_err().to_string();
    assert!(error.contains(".env (the entry after FACES_LISTEN)"), "{error}");
    assert!(error.contains("NAME=value"), "{error}");
    assert!(!error.contains("planted"), "{error}");
}

#[test]
fn a_wrong_variable_stops_the_start_naming_itself_and_the_fix() {
    for (name, value, reason) in [
        ("FACES_LISTEN", "8080", "it must be IP:PORT"),
        ("FACES_LISTEN", "127.0.0.1:70000", "it must be IP:PORT"),
        ("FACES_MARKUP_BPS", "5%", "it must be a whole number"),
        ("FACES_MARKUP_BPS", "-1", "-1 is not in 0..=100000"),
        ("FACES_MIGRATE", "maybe", "value was not a boolean"),
        ("FACES_DEMO", "yes", "it must be one of: auto, on, off"),
        ("FACES_WORKERS", "0", "from 1 to 1024"),
        ("FACES_BODY_BYTES_MAX", "32MB", "it must be a whole number"),
        ("FACES_DB_CONNECTIONS_MAX", "1", "1 is not in 2..=1000"),
        ("OPENAI_BASE_URL", "localhost:11434/v1", "it must start with https:// or http://"),
        ("ANTHROPIC_BASE_URL", "https://", "it names no host"),
    ] {
        let text = refused(&[], &[(name, value)]);
        assert!(text.starts_with(&format!("{name} can't be `{value}`: ")), "{text}");
        assert!(text.contains(reason), "{text}");
        assert!(
            text.contains(&format!("fix: correct {name} in the environment or .env")),
            "{text}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_refused_only_where_it_matters() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let with = |name: &str| {
        let values = [(OsString::from(name), OsString::from_vec(vec![0x66, 0xff]))];
        Cli::parse_from(["faces"], &Environment::default().overridden_by(values))
    };
    let text = with("FACES_LISTEN").unwrap_err().to_string();
    assert!(text.starts_with("FACES_LISTEN is not valid UTF-8 text\n  fix: "), "{text}");
    assert!(with("SOMETHING_ELSE").is_ok());
}

#[test]
fn a_wrong_flag_is_named_as_a_flag() {
    let text = refused(&["serve", "--markup-bps", "x"], &[("FACES_LISTEN", "127.0.0.1:1")]);
    assert!(text.starts_with("--markup-bps can't be `x`: it must be a whole number"), "{text}");
    assert!(text.contains("variable FACES_MARKUP_BPS, default: 500"), "{text}");
    let text = refused(&["--no-such-flag"], &[]);
    assert!(text.contains("unexpected argument '--no-such-flag'"), "{text}");
}

#[test]
fn a_wrong_secret_is_named_but_never_shown() {
    for (name, flag, value) in [
        ("DATABASE_URL", "--database-url", "mysql://u:planted@h/d"),
        ("DATABASE_URL", "--database-url", "postgres://u:planted@h"),
        ("FACES_ADMIN_KEY", "--admin-key", "planted"),
        ("FACES_WEBHOOK_SECRETS", "--webhook-secrets", "0123456789abcdef,planted"),
    ] {
        for text in [refused(&[], &[(name, value)]), refused(&[flag, value], &[])] {
            assert!(text.contains(name), "{text}");
            assert!(text.contains("fix: ") && !text.contains("planted"), "{text}");
        }
    }
}

#[test]
fn debug_and_help_never_show_a_secret() {
    let secrets = [
        ("DATABASE_URL", "postgres://u:planted@h/d"),
        ("FACES_ADMIN_KEY", "planted-0123456789"),
        ("FACES_WEBHOOK_SECRETS", "planted-0123456789,planted-9876543210"),
        ("OPENAI_API_KEY", "sk-planted"),
        ("ANTHROPIC_API_KEY", "sk-planted"),
        ("FIREWORKS_API_KEY", "sk-planted"),
        ("FACES_API_KEY", "sk-planted"),
        ("MY_OWN_KEY", "sk-planted"),
        ("FACES_JWT_SECRETS", "planted-0123456789-0123456789-0123456789"),
    ];
    let cli = parse(&["chat", "alice", "hello"], &secrets).unwrap();
    let shown = format!("{cli:?} {:#?}", cli.settings);
    assert!(!shown.contains("planted"), "{shown}");
    assert!(!refused(&["--help"], &secrets).contains("planted"));
    // Every variable with such a name must be kept out of help and messages.
    for arg in all_args() {
        let name = variable_of(&arg).unwrap_or_default();
        let is_secret = ["_KEY", "_SECRETS", "DATABASE_URL"].iter().any(|end| name.ends_with(end));
        assert_eq!(arg.is_hide_env_values_set(), is_secret, "{name}: hide_env_values");
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_with_both_names() {
    for (name, value, other) in [
        ("FACES_UPSTREAM_IDLE_TIMEOUT_MS", "3600000", "FACES_UPSTREAM_TOTAL_TIMEOUT_MS"),
        ("FACES_UPSTREAM_FIRST_BYTE_TIMEOUT_MS", "3600000", "FACES_UPSTREAM_TOTAL_TIMEOUT_MS"),
        ("FACES_LEDGER_QUEUE_OPS_MAX", "10", "FACES_FLUSH_OPS_MAX"),
        ("FACES_LEDGER_WAIT_MS", "100", "FACES_DB_ACQUIRE_TIMEOUT_MS"),
        ("FACES_DATA_DIR", "Cargo.toml", "not a directory"),
        ("FACES_MODELS_FILE", "no/such/models.toml", "can't be read"),
        ("FACES_PROVIDER_CA_FILE", "src", "is a directory"),
    ] {
        let text = refused(&[], &[(name, value)]);
        assert!(text.contains(name) && text.contains(other), "{text}");
        assert!(text.contains("fix: "), "{text}");
    }
    let open_demo = [("FACES_DEMO", "on"), ("FACES_LISTEN", "0.0.0.0:8080")];
    assert!(refused(&[], &open_demo).contains("FACES_LISTEN=127.0.0.1:8080"));
    let on_all = parse(&[], &[("FACES_LISTEN", "0.0.0.0:80")]).unwrap().settings;
    assert!(!on_all.makes_demo());
    assert_eq!(on_all.local_url(), "http://127.0.0.1:80");
}

#[test]
fn a_database_url_is_a_file_or_a_server() {
    for (url, shown) in [
        ("sqlite:a/b.db", "sqlite:a/b.db"),
        ("sqlite://a/b.db?mode=rwc", "sqlite:a/b.db"),
        ("sqlite:///var/lib/faces.db", "sqlite:/var/lib/faces.db"),
        ("postgres://u:p@h:5432/d?sslmode=require", "postgres"),
        ("postgresql://h/d", "postgres"),
        ("postgres:///d?host=/run/postgresql", "postgres"),
    ] {
        let settings = parse(&[], &[("DATABASE_URL", url)]).unwrap().settings;
        assert_eq!(settings.database().to_string(), shown, "{url}");
        if let DatabaseUrl::Postgres(secret) = settings.database() {
            assert_eq!(secret.expose_secret(), url);
        }
    }
    for url in [
        "faces.db",
        "sqlite:",
        "sqlite::memory:",
        "sqlite://a.db?mode=memory",
        "sqlite:a.db?cache=shared",
        "postgres://h",
        "postgres://u@/d",
        "postgres:///d",
    ] {
        assert!(refused(&[], &[("DATABASE_URL", url)]).starts_with("DATABASE_URL has"), "{url}");
    }
}

#[test]
fn provider_keys_come_from_their_variable_or_flag_or_any_named_variable() {
    let variables = [("OPENAI_API_KEY", "from-variable"), ("MY_VLLM_KEY", "mine")];
    let providers = |arguments: &[&str]| parse(arguments, &variables).unwrap().settings.providers;
    let key = |found: Option<secrecy::SecretString>| found.map(|k| k.expose_secret().to_owned());
    assert_eq!(key(providers(&[]).key("OPENAI_API_KEY")).as_deref(), Some("from-variable"));
    let overridden = providers(&["--openai-api-key", "from-flag"]);
    assert_eq!(key(overridden.key("OPENAI_API_KEY")).as_deref(), Some("from-flag"));
    assert_eq!(key(overridden.key("MY_VLLM_KEY")).as_deref(), Some("mine"));
    assert_eq!(key(overridden.key("UNSET_KEY")), None);
    let base_url = providers(&["--openai-base-url", "http://localhost:11434/v1/"]).openai_base_url;
    assert_eq!(base_url, "http://localhost:11434/v1");
}

#[test]
fn amounts_of_usd_are_exact_and_bounded() {
    let usd = |text: &str| {
        let topup = ["admin", "topup", "--account", ID, "--usd", text, "--ref", "r"];
        match parse(&topup, &[]).map(|cli| cli.command()) {
            Ok(Command::Admin(AdminCommand::Topup { usd, .. })) => Ok(usd),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(usd("12.50"), Ok(NanoUsd(12_500_000_000)));
    assert_eq!(usd("0.000000001"), Ok(NanoUsd(1)));
    for (text, reason) in [
        ("0", "above 0"),
        ("-5", "above 0"),
        ("0.0000000001", "more than 9 decimal places"),
        ("1e3", "not a decimal amount"),
        ("99999999999", "too large"),
    ] {
        assert!(usd(text).unwrap_err().contains(reason), "{text}: {:?}", usd(text));
    }
    let create = ["admin", "account", "create", "--name", "shop", "--credit-usd", "-1"];
    assert!(refused(&create, &[]).contains("below 0"));
}

#[test]
fn chat_takes_server_and_key_from_flags_or_variables() {
    let variables = [("FACES_URL", "http://a"), ("FACES_API_KEY", "sk-variable")];
    let chat = |arguments: &[&str], variables: &[(&str, &str)]| {
        let all: Vec<&str> = ["chat", "alice", "hi"].iter().chain(arguments).copied().collect();
        match parse(&all, variables).unwrap().command() {
            Command::Chat(chat) => (chat.url, chat.key.map(|k| k.expose_secret().to_owned())),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(chat(&[], &[]), (None, None));
    assert_eq!(chat(&[], &variables), (Some("http://a".into()), Some("sk-variable".into())));
    let flags = ["--url", "http://b", "--key", "sk-flag"];
    assert_eq!(chat(&flags, &variables), (Some("http://b".into()), Some("sk-flag".into())));
}

/// Every command, as the words that lead to it.
fn commands(definition: &Definition, path: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![path.to_vec()];
    for command in definition.get_subcommands().filter(|command| command.get_name() != "help") {
        let deeper: Vec<String> =
            path.iter().cloned().chain([command.get_name().to_owned()]).collect();
        found.extend(commands(command, &deeper));
    }
    found
}

#[test]
fn every_command_has_help_with_an_example_that_parses() {
    for path in commands(&definition(), &[]) {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = refused(&arguments, &[]);
        let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
        assert!(!examples.trim().is_empty(), "faces {} --help has no example", path.join(" "));
        for line in examples.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words = shell_words(line);
            let words = words.iter().map(String::as_str).skip_while(|word| *word != "faces");
            let parsed = parse(&words.skip(1).collect::<Vec<_>>(), &[]);
            assert!(parsed.is_ok(), "`{line}` in the help does not parse: {parsed:?}");
        }
    }
}

#[test]
fn help_shows_variables_and_keeps_settings_out_of_other_commands() {
    let serve = refused(&["serve", "--help"], &[("FACES_LISTEN", "127.0.0.1:9")]);
    assert!(serve.contains("[env: FACES_LISTEN]") && serve.contains("[default: 127.0.0.1:8080]"));
    assert!(serve.contains("FACES_FLUSH_OPS_MAX"));
    assert!(!refused(&["serve", "-h"], &[]).contains("FACES_FLUSH_OPS_MAX"));
    for command in [&["chat", "--help"][..], &["admin", "account", "create", "--help"]] {
        assert!(!refused(command, &[]).contains("FACES_LISTEN]"), "{command:?}");
    }
}

#[test]
fn help_and_version_come_even_when_a_variable_is_wrong() {
    let wrong = [("FACES_MARKUP_BPS", "abc")];
    assert!(refused(&["admin", "topup", "--help"], &wrong).contains("invoice-17"));
    assert!(refused(&["admin"], &wrong).contains("Usage: faces admin <COMMAND>"));
    assert_eq!(
        refused(&["--version"], &wrong).trim(),
        concat!("faces ", env!("CARGO_PKG_VERSION"))
    );
}

/// Splits at spaces outside double quotes: enough for the examples.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words
}

/// Every definition that has a variable: the settings, then those of `faces chat`.
fn all_args() -> Vec<Arg> {
    let whole = definition();
    let chat = whole.find_subcommand("chat").unwrap().get_arguments();
    let of_chat = chat.filter(|arg| !arg.is_global_set() && arg.get_env().is_some()).cloned();
    settings_args().chain(of_chat).collect()
}

/// `.env.example` as the definitions say it.
fn env_example() -> String {
    let mut text = String::from(
        "# Every variable of Faces with its default, unit and reason. Copy this file to .env and\n\
         # uncomment what you change. A flag goes before a variable of the environment, and that\n\
         # before .env; an empty value counts as unset. `faces serve --help` shows the same.\n",
    );
    let mut groups: BTreeMap<&str, ()> = BTreeMap::new();
    let args = all_args();
    for arg in &args {
        let heading = arg.get_help_heading().unwrap_or("faces chat (the client)");
        if groups.insert(heading, ()).is_none() {
            write!(text, "\n# --- {heading} ---\n").unwrap();
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy());
        let name = variable_of(arg).unwrap();
        write!(text, "\n# {help}\n#{name}={}\n", default.unwrap_or_default()).unwrap();
    }
    text
}

#[test]
fn the_env_example_says_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    #[expect(clippy::disallowed_methods, reason = "asks whether to write the file, as insta does")]
    if std::env::var("INSTA_UPDATE").is_ok_and(|mode| mode == "always") {
        fs::write(&path, env_example()).unwrap();
    }
    let stands = fs::read_to_string(&path).unwrap_or_default();
    let assignments = |text: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
        let assignment = lines.filter(|(name, _)| !name.contains(' '));
        assignment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let (defined, written) = (assignments(&env_example()), assignments(&stands));
    for (name, default) in &defined {
        assert_eq!(
            written.get(name),
            Some(default),
            "{name} in .env.example; fix: just env-example"
        );
    }
    for name in written.keys() {
        assert!(defined.contains_key(name), "{name} of .env.example is no setting");
    }
    assert_eq!(stands, env_example(), ".env.example differs; fix: just env-example");
}

#[test]
fn the_env_example_uncommented_is_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    let text = fs::read_to_string(path).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
        if !line.starts_with(' ') {
            writeln!(file, "{line}").unwrap();
        }
    }
    let environment = Environment::from_file(file.path()).unwrap();
    let mut settings = Cli::parse_from(["faces"], &environment).unwrap().settings;
    settings.providers.environment = Environment::default();
    assert_eq!(format!("{settings:?}"), format!("{:?}", parse(&[], &[]).unwrap().settings));
}
