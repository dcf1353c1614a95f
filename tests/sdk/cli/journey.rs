//! A user's whole way through the client, offline: the built-in model answers.

use serde_json::{Value, json};

use super::{Cli, PASSWORD, text_of};
use crate::support::server::TestServer;

#[test]
fn every_command_of_the_client_works() {
    let server = TestServer::builder()
        .env("FACES_REGISTRATION", "open")
        .env("FACES_TOPUP", "trusted")
        .start();
    let Some(cli) = Cli::new(&server) else { return };
    identity(&cli);
    credit(&cli);
    faces(&cli);
    super::sources::documents_and_threads(&cli);
    chat(&cli);
    keys(&cli);
    billing(&cli);
    let deleted = cli.run(&["face", "delete", "ada", "--yes"]).json();
    assert_eq!(deleted["deleted"], true);
    assert_eq!(cli.run(&["face", "list"]).json()["data"], json!([]));
    assert!(cli.run(&["config", "clear", "--yes"]).text().contains("Config cleared."));
    assert_eq!(cli.not_driven(), Vec::<String>::new());
}

fn identity(cli: &Cli) {
    let registered = cli.register("ada-l");
    assert_eq!(registered["success"], true, "{registered}");
    let user = text_of(&registered, "user_id").to_owned();
    assert!(cli.run(&["config", "show"]).text().contains("\"token\": \"***\""));
    assert!(cli.run(&["auth", "logout"]).text().contains("Logged out."));
    let login = ["auth", "login", "--email", "ada-l@example.com", "--password", PASSWORD];
    let logged_in = cli.run(&login).json();
    assert_eq!(logged_in, json!({"status": "logged_in", "user_id": user}));
    let me = cli.run(&["auth", "whoami"]).json();
    assert_eq!((&me["email"], &me["username"]), (&json!("ada-l@example.com"), &json!("ada-l")));
    let refreshed = cli.run(&["auth", "refresh"]);
    assert!(refreshed.text().starts_with("Token refreshed and saved."), "{refreshed:?}");
    let saved = ["config", "set", "base_url", "http://example.com"];
    assert!(cli.run(&saved).text().contains("Set base_url."));
    let state = cli.run(&["account", "state"]).json();
    assert_eq!(state["user_id"], json!(user));
    assert_eq!((&state["has_first_face"], &state["frozen"]), (&json!(false), &json!(false)));
}

fn faces(cli: &Cli) {
    let facts = ["--attr", "Job Title=mathematician", "--attr", "shoe_size=38"];
    let create = ["face", "create", "--name", "Ada", "--username", "ada", "--tool", "search"];
    let made = cli.run(&[&create[..], &facts[..]].concat()).json();
    for name in ["username", "alias", "id"] {
        assert_eq!(made[name], "ada", "{made}");
    }
    assert_eq!(made["basic_facts"]["job_title"]["value"], "mathematician", "{made}");
    assert_eq!(made["default_tools"], json!(["search"]));
    let warnings = made["warnings"].to_string();
    assert!(warnings.contains("shoe_size"), "{made}");
    let changed = ["face", "update", "ada", "--name", "Ada L.", "--attr", "city=London"];
    let changed = cli.run(&changed).json();
    assert_eq!(changed["name"], "Ada L.");
    assert_eq!(changed["basic_facts"]["city"]["value"], "London");
    assert_eq!(changed["basic_facts"]["job_title"]["value"], "mathematician", "facts are merged");
    let read = cli.run(&["face", "get", "ada"]).json();
    assert_eq!(read["basic_facts"], changed["basic_facts"]);
    let listed = cli.run(&["face", "list"]).json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
    let stats = cli.run(&["face", "stats"]).json();
    assert!(stats["ada"].is_object(), "{stats}");
    let plain = cli.run(&["--no-json", "face", "get", "ada"]);
    assert!(plain.text().contains("name: Ada L."), "{plain:?}");
}

fn chat(cli: &Cli) {
    let answer = cli.run(&["chat", "chat", "ada", "-m", "Good morning", "--llm", "sandbox"]).json();
    assert_eq!(answer["model"], "ada@sandbox");
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    assert!(!said.is_empty(), "{answer}");
    let chat = ["chat", "chat", "ada", "-m", "Good morning"];
    let limits = ["--system", "Be brief.", "--max-tokens", "50", "--temperature", "0.5"];
    let streamed = cli.run(&[&chat[..], &limits[..], &["--stream"]].concat());
    assert!(streamed.text().trim().len() > 3, "{streamed:?}");
    let question = cli.file("question.txt", "What do you do?");
    let asked = ["--no-json", "chat", "chat", "ada", "-m", "x", "--file", &question];
    assert!(!cli.run(&asked).text().trim().is_empty());

    let message = cli.run(&["chat", "messages", "ada", "-m", "Hello", "--system", "Brief."]).json();
    assert_eq!((&message["type"], &message["model"]), (&json!("message"), &json!("ada")));
    assert!(!text_of(&message["content"][0], "text").is_empty(), "{message}");
    let streamed = cli.run(&["chat", "messages", "ada@sandbox", "-m", "Hello", "--stream"]);
    assert!(streamed.text().trim().len() > 3, "{streamed:?}");

    let response = ["chat", "responses", "ada", "-m", "Hello", "--instructions", "Brief."];
    let response = cli.run(&response).json();
    assert_eq!(response["object"], "response", "{response}");
    let output = response["output"].to_string();
    assert!(output.contains("output_text"), "{response}");
    let streamed = cli.run(&["chat", "responses", "ada", "-m", "Hello", "--stream"]);
    assert!(streamed.text().trim().len() > 3, "{streamed:?}");
}

fn keys(cli: &Cli) {
    let create = ["keys", "create", "--name", "prod", "--expires-days", "7", "--budget", "5"];
    let limits = ["--face", "ada", "--model", "sandbox"];
    let made = cli.run(&[&create[..], &limits[..]].concat()).json();
    let (id, key) = (text_of(&made, "id").to_owned(), text_of(&made, "key").to_owned());
    assert!(key.starts_with(text_of(&made, "key_prefix")), "the prefix is the key's");
    assert_eq!(made["budget_usd"].as_f64(), Some(5.0));
    assert_eq!(made["spent_usd"].as_f64(), Some(0.0));
    assert_eq!(made["allowed_face_ids"], json!(["ada"]));
    assert_eq!(made["allowed_llm_models"], json!(["sandbox"]));
    let listed = cli.run(&["keys", "list"]);
    assert!(!listed.text().contains(&key), "the secret is shown once");
    let find = |listed: &Value| {
        let rows = listed["data"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["id"] == id.as_str()).expect("the key is listed")
    };
    assert_eq!(find(&listed.json())["name"], "prod");
    let update = ["keys", "update", &id, "--name", "live", "--budget", "6.5", "--reset-spent"];
    let updated = cli.run(&update).json();
    assert_eq!((&updated["name"], updated["budget_usd"].as_f64()), (&json!("live"), Some(6.5)));

    let hello = ["--no-json", "chat", "chat", "ada", "-m", "Hello"];
    assert!(!cli.run_with_key(&key, &hello).text().trim().is_empty());
    let other = cli.run(&["face", "create", "--name", "Bob", "--username", "bob"]);
    assert_eq!(other.json()["username"], "bob");
    let refused = cli.run_with_key(&key, &["chat", "chat", "bob", "-m", "Hello"]);
    refused.failed(1, &["403", "not permitted to access this face"]);
    assert_eq!(cli.run(&["face", "delete", "bob", "--yes"]).json()["deleted"], true);
    cli.run_with_key(&key, &["keys", "list"]).failed(1, &["requires a full login"]);

    assert_eq!(cli.run(&["keys", "revoke", &id, "--yes"]).json()["revoked"], true);
    let revoked = cli.run_with_key(&key, &["chat", "chat", "ada", "-m", "Hello"]);
    revoked.failed(1, &["401"]);
    assert_eq!(find(&cli.run(&["keys", "list"]).json())["revoked"], true);
}

fn credit(cli: &Cli) {
    let balance = |cli: &Cli| cli.run(&["billing", "balance"]).json();
    let before = balance(cli);
    assert_eq!((before["balance_usd"].as_f64(), &before["frozen"]), (Some(0.0), &json!(false)));
    let topup = ["billing", "topup", "--amount", "20", "--payment-ref", "invoice-1"];
    let added = cli.run(&topup).json();
    assert_eq!((&added["success"], added["new_balance_usd"].as_f64()), (&json!(true), Some(20.0)));
    assert_eq!(balance(cli)["balance_usd"].as_f64(), Some(20.0));
    let other_amount = ["billing", "topup", "--amount", "30", "--payment-ref", "invoice-1"];
    cli.run(&other_amount).failed(1, &["409"]);
    assert_eq!(balance(cli)["balance_usd"].as_f64(), Some(20.0));
}

fn billing(cli: &Cli) {
    let left = cli.run(&["billing", "balance"]).json();
    let left = left["balance_usd"].as_f64().expect("a balance");
    assert!(left < 20.0 && left > 19.0, "some of it was spent: {left}");
    let subscription = cli.run(&["billing", "subscription"]).json();
    assert_eq!(subscription["face_count"], 1, "{subscription}");
    let quota = cli.run(&["billing", "quota"]).json();
    assert!(quota["faces"].to_string().contains("ada"), "{quota}");
    for (group, label) in [("model", "ada"), ("llm", "sandbox"), ("api_key", ""), ("date", "20")] {
        let usage = ["billing", "usage", "--group-by", group];
        let usage =
            cli.run(&[&usage[..], &["--from", "2020-01-01", "--to", "2999-12-31"]].concat());
        let usage = usage.json();
        assert!(usage["totals"]["request_count"].as_i64() > Some(5), "{usage}");
        assert!(usage["rows"].to_string().contains(label), "{group}: {usage}");
    }
    // No card is ever asked for: the client is told so in words.
    cli.run(&["billing", "checkout", "--plan", "pro"]).failed(1, &["Error ("]);
    cli.run(&["billing", "card-setup"]).failed(1, &["Error ("]);
}
