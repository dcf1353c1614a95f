//! What a start prints for people: where it listens and, the first time, how to use the demo.

use std::io::{self, Write};

use crate::{config::Settings, flows::demo::Demo};

/// Prints to standard output; a closed one is not an error of the server.
pub(super) fn announce(url: &str, settings: &Settings, demo: Option<&Demo>) {
    let text = match demo {
        Some(demo) => first(url, demo),
        None => format!(
            "Faces serves on {url}\nNew key:   faces admin account list; faces admin key create --account ID\nIn the terminal: faces chat alice \"Who are you?\"{}\n",
            if settings.data_dir.as_os_str() == "./data" {
                ""
            } else {
                " (with the same FACES_DATA_DIR)"
            }
        ),
    };
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        log::debug!(target: "faces::app", "standard output is closed: {error}");
    }
}

fn first(url: &str, demo: &Demo) -> String {
    let Demo { account_id, credit, face, key } = demo;
    format!(
        r#"Faces serves on {url}

This is the first start: a demo account with {credit} USD of credit and the face `{face}` were made.

  account  {account_id}
  API key  {key}   (shown this once)

Talk to {face}:

curl -N {url}/v1/chat/completions \
  -H "Authorization: Bearer {key}" \
  -H "Content-Type: application/json" \
  -d '{{"model": "{face}", "stream": true, "messages": [{{"role": "user", "content": "What do you do when you are stuck on a repair?"}}]}}'

or in another terminal: faces chat {face} "What do you do when you are stuck on a repair?"

"#
    )
}
