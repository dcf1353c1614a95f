//! Runs the Python drivers: the same calls with every version of an SDK, at once.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::install::Sdk;

/// A call that a driver makes.
#[derive(Debug, Clone)]
pub(crate) struct Call(Value);

impl Call {
    fn new(name: &str, kind: &str, params: Value) -> Self {
        Self(json!({"name": name, "kind": kind, "params": params}))
    }

    /// `client.chat.completions.create(…)`.
    pub(crate) fn chat(name: &str, params: Value) -> Self {
        Self::new(name, "chat", params)
    }

    /// `client.responses.create(…)`.
    pub(crate) fn response(name: &str, params: Value) -> Self {
        Self::new(name, "response", params)
    }

    /// `client.responses.stream(…)`, whose helper puts the events together.
    pub(crate) fn accumulated(name: &str, params: Value) -> Self {
        Self::new(name, "accumulated", params)
    }

    /// `client.messages.create(…)`.
    pub(crate) fn message(name: &str, params: Value) -> Self {
        Self::new(name, "message", params)
    }

    /// `client.messages.count_tokens(…)`.
    pub(crate) fn count(name: &str, params: Value) -> Self {
        Self::new(name, "count", params)
    }

    /// `client.models.list()`.
    pub(crate) fn models(name: &str) -> Self {
        Self::new(name, "models", json!({}))
    }

    /// `client.models.retrieve(…)`.
    pub(crate) fn model(name: &str, model: &str) -> Self {
        Self::new(name, "model", json!({"model": model}))
    }

    /// With `stream=True`.
    pub(crate) fn streamed(self) -> Self {
        self.with("stream", true)
    }

    /// With the asynchronous client.
    pub(crate) fn asynchronous(self) -> Self {
        self.with("async", true)
    }

    /// With another key than the report's usual one.
    pub(crate) fn key(self, key: &str) -> Self {
        self.with("api_key", key)
    }

    /// With the key as a bearer token (Anthropic).
    pub(crate) fn bearer(self) -> Self {
        self.with("auth", "token")
    }

    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }
}

/// What one version of an SDK saw.
#[derive(Debug)]
pub(crate) struct Report {
    /// Package and version, for messages.
    pub(crate) sdk: String,
    /// Major version.
    pub(crate) major: u32,
    calls: Value,
}

impl Report {
    /// The report of a call.
    #[track_caller]
    pub(crate) fn call(&self, name: &str) -> &Value {
        let report = &self.calls[name];
        assert!(report.is_object(), "{}: no report of {name}: {}", self.sdk, self.calls);
        report
    }

    /// The report of a call that must have succeeded.
    #[track_caller]
    pub(crate) fn success(&self, name: &str) -> &Value {
        let report = self.call(name);
        assert!(report.get("error").is_none(), "{} {name}: {report}", self.sdk);
        report
    }

    /// The error of a call that must have failed.
    #[track_caller]
    pub(crate) fn failure(&self, name: &str) -> &Value {
        let report = self.call(name);
        let error = report.get("error");
        error.unwrap_or_else(|| panic!("{} {name} did not fail: {report}", self.sdk))
    }

    /// Asserts on one field of a successful call.
    #[track_caller]
    pub(crate) fn assert(&self, name: &str, pointer: &str, expected: impl Into<Value>) {
        let report = self.success(name);
        let found = report.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(*found, expected.into(), "{} {name} {pointer}: {report}", self.sdk);
    }
}

/// Makes `calls` with every one of `sdks`; one report each.
#[track_caller]
pub(crate) fn run(sdks: &[Sdk], base_url: &str, key: &str, calls: &[Call]) -> Vec<Report> {
    let calls: Vec<&Value> = calls.iter().map(|call| &call.0).collect();
    let input = json!({"base_url": base_url, "api_key": key, "calls": calls}).to_string();
    std::thread::scope(|scope| {
        let running: Vec<_> = sdks.iter().map(|sdk| scope.spawn(|| run_one(sdk, &input))).collect();
        running.into_iter().map(|thread| thread.join().expect("the driver reports")).collect()
    })
}

fn run_one(sdk: &Sdk, input: &str) -> Report {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/py");
    let mut command = Command::new("python3");
    for variable in
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    {
        command.env_remove(variable);
    }
    let mut child = command
        .arg(directory.join(format!("{}_driver.py", sdk.package)))
        .env("PYTHONPATH", &sdk.directory)
        .env("PYTHONNOUSERSITE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("the calls are written");
    drop(stdin);
    let output = child.wait_with_output().expect("python3 ends");
    let calls: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{} {}: {error}: {}",
            sdk.package,
            sdk.version,
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let expected = format!("{} {}", sdk.package, sdk.version);
    assert_eq!(calls["sdk"], expected, "another version was imported");
    let major = sdk.version.split('.').next().and_then(|text| text.parse().ok());
    Report { sdk: expected, major: major.expect("a major version"), calls }
}
