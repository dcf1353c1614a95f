//! The program `faces`: reads the command line, starts the log, runs the command.

use std::process::ExitCode;

use faces::{app, config::Cli, telemetry};

fn main() -> ExitCode {
    let cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => return error.report(),
    };
    if let Err(error) = telemetry::init(&cli.settings.log_filter) {
        return app::start_failed(&error.into());
    }
    actix_web::rt::System::new().block_on(app::execute(cli))
}
