//! A whole chain of errors as one line.

use std::{error::Error, fmt};

/// Deepest chain that is followed: a cycle of sources must not hang a log line.
const LINKS_MAX: usize = 16;

/// Shows an error and all its sources, each once, joined by `: `. Made by [`chain`].
pub struct ErrorChain<'a>(&'a dyn Error);

/// Wraps an error for a log line: `log::warn!("can't settle: {}", telemetry::chain(&error))`.
///
/// A link whose text is already the end of what was said is left out, because many libraries
/// repeat their source in their own message.
#[must_use]
pub fn chain<E: Error>(error: &E) -> ErrorChain<'_> {
    ErrorChain(error)
}

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        let mut source = self.0.source();
        for _ in 1..LINKS_MAX {
            let Some(error) = source else { break };
            let text = error.to_string();
            if !said.ends_with(&text) {
                said.push_str(": ");
                said.push_str(&text);
            }
            source = error.source();
        }
        f.write_str(&said)
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't open the books")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("connection failed: {0}")]
    struct Middle(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("loop")]
    struct Loop;

    #[derive(Debug, thiserror::Error)]
    #[error("link {depth}")]
    struct Link {
        depth: u32,
        source: Option<Box<Link>>,
    }

    #[test]
    fn every_source_is_told_once() {
        let error = Outer(Middle(io::Error::other("no route")));
        assert_eq!(chain(&error).to_string(), "can't open the books: connection failed: no route");
        assert_eq!(chain(&Loop).to_string(), "loop");
    }

    #[test]
    fn a_very_deep_chain_ends() {
        let mut error = Link { depth: 0, source: None };
        for depth in 1..100 {
            error = Link { depth, source: Some(Box::new(error)) };
        }
        let shown = chain(&error).to_string();
        assert_eq!(shown.matches("link ").count(), LINKS_MAX);
        assert!(shown.starts_with("link 99: link 98: "), "{shown}");
    }
}
