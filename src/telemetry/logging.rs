//! Starts env_logger.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    sync::OnceLock,
};

use env_logger::{Builder, Target, WriteStyle, fmt::Formatter};
use log::{
    Record,
    kv::{self, VisitSource},
};

use super::{
    access_line::{Value, is_unprintable},
    buffered::BufferedStderr,
};

/// The program's own targets start with this. All others are dependencies: what they tell below
/// `info` (statements, frames, spans with fields) is nobody's promise to keep secrets out of, so a
/// general level lowers them only to `info`; who needs more names them.
const OWN_TARGET: &str = "faces";

/// Libraries that read files of strangers and log what they find there, as often as it is there.
const QUIET_TARGETS: [&str; 1] = ["lopdf"];

/// The log filter can't be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "RUST_LOG can't be `{filter}`: {reason}\n  fix: set it to a level (error, warn, info, debug, \
     trace, off) or to TARGET=LEVEL pairs separated by commas, for example info,faces::access=off"
)]
pub struct LogFilterError {
    filter: String,
    reason: String,
}

/// Starts logging to stderr: colours only on a terminal, and `NO_COLOR` is honoured. A second call
/// in one process changes nothing (tests start several servers).
///
/// # Errors
/// [`LogFilterError`] when the filter (`RUST_LOG`) is malformed; nothing was started then.
pub fn init(filter: &str) -> Result<(), LogFilterError> {
    let mut builder = builder(filter)?;
    builder.target(Target::Stderr).write_style(WriteStyle::Auto);
    // A person at a terminal sees each line at once.
    if !io::stderr().is_terminal()
        && let Ok(buffered) = BufferedStderr::start()
    {
        builder.target(Target::Pipe(Box::new(buffered.clone()))).write_style(WriteStyle::Never);
        drop(BUFFERED.set(buffered));
    }
    // Only says that a logger is there already.
    drop(builder.try_init());
    Ok(())
}

/// Writes the lines that still wait; the last thing a program does.
pub fn flush() {
    if let Some(buffered) = BUFFERED.get() {
        // A closed standard error is nobody's to report.
        drop(buffered.write_waiting());
    }
}

static BUFFERED: OnceLock<BufferedStderr> = OnceLock::new();

fn builder(filter: &str) -> Result<Builder, LogFilterError> {
    check(filter)?;
    let mut builder = Builder::new();
    builder.parse_filters(filter);
    if let Some(general) = general_level(filter) {
        builder.filter_level(general.min(log::LevelFilter::Info));
        if !names_target(filter, OWN_TARGET) {
            builder.filter_module(OWN_TARGET, general);
        }
    }
    for target in QUIET_TARGETS {
        if !names_target(filter, target) {
            builder.filter_module(target, log::LevelFilter::Off);
        }
    }
    builder.format(write_line);
    Ok(builder)
}

/// One event, one line: line breaks of a message become `\n`, so that no text can forge a line.
fn write_line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    let style = out.default_level_style(record.level());
    write!(out, "{time} {style}{:<5}{style:#} {} ", record.level(), record.target())?;
    let mut line = OneLine(String::with_capacity(256));
    // Writing to a string fails only when a Display does; then the line ends there.
    if fmt::Write::write_fmt(&mut line, *record.args()).is_ok() {
        drop(record.key_values().visit(&mut line));
    }
    line.0.push('\n');
    out.write_all(line.0.as_bytes())
}

/// Text without control characters, and key-values in logfmt.
struct OneLine(String);

impl fmt::Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            if is_unprintable(character) {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

impl<'kvs> VisitSource<'kvs> for OneLine {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        write!(self.0, " {}={}", key.as_str(), Value(&value.to_string())).map_err(kv::Error::from)
    }
}

/// env_logger only warns about a part that it can't parse and then logs nothing of it.
fn check(filter: &str) -> Result<(), LogFilterError> {
    let fail =
        |reason: String| Err(LogFilterError { filter: filter.chars().take(200).collect(), reason });
    if filter.matches('/').count() > 1 {
        return fail("it has two `/`".to_owned());
    }
    let directives = filter.split('/').next().unwrap_or_default();
    for directive in directives.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut parts = directive.split('=');
        let (Some(target), level, None) = (parts.next(), parts.next(), parts.next()) else {
            return fail(format!("`{directive}` has two `=`"));
        };
        let is_level = |word: &str| word.trim().parse::<log::LevelFilter>().is_ok();
        match level {
            Some(level) if !level.is_empty() && !is_level(level) => {
                return fail(format!("`{}` is not a level", level.trim()));
            }
            Some(_) if target.trim().is_empty() => {
                return fail(format!("`{directive}` names no target"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn names_target(filter: &str, target: &str) -> bool {
    directives(filter).any(|part| part.split('=').next().unwrap_or_default().trim() == target)
}

/// The level that the filter sets for everything, if it does; of several the last counts.
fn general_level(filter: &str) -> Option<log::LevelFilter> {
    directives(filter).filter_map(|part| part.parse().ok()).next_back()
}

fn directives(filter: &str) -> impl DoubleEndedIterator<Item = &str> {
    filter.split('/').next().unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use log::{Level, Log};

    use super::*;

    #[track_caller]
    fn enabled(filter: &str, target: &str, level: Level) -> bool {
        let logger = builder(filter).unwrap().build();
        logger.enabled(&log::Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn dependencies_stay_at_info_unless_they_are_named() {
        assert!(enabled("debug", "faces::flows", Level::Debug));
        assert!(!enabled("debug", "sqlx::query", Level::Debug));
        assert!(enabled("debug", "sqlx::query", Level::Info));
        assert!(enabled("debug,sqlx=debug", "sqlx::query", Level::Debug));
        assert!(enabled("info,sqlx::query=trace", "sqlx::query", Level::Trace));
        assert!(!enabled("warn", "actix_server", Level::Info));
        assert!(!enabled("info,faces::access=off", super::super::ACCESS_TARGET, Level::Info));
        assert!(!enabled("off", "faces", Level::Error));
        for target in ["tracing::span", "actix_codec::framed", "hyper", "anything::new"] {
            assert!(!enabled("trace", target, Level::Debug), "{target}");
            assert!(enabled("trace", target, Level::Info), "{target}");
        }
        assert!(enabled("trace", "faces::flows", Level::Trace));
        assert!(enabled("trace,faces=warn,faces::http=debug", "faces::http", Level::Debug));
        assert!(!enabled("trace,faces=warn", "faces::flows", Level::Info));
        assert!(!enabled("faces=debug", "sqlx::query", Level::Error));
    }

    #[test]
    fn a_wrong_filter_is_an_error_that_names_the_variable_and_the_fix() {
        for filter in ["faces=loud", "a=b=c", "=info", "info,sqlx=warnn", "info/a/b"] {
            let text = builder(filter).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(text.starts_with("RUST_LOG can't be `") && text.contains("fix: "), "{text}");
        }
        for filter in ["info", "", "debug,faces::access=off", "faces", "info,sqlx="] {
            assert!(builder(filter).is_ok(), "{filter}");
        }
    }

    /// Collects what a logger wrote.
    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_with_time_and_key_values() {
        let written = Written::default();
        let logger = builder("info")
            .unwrap()
            .target(Target::Pipe(Box::new(written.clone())))
            .write_style(WriteStyle::Never)
            .build();
        let pairs = [("batch_ops", "7"), ("reason", "it\nbroke \"here\"")];
        logger.log(
            &Record::builder()
                .level(Level::Warn)
                .target("faces::accounts")
                .args(format_args!("a flush failed\n2026-01-01 INFO forged"))
                .key_values(&pairs)
                .build(),
        );
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "WARN  faces::accounts a flush failed\\n2026-01-01 INFO forged batch_ops=7 \
             reason=\"it\\nbroke \\\"here\\\"\"\n"
        );
    }

    #[test]
    fn a_level_that_is_off_formats_nothing() {
        struct Counted<'a>(&'a std::cell::Cell<u32>);
        impl fmt::Display for Counted<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.set(self.0.get() + 1);
                f.write_str("text")
            }
        }
        let logger = builder("off").unwrap().build();
        let shown = std::cell::Cell::new(0);
        log::info!(logger: logger, target: super::super::ACCESS_TARGET, "{}", Counted(&shown));
        assert_eq!(shown.get(), 0);
    }
}
