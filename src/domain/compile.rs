//! Compiling a text into primitives: what the text is, how far the work on it has come, and which
//! step may follow which.
//!
//! [`CompileState::after`] is the whole state machine. Storage applies it inside the transaction
//! that writes the new state, so no two requests can see the same state and both act on it.

use std::fmt;

/// What kind of text a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A text by or about a person.
    Document,
    /// A conversation; what the `user` says in it is the person's.
    Thread,
}

impl SourceKind {
    /// The number kept in `compile_source.kind`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Document => 1,
            Self::Thread => 2,
        }
    }

    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        [Self::Document, Self::Thread].into_iter().find(|kind| kind.db_code() == code)
    }
}

/// Who speaks in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Perspective {
    /// The person.
    FirstPerson,
    /// Somebody about the person.
    ThirdPerson,
}

impl Perspective {
    /// The word of the API and of the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstPerson => "first-person",
            Self::ThirdPerson => "third-person",
        }
    }

    /// Inverse of [`Self::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::FirstPerson, Self::ThirdPerson].into_iter().find(|one| one.as_str() == word)
    }
}

/// How far a job is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompileGoal {
    /// To what the text says, in chunks.
    Prepare,
    /// All the way into the face.
    Make,
}

impl CompileGoal {
    /// The number kept in `compile_job.goal`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Prepare => 1,
            Self::Make => 2,
        }
    }

    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        [Self::Prepare, Self::Make].into_iter().find(|goal| goal.db_code() == code)
    }
}

/// How far the work on a source has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompileState {
    /// Nothing was done, or all of it was dropped.
    Idle,
    /// Chunk after chunk is read.
    Preparing,
    /// A pause was asked for; the chunks being read are finished first.
    Pausing,
    /// It rests; what was read is kept.
    Paused,
    /// All chunks are read; nothing is in the face yet.
    Prepared,
    /// What was read is being written to the face.
    Syncing,
    /// It is in the face.
    Synced,
    /// Something that may pass stopped it; what was read is kept.
    Stalled,
    /// Something that won't pass by itself stopped it; what was read is kept.
    Failed,
}

/// What happens to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompileEvent {
    /// Somebody asks for the work to be done, this far.
    Start(CompileGoal),
    /// Somebody asks for a pause.
    Pause,
    /// Somebody drops all that was read; the text stays.
    Reset,
    /// The text became another.
    Edit,
    /// The worker has read all chunks of a job that goes this far.
    ChunksDone(CompileGoal),
    /// The worker has finished what it was at when the pause was asked for.
    Rest,
    /// The worker has written to the face.
    Written,
    /// The worker gave up for now.
    Stall,
    /// The worker gave up.
    Fail,
}

/// A step that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NotNow {
    /// The state that it was in.
    pub state: CompileState,
}

impl CompileState {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::Preparing,
        Self::Pausing,
        Self::Paused,
        Self::Prepared,
        Self::Syncing,
        Self::Synced,
        Self::Stalled,
        Self::Failed,
    ];

    /// The word kept in `compile_source.state`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Preparing => "preparing",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Prepared => "prepared",
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
        }
    }

    /// Inverse of [`Self::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The `prepare_status` of the API: null where nothing is going on and nothing is in the face.
    #[must_use]
    pub const fn prepare_status(self) -> Option<&'static str> {
        match self {
            Self::Idle | Self::Prepared => None,
            other => Some(other.as_str()),
        }
    }

    /// The `status` of the API, which tells `new` from `ready`.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Idle => "new",
            Self::Prepared => "ready",
            other => other.as_str(),
        }
    }

    /// Whether a job is to be there.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Preparing | Self::Pausing | Self::Syncing)
    }

    /// The state after an event.
    ///
    /// # Errors
    /// [`NotNow`] when the event can't happen in this state.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::compile::{CompileEvent, CompileGoal, CompileState};
    /// let state = CompileState::Idle.after(CompileEvent::Start(CompileGoal::Make));
    /// assert_eq!(state, Ok(CompileState::Preparing));
    /// assert!(CompileState::Synced.after(CompileEvent::Pause).is_err());
    /// ```
    pub const fn after(self, event: CompileEvent) -> Result<Self, NotNow> {
        use CompileEvent as Event;
        Ok(match (event, self) {
            // Text and wish are the owner's at any time; a worker that is at it loses its lease.
            (Event::Reset | Event::Edit, _) => Self::Idle,
            (Event::Start(_), Self::Syncing) => Self::Syncing,
            (Event::Start(_), Self::Synced) => Self::Synced,
            (Event::Start(CompileGoal::Prepare), Self::Prepared) => Self::Prepared,
            (Event::Start(_), Self::Prepared) => Self::Syncing,
            // A job that was to pause goes on instead, and what had stopped begins where it was.
            (
                Event::Start(_),
                Self::Idle
                | Self::Preparing
                | Self::Pausing
                | Self::Paused
                | Self::Stalled
                | Self::Failed,
            ) => Self::Preparing,
            (Event::Pause, Self::Preparing | Self::Pausing) => Self::Pausing,
            (Event::Pause, Self::Paused) => Self::Paused,
            (Event::ChunksDone(CompileGoal::Prepare), Self::Preparing | Self::Pausing) => {
                Self::Prepared
            }
            (Event::ChunksDone(_), Self::Preparing | Self::Pausing) => Self::Syncing,
            (Event::Rest, Self::Pausing) => Self::Paused,
            (Event::Written, Self::Syncing) => Self::Synced,
            (Event::Stall, Self::Preparing | Self::Pausing | Self::Syncing) => Self::Stalled,
            (Event::Fail, Self::Preparing | Self::Pausing | Self::Syncing) => Self::Failed,
            (
                Event::Pause
                | Event::ChunksDone(_)
                | Event::Rest
                | Event::Written
                | Event::Stall
                | Event::Fail,
                state,
            ) => return Err(NotNow { state }),
        })
    }
}

impl fmt::Display for CompileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [CompileEvent; 11] = [
        CompileEvent::Start(CompileGoal::Prepare),
        CompileEvent::Start(CompileGoal::Make),
        CompileEvent::Pause,
        CompileEvent::Reset,
        CompileEvent::Edit,
        CompileEvent::ChunksDone(CompileGoal::Prepare),
        CompileEvent::ChunksDone(CompileGoal::Make),
        CompileEvent::Rest,
        CompileEvent::Written,
        CompileEvent::Stall,
        CompileEvent::Fail,
    ];

    /// One line per event: what becomes of each state, `-` where it can't happen.
    #[test]
    fn the_whole_table_is_as_reviewed() {
        let mut table = String::new();
        for event in EVENTS {
            table.push_str(&format!("{event:?}:"));
            for state in CompileState::ALL {
                let next = state.after(event).map_or("-", CompileState::as_str);
                table.push_str(&format!(" {}>{next}", state.as_str()));
            }
            table.push('\n');
        }
        insta::assert_snapshot!("compile_states", table);
    }

    #[test]
    fn words_and_codes_are_read_as_they_are_written() {
        for state in CompileState::ALL {
            assert_eq!(CompileState::parse(state.as_str()), Some(state));
        }
        for goal in [CompileGoal::Prepare, CompileGoal::Make] {
            assert_eq!(CompileGoal::from_db_code(goal.db_code()), Some(goal));
        }
        for kind in [SourceKind::Document, SourceKind::Thread] {
            assert_eq!(SourceKind::from_db_code(kind.db_code()), Some(kind));
        }
        for perspective in [Perspective::FirstPerson, Perspective::ThirdPerson] {
            assert_eq!(Perspective::parse(perspective.as_str()), Some(perspective));
        }
        assert_eq!(CompileState::parse("transcribing"), None);
    }

    #[test]
    fn whatever_happened_a_reset_and_a_start_begin_anew() {
        for state in CompileState::ALL {
            let idle = state.after(CompileEvent::Reset).unwrap();
            let next = idle.after(CompileEvent::Start(CompileGoal::Make));
            assert_eq!(next, Ok(CompileState::Preparing), "{state}");
        }
    }
}
