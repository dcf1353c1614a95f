//! The interviewer of a thread: each of its questions is a call to a model, billed to the account's
//! credits.
//!
//! A question and the answer before it are kept together or not at all: when the model can't be
//! asked, nothing is kept and the person sends the answer again. The call is named by the thread, its
//! version, the place and the answer, so a question that was paid for and not kept is not paid
//! again.

use sha2::{Digest as _, Sha256};

use crate::{
    domain::{ErrorCode, FaceId, NanoUsd, error_code::ErrorKind},
    faces::interview::{OPENING, instructions, read_question, spare_question},
    flows::{
        Caller, Failure, Flows,
        failure::Details,
        llm::{LlmCall, LlmRole},
        trace::RequestTrace,
    },
    storage::compile::{MessageRow, SourceRow},
};

/// What a caller may say of who pays.
const PAYERS_ELSEWHERE: [&str; 2] = ["oauth", "compile"];
/// Hex digits of an answer's hash in the name of a call.
const HASH_DIGITS: usize = 32;

/// A question, and what it cost.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) cost: NanoUsd,
}

/// Reads `interviewer_billing_source`: credits are the only one that pays here.
///
/// # Errors
/// 422.
pub(super) fn read_payer(word: Option<&str>) -> Result<Option<String>, Failure> {
    match word {
        None => Ok(None),
        Some("credits") => Ok(Some("credits".to_owned())),
        Some(word) if PAYERS_ELSEWHERE.contains(&word) => Err(Failure::invalid(
            "interviewer_billing_source",
            "interviewer_billing_source: this server bills interviews to credits. Send \
             `credits`, or leave it out.",
        )),
        Some(_) => Err(Failure::invalid(
            "interviewer_billing_source",
            "interviewer_billing_source must be oauth, compile, credits or null",
        )),
    }
}

impl Flows {
    /// The interviewer's next question; `messages` end with the person's last answer, and are none
    /// at the beginning.
    ///
    /// # Errors
    /// 402 with `needs_credits` and the plan when the credits don't pay for it, 502 when the
    /// model's provider failed; nothing is charged then.
    ///
    /// # Cancel safety
    /// As [`Flows::complete`].
    pub(super) async fn next_question(
        &self,
        caller: &Caller,
        (face_name, face_id): (&str, FaceId),
        thread: Option<&SourceRow>,
        messages: &[MessageRow],
        trace: &RequestTrace,
    ) -> Result<Asked, Failure> {
        let limits = &self.inner.platform.inner.limits;
        let name = thread.map(|thread| call_name(thread, messages));
        let call = LlmCall {
            model: self.inner.options.compile_model.as_deref(),
            face_id: Some(face_id),
            system: Some(instructions(face_name)),
            messages: conversation(messages, limits.interview_history_chars_max),
            max_tokens: u64::from(limits.interview_answer_tokens_max),
            json_schema: None,
            idem_key: name.as_deref(),
        };
        let asked = messages.iter().filter(|message| message.role == "assistant").count();
        match self.complete(caller, call, trace).await {
            Ok(answer) => Ok(Asked {
                // A model that only thought was paid; the interview goes on all the same.
                question: read_question(&answer.text)
                    .unwrap_or_else(|| spare_question(asked).to_owned()),
                cost: if answer.is_replay { NanoUsd::ZERO } else { answer.cost },
            }),
            // Paid before, and the question is lost.
            Err(failure) if failure.code == ErrorCode::AlreadyCompleted => {
                Ok(Asked { question: spare_question(asked).to_owned(), cost: NanoUsd::ZERO })
            }
            Err(failure) => Err(self.interview_failure(caller, failure).await),
        }
    }

    async fn interview_failure(&self, caller: &Caller, mut failure: Failure) -> Failure {
        match failure.code.row().kind {
            ErrorKind::Funds => {
                let plan = self.inner.platform.plan_of(caller.account_id).await;
                let plan = plan.map_or_else(|_| String::new(), |plan| plan.name.clone());
                failure.details = Some(Box::new(Details::NoPayer(plan)));
            }
            ErrorKind::Upstream => {
                failure.code = ErrorCode::UpstreamFailed;
                let end = if failure.message.ends_with('.') { "" } else { "." };
                failure.message.push_str(end);
                failure.message.push_str(" Nothing of this turn was kept: send it again.");
            }
            ErrorKind::Caller
            | ErrorKind::Auth
            | ErrorKind::Limit
            | ErrorKind::Unavailable
            | ErrorKind::Bug => {}
        }
        failure
    }
}

fn call_name(thread: &SourceRow, messages: &[MessageRow]) -> String {
    let answer = messages.last().map(|message| message.content.as_str()).unwrap_or_default();
    let hash: String =
        Sha256::digest(answer.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = hash.get(..HASH_DIGITS).unwrap_or_default();
    format!("interview {} {} {} {hash}", thread.id, thread.version, messages.len())
}

/// The newest messages that fit, after the one that asks for the first question.
fn conversation(messages: &[MessageRow], chars_max: u32) -> Vec<(LlmRole, String)> {
    let mut left = usize::try_from(chars_max).unwrap_or(usize::MAX);
    let mut turns = Vec::new();
    for message in messages.iter().rev() {
        let chars = message.content.chars().count();
        // The last answer is there in any case, as much of its end as fits.
        if chars > left && !turns.is_empty() {
            break;
        }
        let content = message.content.chars().skip(chars.saturating_sub(left)).collect();
        let is_person = message.role == "user";
        turns.push((if is_person { LlmRole::User } else { LlmRole::Assistant }, content));
        left = left.saturating_sub(chars);
    }
    turns.push((LlmRole::User, OPENING.to_owned()));
    turns.reverse();
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> MessageRow {
        let (role, content) = (role.to_owned(), content.to_owned());
        MessageRow { role, content, name: None, archived: false }
    }

    #[test]
    fn the_newest_messages_are_shown_and_the_last_answer_in_any_case() {
        let messages = [
            message("assistant", "Who?"),
            message("user", "me"),
            message("assistant", "Why?"),
            message("user", "because"),
        ];
        let shown = |chars_max| {
            let turns = conversation(&messages, chars_max).into_iter();
            turns.map(|(_, text)| text).skip(1).collect::<Vec<_>>().join("|")
        };
        assert_eq!(shown(100), "Who?|me|Why?|because");
        assert_eq!(shown(13), "me|Why?|because");
        assert_eq!(shown(12), "Why?|because");
        assert_eq!(shown(3), "use");
        assert_eq!(conversation(&[], 10), [(LlmRole::User, OPENING.to_owned())]);
    }

    #[test]
    fn only_credits_pay() {
        assert_eq!(read_payer(None).unwrap(), None);
        assert_eq!(read_payer(Some("credits")).unwrap().as_deref(), Some("credits"));
        for word in ["oauth", "compile", "me"] {
            assert_eq!(read_payer(Some(word)).unwrap_err().code, ErrorCode::InvalidRequest);
        }
    }
}
