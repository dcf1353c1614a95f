//! What the client shows when the server says no: one line with the status and the fix, exit code
//! 1, never a traceback.

use super::{Cli, PASSWORD};
use crate::{stage::Stage, support::server::TestServer};

#[test]
fn refusals_are_one_line_with_the_status() {
    let server = TestServer::builder().env("FACES_REGISTRATION", "open").start();
    let Some(cli) = Cli::new(&server) else { return };
    cli.run(&["face", "list"]).failed(1, &["no credentials found"]);
    let login = |password| ["auth", "login", "--email", "eve@example.com", "--password", password];
    cli.run(&login(PASSWORD)).failed(1, &["Login failed (4"]);
    cli.register("eve");
    cli.run(&login("Wrong-horse-7")).failed(1, &["Login failed (4"]);
    let again = ["auth", "register", "--email", "EVE@example.com", "--password", PASSWORD];
    let again = [&again[..], &["--name", "Eve", "--username", "eve-2"]].concat();
    cli.run(&again).failed(1, &["Registration failed (4"]);
    let weak = ["auth", "register", "--email", "x@example.com", "--password", "short"];
    let weak = [&weak[..], &["--name", "X", "--username", "x"]].concat();
    cli.run(&weak).failed(1, &["Registration failed (422)", "password"]);

    let face = |username| ["face", "create", "--name", "F", "--username", username];
    cli.run(&face("Not A Slug")).failed(1, &["422"]);
    cli.run(&face("fred")).json();
    cli.run(&face("fred")).failed(1, &["409"]);
    for missing in [
        &["face", "get", "nobody"][..],
        &["face", "update", "nobody", "--name", "N"],
        &["face", "delete", "nobody", "--yes"],
        &["compile", "doc", "list", "nobody"],
        &["compile", "doc", "create", "nobody", "--content", "text"],
        &["compile", "doc", "sync", "0190a000-0000-7000-8000-000000000000", "--yes"],
        &["compile", "thread", "create", "nobody"],
        &["compile", "thread", "message", "0190a000-0000-7000-8000-000000000000", "-m", "x"],
        &["keys", "revoke", "0190a000-0000-7000-8000-000000000000", "--yes"],
        &["keys", "update", "0190a000-0000-7000-8000-000000000000", "--name", "n"],
        &["chat", "chat", "nobody", "-m", "Hello"],
        &["chat", "messages", "nobody", "-m", "Hello"],
        &["chat", "responses", "nobody", "-m", "Hello"],
    ] {
        cli.run(missing).failed(1, &["404"]);
    }
    cli.run(&["chat", "chat", "fred", "-m", "x", "--llm", "no-such"]).failed(1, &["422"]);
    let empty = cli.file("empty.txt", "");
    cli.run(&["face", "upload", "fred", "--file", &empty]).failed(1, &["422"]);
    let sound = cli.file("talk.mp3", "ID3");
    cli.run(&["face", "upload", "fred", "--file", &sound]).failed(1, &["Error (4"]);
    cli.run(&["billing", "usage", "--from", "yesterday"]).failed(1, &["422"]);
    cli.run(&["face", "update", "fred"]).failed(2, &["Usage error"]);
    let bad = "not-a-token";
    cli.run(&["--token", bad, "face", "list"]).failed(1, &["401"]);
}

#[test]
fn without_credit_and_over_budget_the_client_says_payment_required() {
    let stage = Stage::new();
    let Some(cli) = Cli::new(&stage.server) else { return };
    let poor = stage.server.account_with_usd("0");
    stage.server.alice(&poor);
    for command in ["chat", "messages", "responses"] {
        for stream in [&[][..], &["--stream"]] {
            let arguments = [&["chat", command, "alice", "-m", "Hello"], stream].concat();
            cli.run_with_key(&poor.key, &arguments).failed(1, &["Payment required"]);
        }
    }
    let spent = stage.server.key(&stage.account.id, &["--budget-usd", "0.000000001"]);
    let over = cli.run_with_key(&spent, &["chat", "chat", "alice", "-m", "Hello"]);
    over.failed(1, &["Payment required", "budget"]);
}
