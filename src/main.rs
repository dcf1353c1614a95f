//! The program `faces`: reads the command line, starts the log, runs the command.

use std::process::ExitCode;

use faces::{
    app,
    config::{Cli, Command, Settings},
    telemetry,
};

fn main() -> ExitCode {
    let cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => return error.report(),
    };
    // A command's own output is what its user wants to see; the log of a server is asked for.
    let is_default = cli.settings.log_filter == Settings::LOG_FILTER_DEFAULT;
    let quiet = is_default && !matches!(cli.command(), Command::Serve);
    let filter = if quiet { "warn" } else { &cli.settings.log_filter };
    if let Err(error) = telemetry::init(filter) {
        return app::start_failed(&error.into());
    }
    let code = actix_web::rt::System::new().block_on(app::execute(cli));
    telemetry::flush();
    code
}
