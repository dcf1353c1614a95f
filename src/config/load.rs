//! From flags, environment and `.env` to a [`Cli`], with messages that name the variable and the
//! fix.
//!
//! clap declares which variable belongs to which flag, but does not read them: its own reading
//! takes an empty variable for a value, forgets in its errors where a value came from, and repeats
//! secrets. Instead each set variable is put in front of the caller's arguments as a flag.

use std::{ffi::OsString, io, num::ParseIntError, process::ExitCode};

use clap::{
    Arg, Args as _, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use secrecy::SecretString;

use super::{Cli, Command, DotenvError, Environment, Settings};

/// Why the program can't start, or that it only had to show a text.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Help or version was asked for, or the command line is wrong.
    #[error("{0}")]
    CommandLine(#[from] Box<clap::Error>),
    /// `.env` can't be used.
    #[error("{0}")]
    Dotenv(#[from] DotenvError),
    /// A setting has a value that can't be used.
    #[error("{0}")]
    Setting(#[from] SettingError),
}

/// A setting that can't be used: what, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}\n  fix: {fix}")]
pub struct SettingError {
    /// The variable, or the flag when the value came from one.
    pub setting: String,
    /// What is wrong, without the value of a secret.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl CliError {
    /// Writes the text where it belongs (help and version to stdout, errors to stderr) and gives
    /// the exit code: 0 for help and version, else 2.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::CommandLine(error) => {
                // A closed terminal is no reason for another error.
                drop(error.print());
                u8::try_from(error.exit_code()).map_or_else(|_| ExitCode::from(2), ExitCode::from)
            }
            Self::Dotenv(_) | Self::Setting(_) => {
                drop(io::Write::write_fmt(&mut io::stderr(), format_args!("error: {self}\n")));
                ExitCode::from(2)
            }
        }
    }
}

impl Cli {
    /// Reads arguments, environment and `.env` of this process.
    ///
    /// # Errors
    /// [`CliError`] with a text for the operator; [`CliError::report`] shows it.
    pub fn from_process() -> Result<Self, CliError> {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        match Environment::from_process() {
            Ok(environment) => Self::parse_from(arguments, &environment),
            Err(error) => Err(asked_for_text(&arguments).unwrap_or_else(|| error.into())),
        }
    }

    /// Reads given arguments (the first is the program's name) and a given environment.
    ///
    /// # Errors
    /// [`CliError`] with a text for the operator; it never holds a secret.
    pub fn parse_from<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        if arguments.is_empty() {
            arguments.push(OsString::from("faces"));
        }
        let flags = environment_flags(&arguments, environment)?;
        let mut all = arguments.clone();
        all.splice(1..1, flags.iter().map(|(_, flag)| flag.clone()));
        let matches = definition()
            .mut_args_deep(&|arg| arg.env(None::<&'static str>))
            .try_get_matches_from(all)
            .map_err(|error| explain(error, &arguments, &flags))?;
        let mut cli = Self::from_arg_matches(&matches).map_err(Box::new)?;
        cli.settings.providers.environment = environment.clone();
        if let Some(Command::Chat(chat)) = &mut cli.command {
            let variable = |name| environment.get(name);
            chat.url = chat.url.take().or_else(|| variable("FACES_URL").map(str::to_owned));
            chat.key =
                chat.key.take().or_else(|| variable("FACES_API_KEY").map(SecretString::from));
        }
        cli.settings.check()?;
        Ok(cli)
    }

    /// What to do; without a command: serve.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Serve)
    }
}

/// The whole command line: settings are accepted by every command and shown by those that serve.
pub(super) fn definition() -> clap::Command {
    let top = <Cli as CommandFactory>::command().mut_args(|arg| {
        let is_limit = arg.get_help_heading() == Some("Limits");
        let arg = if is_limit { arg.value_name("N").hide_short_help(true) } else { arg };
        arg.global(true)
    });
    let settings: Vec<Arg> = settings_args().map(|arg| arg.global(true).hide(true)).collect();
    top.next_line_help(true).mut_subcommands(|command| {
        if command.get_name() == "serve" {
            command.next_line_help(true)
        } else {
            command.args(settings.clone())
        }
    })
}

/// The definitions of all settings, in their order.
pub(super) fn settings_args() -> impl Iterator<Item = Arg> {
    let command = Settings::augment_args(clap::Command::new("settings"));
    command.get_arguments().cloned().collect::<Vec<_>>().into_iter()
}

trait MutArgsDeep {
    fn mut_args_deep(self, change: &dyn Fn(Arg) -> Arg) -> Self;
}

impl MutArgsDeep for clap::Command {
    fn mut_args_deep(self, change: &dyn Fn(Arg) -> Arg) -> Self {
        self.mut_args(change).mut_subcommands(|command| command.mut_args_deep(change))
    }
}

/// Every set variable of a setting that no flag overrides, as `(variable, --flag=value)`.
fn environment_flags(
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Vec<(String, OsString)>, SettingError> {
    let mut flags = Vec::new();
    for arg in settings_args() {
        let (Some(variable), Some(long)) = (variable_of(&arg), arg.get_long()) else { continue };
        if has_flag(arguments, long) {
            continue;
        }
        if environment.is_undecodable(&variable) {
            return Err(SettingError {
                setting: variable.clone(),
                problem: "is not valid UTF-8 text".to_owned(),
                fix: format!("set {variable} again, or unset it"),
            });
        }
        if let Some(value) = environment.get(&variable) {
            flags.push((variable, OsString::from(format!("--{long}={value}"))));
        }
    }
    Ok(flags)
}

pub(super) fn variable_of(arg: &Arg) -> Option<String> {
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// Whether the caller wrote `--long` or `--long=…` himself.
fn has_flag(arguments: &[OsString], long: &str) -> bool {
    arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--")
        .filter_map(|argument| argument.to_str()?.strip_prefix("--"))
        .any(|argument| argument.split('=').next() == Some(long))
}

/// Replaces clap's text where ours is better: help must come whatever the environment holds, a
/// wrong setting must name its variable, a secret must stay one.
fn explain(error: clap::Error, arguments: &[OsString], flags: &[(String, OsString)]) -> CliError {
    if let Some(text) = asked_for_text(arguments) {
        return text;
    }
    match wrong_setting(&error, flags) {
        Some(setting) => setting.into(),
        None => Box::new(error).into(),
    }
}

/// Help or version, when the arguments alone ask for it; help names the variables.
fn asked_for_text(arguments: &[OsString]) -> Option<CliError> {
    let with_variables = definition().mut_args_deep(&|arg| arg.hide_env_values(true));
    let error = with_variables.try_get_matches_from(arguments).err()?;
    let is_text = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    is_text.then(|| Box::new(error).into())
}

fn wrong_setting(error: &clap::Error, flags: &[(String, OsString)]) -> Option<SettingError> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    // clap shows an argument as `--flag <VALUE>`.
    let long = text(ContextKind::InvalidArg)?.split(' ').next()?.strip_prefix("--")?;
    let arg = settings_args().find(|arg| arg.get_long() == Some(long))?;
    let variable = variable_of(&arg)?;
    let reason = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => format!("it must be one of: {}", words.join(", ")),
        _ => match std::error::Error::source(error) {
            Some(source) if source.is::<ParseIntError>() => "it must be a whole number".to_owned(),
            Some(source) => source.to_string(),
            None => "it has no value".to_owned(),
        },
    };
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let problem = if arg.is_hide_env_values_set() {
        format!("has a value that can't be used (not shown: it may be a secret): {reason}")
    } else {
        format!("can't be `{}`: {reason}", value.chars().take(80).collect::<String>())
    };
    let default = match arg.get_default_values() {
        [value, ..] => format!("default: {}", value.to_string_lossy()),
        [] => "unset by default".to_owned(),
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let from_environment = flags.iter().any(|(name, _)| *name == variable);
    Some(if from_environment {
        SettingError {
            fix: format!(
                "correct {variable} in the environment or .env, or unset it ({default}): {help}"
            ),
            setting: variable,
            problem,
        }
    } else {
        SettingError {
            setting: format!("--{long}"),
            problem,
            fix: format!(
                "correct the flag or leave it out (variable {variable}, {default}): {help}"
            ),
        }
    })
}
