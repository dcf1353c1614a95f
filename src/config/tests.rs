//! What an operator notices: precedence, messages, help, redaction, `.env.example`.

use super::{load::definition, *};

fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Cli, CliError> {
    let environment: Environment = variables.iter().copied().collect();
    Cli::parse_from(std::iter::once(&"faces").chain(arguments), &environment)
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
    assert_eq!(cli.settings.database().to_string(), "sqlite:./data/faces.db");
    assert!(cli.settings.migrate);
    assert!(!cli.settings.charge_partial_on_upstream_error);
    assert_eq!(cli.settings.markup_bps, 500);
    assert_eq!(cli.settings.log_filter, "info");
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
