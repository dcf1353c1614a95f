//! The administrator's commands and `faces chat`, while a server runs and while none does.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, chat, error_of, nanousd},
    postgres,
    program::{self, Place, Serving, edit_database, err, json, out},
    support::{BOUND, http::Request, replies::openai, server::TestServer, wait_for},
};

/// Runs `faces …` where the server has its data.
#[track_caller]
fn run(server: &TestServer, arguments: &[&str]) -> std::process::Output {
    server.command(arguments)
}

#[track_caller]
pub(crate) fn refused(output: &std::process::Output, code: &str) {
    assert_eq!(output.status.code(), Some(1), "{} {}", out(output), err(output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(told["error"]["code"], code, "{told}");
    assert!(told["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    assert!(err(output).starts_with("error: "), "{}", err(output));
}

/// Runs `faces admin … --json` and reads its answer.
#[track_caller]
fn admin(place: &Place, arguments: &[&str]) -> Value {
    json(&place.run(&[&["admin"], arguments, &["--json"]].concat()))
}

/// Every command, in an order in which each finds what it needs.
#[track_caller]
fn every_command_works(place: &Place) {
    let admin = |arguments: &[&str]| admin(place, arguments);
    let made = admin(&["account", "create", "--name", "shop", "--credit-usd", "1.000000001"]);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(nanousd(&made["balance_usd"]), 1_000_000_001, "{made}");
    let listed = admin(&["account", "list"]);
    assert!(listed["data"].as_array().unwrap().iter().any(|one| one["id"] == made["id"]));
    for (word, frozen) in [("freeze", true), ("freeze", true), ("unfreeze", false)] {
        assert_eq!(admin(&["account", word, "--account", &id])["frozen"], frozen);
    }
    keys_work(place, &id);
    topups_work(place, &id);
    crate::books::topups_and_exports_work(place, &id);
    imports_work(place, &id);
    wrong_arguments_are_refused(place, &id);
    let audit = json(&place.run(&["audit", "--json"]));
    assert_eq!(audit["clean"], true, "{audit}");
    // For people, without --json.
    let table = place.run(&["admin", "account", "list"]);
    assert!(out(&table).contains("shop") && out(&table).contains("balance_usd"), "{}", out(&table));
}

#[track_caller]
fn keys_work(place: &Place, id: &str) {
    let admin = |arguments: &[&str]| admin(place, arguments);
    let key = admin(&[
        "key",
        "create",
        "--account",
        id,
        "--name",
        "laptop",
        "--expires-in-days",
        "3",
        "--allow-face",
        "bo",
        "--allow-model",
        "sandbox",
    ]);
    let secret = key["key"].as_str().unwrap();
    assert!(secret.starts_with("sk-faces-") && secret.len() == 52, "{key}");
    let keys = admin(&["key", "list", "--account", id]);
    let shown = &keys["data"][0];
    assert!(!keys.to_string().contains(secret), "a secret is shown once");
    assert!(secret.starts_with(shown["key_prefix"].as_str().unwrap()), "{keys}");
    assert_eq!((&shown["allowed_face_ids"], &shown["revoked"]), (&json!(["bo"]), &json!(false)));
    let key_id = shown["id"].as_str().unwrap().to_owned();
    budgets_work(place, &key_id);
    assert_eq!(admin(&["key", "revoke", "--key", &key_id])["revoked"], true);
    assert_eq!(admin(&["key", "revoke", "--key", &key_id])["revoked"], true, "again is no error");
    assert_eq!(admin(&["key", "list", "--account", id])["data"][0]["revoked"], true);
}

#[track_caller]
fn budgets_work(place: &Place, key: &str) {
    let set = |options: &[&str]| {
        place.run(&[&["admin", "key", "set", "--key", key, "--json"], options].concat())
    };
    refused(&set(&["--budget-window", "daily"]), "invalid_request_body");
    let made = json(&set(&["--budget-usd", "5.000000001"]));
    assert_eq!(
        (nanousd(&made["budget_usd"]), &made["budget_window"], &made["resets_at"]),
        (5_000_000_001, &json!("none"), &Value::Null)
    );
    assert_eq!((nanousd(&made["spent_usd"]), nanousd(&made["total_spent_usd"])), (0, 0));
    let daily = json(&set(&["--budget-window", "daily"]));
    assert_eq!(
        (nanousd(&daily["budget_usd"]), &daily["budget_window"]),
        (5_000_000_001, &json!("daily"))
    );
    assert!(daily["resets_at"].as_u64().is_some_and(|at| at % 86_400 == 0), "{daily}");
    let listed = json(&set(&["--budget-usd", "0", "--budget-window", "weekly"]));
    assert_eq!((nanousd(&listed["budget_usd"]), &listed["budget_window"]), (0, &json!("weekly")));
    let removed = json(&set(&["--no-budget"]));
    assert_eq!((&removed["budget_usd"], &removed["budget_window"]), (&Value::Null, &Value::Null));
    for wrong in [
        &[][..],
        &["--no-budget", "--budget-usd", "1"],
        &["--budget-usd", "-1"],
        &["--budget-usd", "1", "--budget-window", "hourly"],
    ] {
        assert_eq!(set(wrong).status.code(), Some(2), "{wrong:?}: {}", err(&set(wrong)));
    }
    let unknown = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    let missing = place.run(&["admin", "key", "set", "--key", unknown, "--no-budget", "--json"]);
    refused(&missing, "not_found");
}

#[track_caller]
fn topups_work(place: &Place, id: &str) {
    let topup = |usd: &str, reference: &str| {
        place.run(&["admin", "topup", "--account", id, "--usd", usd, "--ref", reference, "--json"])
    };
    let first = json(&topup("2.5", "invoice-1"));
    assert_eq!(
        (&first["repeated"], nanousd(&first["balance_usd"])),
        (&json!(false), 3_500_000_001)
    );
    let again = json(&topup("2.50", "invoice-1"));
    assert_eq!((&again["repeated"], nanousd(&again["balance_usd"])), (&json!(true), 3_500_000_001));
    refused(&topup("2.51", "invoice-1"), "conflict");
    let second = json(&topup("0.000000001", "invoice-2"));
    assert_eq!(nanousd(&second["balance_usd"]), 3_500_000_002);
    refused(&topup("9223372036", "invoice-3"), "invalid_request_body");
}

#[track_caller]
fn imports_work(place: &Place, id: &str) {
    let admin = |arguments: &[&str]| admin(place, arguments);
    let file = place.path().join("bo.json");
    let face = json!({"username": "bo", "name": "Bo", "basic_facts": {"age": 7},
        "primitives": [{"component": "alpha", "text": "Bo sails."}]});
    fs::write(&file, face.to_string()).unwrap();
    let import =
        |file: &str| place.run(&["admin", "face", "import", "--account", id, file, "--json"]);
    let imported = json(&import("bo.json"));
    assert_eq!(
        (&imported["username"], &imported["component_counts"]["alpha"]),
        (&json!("bo"), &json!(1))
    );
    json(&import("bo.json"));
    let faces = admin(&["face", "list", "--account", id]);
    assert_eq!(faces["data"].as_array().unwrap().len(), 1, "replaced, not doubled: {faces}");
    fs::write(&file, r#"{"username": "bo", "primitives": [{"component": "x", "text": "t"}]}"#)
        .unwrap();
    let wrong = import("bo.json");
    refused(&wrong, "invalid_request_body");
    assert!(err(&wrong).contains("primitives[0].component"), "{}", err(&wrong));
    let kept = admin(&["face", "list", "--account", id]);
    assert_eq!(kept, faces, "a wrong file changes nothing");
    let absent = import("absent.json");
    assert!(!absent.status.success() && err(&absent).contains("absent.json"), "{}", err(&absent));
}

#[track_caller]
fn wrong_arguments_are_refused(place: &Place, id: &str) {
    let nobody = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    let unknown: [&[&str]; 7] = [
        &["admin", "account", "freeze", "--account", nobody],
        &["admin", "account", "unfreeze", "--account", nobody],
        &["admin", "key", "create", "--account", nobody],
        &["admin", "key", "list", "--account", nobody],
        &["admin", "key", "revoke", "--key", nobody],
        &["admin", "topup", "--account", nobody, "--usd", "1", "--ref", "r"],
        &["admin", "face", "list", "--account", nobody],
    ];
    for arguments in unknown {
        let output = place.run(&[arguments, &["--json"]].concat());
        refused(&output, "not_found");
    }
    let wrong: [&[&str]; 7] = [
        &["admin", "topup", "--account", id, "--usd", "-1", "--ref", "r"],
        &["admin", "topup", "--account", id, "--usd", "0", "--ref", "r"],
        &["admin", "topup", "--account", id, "--usd", "0.0000000001", "--ref", "r"],
        &["admin", "topup", "--account", id, "--usd", "1", "--ref", " "],
        &["admin", "account", "create", "--name", ""],
        &["admin", "key", "create", "--account", "not-an-id"],
        &["admin", "nonsense"],
    ];
    for arguments in wrong {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(out(&output).is_empty() && !err(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_command_works_without_a_server() {
    let place = Place::new();
    every_command_works(&place);
}

#[test]
fn every_command_works_beside_a_running_server() {
    let place = Place::new();
    let serving = place.serve(&[("FACES_DEMO", "off")]);
    every_command_works(&place);
    assert!(serving.stop().success());
}

#[test]
fn every_command_works_on_postgresql_with_a_server_and_without_one() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = runtime
        .block_on(async { (cluster.create_database().await, cluster.create_database().await) });
    every_command_works(&Place::on_postgres(&first.url));
    let place = Place::on_postgres(&second.url);
    let serving = place.serve(&[("FACES_DEMO", "off")]);
    every_command_works(&place);
    assert!(serving.stop().success());
    // A demo is made there too, and a chat finds the server by its run file.
    let fresh = runtime.block_on(cluster.create_database());
    let place = Place::on_postgres(&fresh.url);
    let serving = place.serve(&[("FACES_SANDBOX_DELTA_INTERVAL_MS", "0")]);
    let said = place.run(&chat_arguments());
    assert!(said.status.success() && out(&said).contains("sandbox"), "{}", err(&said));
    serving.kill();
    let after_crash = place.run(&chat_arguments());
    assert!(after_crash.status.success(), "{}", err(&after_crash));
}

#[test]
fn a_silent_visitor_of_the_admin_socket_keeps_nobody_waiting() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let socket = place.path().join("data/admin.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the permission is the credential");
    let _silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    let listed = json(&place.run(&["admin", "account", "list", "--json"]));
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert!(!serving.log().contains("WARN"), "who says nothing is no failure: {}", serving.log());
    assert!(serving.stop().success());
}

#[test]
fn a_key_revoked_beside_the_server_is_refused_by_the_very_next_request() {
    let stage = Stage::new([]);
    let key = stage.server.admin(&["key", "create", "--account", &stage.account.id]);
    let secret = key["key"].as_str().unwrap();
    stage.server.plant_secret(secret);
    let models = || Request::get("/v1/models").bearer(secret).fetch(stage.server.address());
    assert_eq!(models().status, 200);
    stage.server.admin(&["key", "revoke", "--key", key["id"].as_str().unwrap()]);
    let refused = models();
    assert_eq!(
        (refused.status, error_of(&refused, Dialect::OpenAi).code),
        (401, "invalid_api_key".into())
    );
}

#[test]
fn a_face_imported_beside_the_server_answers_at_once() {
    let stage = Stage::new([openai::json_exchange("ok", 1, 1).any_times()]);
    for number in 0..3 {
        let mut face = crate::support::server::alice(Some(crate::support::models::OPENAI_MODEL));
        face["name"] = json!(format!("Alice the {number}."));
        stage.server.face(&stage.account, &face);
        assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
        let system =
            stage.upstream.requests().pop().unwrap().json()["messages"][0]["content"].clone();
        assert!(system.as_str().unwrap().contains(&format!("Alice the {number}.")), "{system}");
    }
}

#[test]
fn an_import_keeps_the_faces_identity() {
    let stage = Stage::new([]);
    let uid = |stage: &Stage| stage.get("/v1/faces/alice").json()["uid"].clone();
    let before = uid(&stage);
    stage.server.alice(&stage.account);
    assert_eq!(uid(&stage), before, "usage rows and lists name a face by it");
}

fn chat_arguments<'a>() -> [&'a str; 3] {
    ["chat", "alice", "What do you do on a free morning?"]
}

#[test]
fn chat_works_with_a_server_and_without_one() {
    let place = Place::new();
    let env = [("FACES_SANDBOX_DELTA_INTERVAL_MS", "0")];
    let serving: Serving<'_> = place.serve(&env);
    let beside = place.run(&chat_arguments());
    assert!(beside.status.success(), "{}", err(&beside));
    assert!(out(&beside).contains("sandbox"), "{}", out(&beside));
    assert!(err(&beside).contains("cost") && err(&beside).contains("balance"), "{}", err(&beside));
    assert!(serving.stop().success());
    let alone = place.run(&chat_arguments());
    assert!(alone.status.success(), "{}", err(&alone));
    assert!(out(&alone).contains("sandbox"), "{}", out(&alone));
    let whole = place.run(&["chat", "alice@sandbox", "Hi", "--no-stream", "--system", "Be brief."]);
    assert!(whole.status.success() && !out(&whole).trim().is_empty(), "{}", err(&whole));
    let nobody = place.run(&["chat", "nobody-here", "Hi"]);
    assert_eq!(nobody.status.code(), Some(1), "{}", out(&nobody));
    assert!(err(&nobody).contains("nobody-here"), "{}", err(&nobody));
    assert_eq!(json(&place.run(&["audit", "--json"]))["clean"], true);
}

#[test]
fn chat_on_a_fresh_machine_makes_the_demo_and_answers() {
    let place = Place::new();
    let output = place.run(&chat_arguments());
    assert!(output.status.success(), "{} {}", out(&output), err(&output));
    assert!(out(&output).contains("sandbox"), "{}", out(&output));
}

#[test]
fn chat_after_a_crash_does_not_look_for_the_dead_server() {
    let place = Place::new();
    place.serve(&[]).kill();
    let output = place.run(&chat_arguments());
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("sandbox"), "{}", out(&output));
}

#[test]
fn ctrl_c_ends_a_chat_with_130_and_what_was_said_is_billed() {
    let place = Place::new();
    let serving = place.serve(&[("FACES_SANDBOX_DELTA_INTERVAL_MS", "200")]);
    let mut child = place
        .faces(&chat_arguments())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let mut first = [0_u8; 1];
    std::io::Read::read_exact(&mut pipe, &mut first).expect("a first delta");
    program::signal(child.id(), "INT");
    let errors = child.stderr.take().unwrap();
    let status = program::wait_exit(child, BOUND);
    assert_eq!(status.code(), Some(130), "{} {}", program::rest(pipe), program::rest(errors));
    wait_for("the bill of the stopped chat", BOUND, || {
        serving.log().lines().any(|line| line.contains("finish=client_gone")).then_some(())
    });
    assert!(serving.stop().success());
    assert_eq!(json(&place.run(&["audit", "--json"]))["clean"], true);
}

#[test]
fn the_audit_says_what_is_wrong_with_exit_code_1_and_that_it_could_not_run_with_2() {
    let upstream_reply = openai::json_exchange("ok", 10, 5).any_times();
    let mut stage = Stage::new([upstream_reply]);
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    stage.server.audit();
    assert!(stage.server.terminate().success());
    let steal = "UPDATE ledger_account SET credits = credits + 1 WHERE kind = 1";
    edit_database(&stage.server, steal);
    for (json_flag, arguments) in [
        (true, ["audit", "--json"].as_slice()),
        (true, &["audit", "--incremental", "--json"]),
        (false, &["audit"]),
    ] {
        let found = run(&stage.server, arguments);
        assert_eq!(found.status.code(), Some(1), "{} {}", out(&found), err(&found));
        assert!(out(&found).contains("clean"), "{}", out(&found));
        if json_flag {
            let told: Value = serde_json::from_slice(&found.stdout).unwrap();
            assert_eq!(told["clean"], false, "{told}");
        }
    }
    edit_database(&stage.server, "UPDATE ledger_account SET credits = credits - 1 WHERE kind = 1");
    stage.server.audit();
    let place = Place::new();
    let nothing = place.run(&["audit", "--json"]);
    assert_eq!(nothing.status.code(), Some(2), "{} {}", out(&nothing), err(&nothing));
    fs::create_dir(place.path().join("data")).unwrap();
    fs::write(place.path().join("data/faces.db"), "this is no database").unwrap();
    let broken = place.run(&["audit"]);
    assert_eq!(broken.status.code(), Some(2), "{} {}", out(&broken), err(&broken));
    assert!(err(&broken).contains("could not run"), "{}", err(&broken));
}

#[test]
fn an_incremental_audit_works_while_a_server_runs_and_while_none_does() {
    let place = Place::new();
    let nothing = place.run(&["audit", "--incremental"]);
    assert_eq!(nothing.status.code(), Some(2), "{} {}", out(&nothing), err(&nothing));
    let data = place.path().join("data");
    assert!(!data.exists(), "an audit makes no books");
    let serving = place.serve(&[]);
    let served = json(&place.run(&["audit", "--incremental", "--json"]));
    assert_eq!(served["clean"], true, "{served}");
    assert_eq!(served["mode"], "incremental", "{served}");
    assert!(served["sealed_to"].is_string(), "{served}");
    assert!(serving.stop().success());
    let alone = place.run(&["audit", "--incremental"]);
    assert!(alone.status.success(), "{} {}", out(&alone), err(&alone));
    let lines = out(&alone);
    let line = lines.lines().find(|line| line.starts_with("sealed_to ")).unwrap_or_default();
    assert!(line.ends_with('Z'), "{lines}");
    let all = json(&place.run(&["audit", "--json"]));
    assert_eq!((&all["mode"], &all["clean"]), (&json!("full"), &json!(true)), "{all}");
}

#[test]
fn every_command_has_help_with_examples() {
    let place = Place::new();
    let commands: [&[&str]; 19] = [
        &[],
        &["serve"],
        &["chat"],
        &["audit"],
        &["topup"],
        &["ledger"],
        &["ledger", "show"],
        &["ledger", "export"],
        &["admin"],
        &["admin", "account"],
        &["admin", "account", "create"],
        &["admin", "account", "list"],
        &["admin", "account", "freeze"],
        &["admin", "account", "unfreeze"],
        &["admin", "key", "create"],
        &["admin", "key", "revoke"],
        &["admin", "key", "list"],
        &["admin", "topup"],
        &["admin", "face", "import"],
    ];
    for command in commands {
        // Help comes whatever the environment holds, and shows no secret of it.
        let mut process = place.faces(&[command, &["--help"]].concat());
        process.env("OPENAI_API_KEY", "KEY-CANARY-help").env("FACES_LISTEN", "nonsense");
        let output = process.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", err(&output));
        let text = out(&output);
        assert!(text.contains("Examples:") && text.contains("faces "), "{command:?}: {text}");
        assert!(!text.contains("KEY-CANARY"), "{command:?}");
    }
    assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "help touches nothing");
}
