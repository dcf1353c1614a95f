//! The OpenAPI document by the validator that tools for such documents use.

use std::{fs, process::Command};

use crate::{
    install,
    support::{http::Request, server::TestServer},
};

#[test]
fn the_openapi_document_is_valid() {
    let Some(validator) = install::openapi_validator() else { return };
    let server = TestServer::builder().start();
    let document = Request::get("/openapi.json").fetch(server.address());
    let file = server.data_dir().join("openapi.json");
    fs::write(&file, &document.body).expect("the document is written");
    let checked = Command::new("python3")
        .args(["-m", "openapi_spec_validator", "--errors", "all"])
        .arg(&file)
        .env("PYTHONPATH", &validator.directory)
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    assert!(said.contains("OK"), "{said}");
}
