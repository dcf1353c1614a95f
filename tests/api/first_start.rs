//! The first start on a fresh machine, later starts, and starts that must not happen.

use std::process::Command;

use serde_json::Value;

use crate::program::{Place, err, json, out};

/// The `curl` that a first start prints, from its first line to its last.
#[track_caller]
fn printed_curl(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    let from = lines.iter().position(|line| line.starts_with("curl ")).expect("a curl is printed");
    let count = lines[from..].iter().position(|line| !line.ends_with('\\')).expect("it ends");
    lines[from..=from + count].join("\n")
}

#[test]
fn the_first_start_prints_a_curl_that_works_as_it_stands() {
    let place = Place::new();
    let serving = place.serve(&[("FACES_SANDBOX_DELTA_INTERVAL_MS", "0")]);
    let curl = printed_curl(&serving.printed);
    let answer = Command::new("sh").args(["-c", &curl]).output().expect("sh runs");
    let text = out(&answer);
    assert!(answer.status.success(), "{curl}: {text} {}", err(&answer));
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let reply: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(reply.contains("sandbox"), "it says that it is one: {reply}");
    assert!(reply.contains("Alice") || reply.contains("alice"), "the persona is visible: {reply}");
    // The key is shown on the terminal this once and never in the log.
    let key = curl.split("Bearer ").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(!serving.log().contains(key));
    assert!(serving.stop().success());
    let audit = json(&place.run(&["audit", "--json"]));
    assert_eq!(audit["clean"], true, "{audit}");
}

#[test]
fn later_starts_make_no_second_demo() {
    let place = Place::new();
    let first = place.serve(&[]);
    assert!(first.printed.contains("This is the first start"));
    assert!(first.stop().success());
    let second = place.serve(&[]);
    assert!(!second.printed.contains("curl") && !second.printed.contains("sk-faces-"));
    assert!(second.printed.contains(&second.url), "where it listens: {}", second.printed);
    assert!(second.stop().success());
    let accounts = json(&place.run(&["admin", "account", "list", "--json"]));
    assert_eq!(accounts["data"].as_array().unwrap().len(), 1, "{accounts}");
}

#[test]
fn the_demo_can_be_turned_off_and_an_account_of_ones_own_is_never_joined_by_it() {
    let place = Place::new();
    let off = place.serve(&[("FACES_DEMO", "off")]);
    assert!(!off.printed.contains("sk-faces-"), "{}", off.printed);
    assert!(off.stop().success());
    let none = json(&place.run(&["admin", "account", "list", "--json"]));
    assert_eq!(none["data"], serde_json::json!([]));
    json(&place.run(&["admin", "account", "create", "--name", "mine", "--json"]));
    let auto = place.serve(&[]);
    assert!(!auto.printed.contains("sk-faces-"), "{}", auto.printed);
    assert!(auto.stop().success());
}

#[test]
fn the_demo_is_not_made_for_the_network() {
    let place = Place::new();
    let auto = place.serve(&[("FACES_LISTEN", "0.0.0.0:0")]);
    assert!(!auto.printed.contains("sk-faces-"), "{}", auto.printed);
    assert!(auto.stop().success());
    let forced = place
        .faces(&["serve"])
        .env("FACES_LISTEN", "0.0.0.0:0")
        .env("FACES_DEMO", "on")
        .output()
        .unwrap();
    assert_eq!(forced.status.code(), Some(2), "{}", err(&forced));
    assert!(err(&forced).contains("FACES_DEMO") && err(&forced).contains("FACES_LISTEN"));
}

#[test]
fn a_wrong_variable_stops_the_start_with_its_name_and_the_fix() {
    let place = Place::new();
    std::fs::write(place.path().join("broken.toml"), "[model.x]\nprovider = 7\n").unwrap();
    std::fs::write(place.path().join("file"), "").unwrap();
    let wrong = [
        ("FACES_LISTEN", "nowhere"),
        ("FACES_LISTEN", "127.0.0.1:99999"),
        ("FACES_MARKUP_BPS", "-1"),
        ("FACES_MARKUP_BPS", "5%"),
        ("FACES_DEMO", "perhaps"),
        ("FACES_MIGRATE", "maybe"),
        ("FACES_WORKERS", "0"),
        ("FACES_BODY_BYTES_MAX", "1"),
        ("FACES_BODY_BYTES_MAX", "32MB"),
        ("FACES_INFLIGHT_REQUESTS_MAX", "0"),
        ("FACES_UPSTREAM_IDLE_TIMEOUT_MS", "99999999999"),
        ("FACES_DATA_DIR", "file"),
        ("FACES_MODELS_FILE", "missing.toml"),
        ("FACES_MODELS_FILE", "broken.toml"),
        ("FACES_PROVIDER_CA_FILE", "missing.pem"),
        ("FACES_PROVIDER_CA_FILE", "file"),
        ("FACES_DEFAULT_MODEL", "no-such-model"),
        ("FACES_EMBEDDING_MODEL", "no-such-model"),
        ("FACES_EMBEDDING_MODEL", "sandbox"),
        ("FACES_EMBEDDING_MODEL", "claude-haiku-4-5"),
        ("FACES_EMBEDDING_MODEL", "text-embedding-3-small"),
        ("FACES_DEFAULT_MODEL", "text-embedding-3-small"),
        ("FACES_COMPILE_MODEL", "text-embedding-3-small"),
        ("FACES_ADMIN_KEY", "short"),
        ("DATABASE_URL", "mysql://root@localhost/db"),
        ("DATABASE_URL", "nonsense"),
        ("OPENAI_BASE_URL", "not a url"),
        ("ANTHROPIC_BASE_URL", "ftp://x"),
        ("RUST_LOG", "faces=loud"),
    ];
    for (variable, value) in wrong {
        let output = place.faces(&["serve"]).env(variable, value).output().unwrap();
        let told = err(&output);
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {told}");
        assert!(told.contains(variable), "{variable}={value} is named: {told}");
        assert!(out(&output).is_empty(), "{}", out(&output));
        assert!(told.lines().count() <= 6, "for people: {told}");
        assert!(!told.contains("panicked") && !told.contains("Error {"), "{told}");
    }
    assert!(!place.path().join("data/faces.db").exists(), "nothing was begun");
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    let place = Place::new();
    let secret = "KEY-CANARY-hunter2";
    let wrong = [
        ("DATABASE_URL", format!("mysql://root:{secret}@localhost/db")),
        ("DATABASE_URL", format!("postgres://root:{secret}@127.0.0.1:1/db")),
        ("FACES_ADMIN_KEY", secret[..12].to_owned()),
        ("OPENAI_API_KEY", format!("{secret}\nline")),
    ];
    for (variable, value) in wrong {
        let output = place
            .faces(&["serve"])
            .env(variable, &value)
            .env("RUST_LOG", "trace")
            .env("FACES_DB_ACQUIRE_TIMEOUT_MS", "500")
            .output()
            .unwrap();
        let told = format!("{}{}", out(&output), err(&output));
        assert!(!output.status.success(), "{variable}: {told}");
        assert!(!told.contains("hunter2") && !told.contains(&secret[..12]), "{variable}: {told}");
        assert!(told.contains(variable), "{variable}: {told}");
    }
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let second = place.faces(&["serve"]).output().unwrap();
    let told = err(&second);
    assert!(!second.status.success(), "{told}");
    assert!(told.contains("faces.db") || told.contains("data"), "what is taken: {told}");
    assert!(told.contains("another") || told.contains("running"), "by whom: {told}");
    assert!(serving.stop().success());
    let third = place.serve(&[]);
    assert!(third.stop().success());
}

#[test]
fn a_taken_port_is_told_with_the_variable() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = place.faces(&["serve"]).env("FACES_LISTEN", &address).output().unwrap();
    assert!(!output.status.success());
    let told = err(&output);
    assert!(told.contains(&address) && told.contains("FACES_LISTEN"), "{told}");
}

#[test]
fn a_start_after_a_crash_works_at_once() {
    let place = Place::new();
    place.serve(&[]).kill();
    assert!(place.path().join("data/server.json").exists(), "a crash leaves its run file");
    let again = place.serve(&[]);
    assert!(again.stop().success());
    assert_eq!(json(&place.run(&["audit", "--json"]))["clean"], true);
}
