//! Threads as their owners see them: interviews and transcripts. What the `user` says in one is the
//! person's, and only that is compiled.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    FACE_TRIES, documents::FACE_FIELDS, interview, label_field, missing, no_source,
    quota::QuotaState, read_object, render, text_field, tokens_of,
};
use crate::{
    domain::{ErrorCode, SourceId, compile::SourceKind},
    faces::{Face, extract, source::SPEAKER_CHARS_MAX},
    flows::{Caller, Failure, Flows, personas, trace::RequestTrace},
    storage::{
        StorageError,
        compile::{
            self as storage_compile, MessageRow, NewSource, SourceEdit, SourceRow, ThreadLength,
        },
        faces as storage_faces,
    },
};

/// The label of an interview without one.
const LABEL_DEFAULT: &str = "Interview";

/// A thread to be kept.
pub(super) struct NewThread {
    pub(super) label: String,
    pub(super) messages: Vec<MessageRow>,
    pub(super) source: &'static str,
    pub(super) face_speaker: Option<String>,
    pub(super) payer: Option<String>,
}

/// A message of the person, or of somebody else.
pub(super) fn message(is_person: bool, content: String, name: Option<String>) -> MessageRow {
    let role = if is_person { "user" } else { "assistant" };
    MessageRow { role: role.to_owned(), content, name, archived: false }
}

impl Flows {
    /// `POST /v1/compile/threads`, or under a face: begins an interview with its first question.
    ///
    /// # Errors
    /// 404 and 403 for the face, 422 for a wrong field and at the limit of threads; 402 and 502 as
    /// the interviewer can't be paid or asked, and there is no thread then.
    ///
    /// # Cancel safety
    /// Dropped while the interviewer is asked, there is no thread; the call is billed as any that
    /// its client left.
    pub async fn create_thread(
        &self,
        caller: &Caller,
        face: Option<&str>,
        body: &[u8],
        trace: &RequestTrace,
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let username = match face {
            Some(username) => username,
            None => text_field(&fields, &FACE_FIELDS)?.ok_or_else(|| missing("model"))?,
        };
        let label = label_field(&fields)?;
        let payer = payer_field(&fields)?;
        let face = self.face_to_compile(caller, username).await?;
        self.room_for_a_source(&face, SourceKind::Thread).await?;
        let named = (face.name.as_str(), face.id);
        let asked = self.next_question(caller, named, None, &[], trace).await?;
        let new = NewThread {
            label: label.unwrap_or_else(|| LABEL_DEFAULT.to_owned()),
            messages: vec![message(false, asked.question.clone(), None)],
            source: "interview",
            face_speaker: None,
            payer,
        };
        let (thread, _) = self.keep_thread(caller, &face, new).await?;
        self.turn(caller, &thread, &asked).await
    }

    /// `POST /v1/compile/threads/{id}/messages`: the person's answer, and the next question.
    ///
    /// # Errors
    /// 404, 403, 422; 402 and 502 as the interviewer can't be paid or asked; 409 when another
    /// answer came in between. The answer is not kept then.
    ///
    /// # Cancel safety
    /// Dropped while the interviewer is asked, nothing is kept. The same answer sent again does not
    /// pay a question twice.
    pub async fn send_message(
        &self,
        caller: &Caller,
        id: &str,
        body: &[u8],
        trace: &RequestTrace,
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let content = text_field(&fields, &["message", "content", "text"])?;
        let content = content.ok_or_else(|| missing("message"))?;
        if text_field(&fields, &["role"])?.is_some_and(|role| role != "user") {
            return Err(Failure::invalid(
                "role",
                "role must be user: the server writes the questions",
            ));
        }
        payer_field(&fields)?;
        let thread = self.source(caller, SourceKind::Thread, id).await?;
        let mut messages = self.messages_of(&thread).await?;
        let count = messages.len();
        let answer = message(true, self.checked_message("message", content)?, None);
        messages.push(answer.clone());
        // The question after it must fit too.
        self.check_count("message", count + 2)?;
        let face = self.face_of(caller, &thread).await?;
        let named = (face.name.as_str(), face.id);
        let asked = self.next_question(caller, named, Some(&thread), &messages, trace).await?;
        let question = message(false, asked.question.clone(), None);
        let added = vec![answer, question];
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let (db, account) = (&self.inner.platform.inner.db, caller.account_id);
        let tokens = tokens_of_person(&messages);
        let seen = (thread.version, count);
        let kept =
            storage_compile::append_messages(db, account, thread.id, seen, added, tokens).await;
        let thread = match kept {
            Ok(thread) => thread,
            Err(StorageError::Stale { .. }) => {
                return Err(Failure::new(
                    ErrorCode::Conflict,
                    "Another message came into this thread first. Read it and send yours again.",
                ));
            }
            Err(StorageError::Missing { .. }) => return Err(no_source(SourceKind::Thread)),
            Err(error) => return Err(error.into()),
        };
        self.turn(caller, &thread, &asked).await
    }

    /// `PATCH /v1/compile/threads/{id}/messages`: replaces all of them. The same ones again change
    /// nothing.
    ///
    /// # Errors
    /// 404, 403, 422.
    pub async fn replace_messages(
        &self,
        caller: &Caller,
        id: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let given = match fields.get("messages") {
            Some(Value::Array(given)) => given,
            None | Some(Value::Null) => return Err(missing("messages")),
            Some(_) => {
                return Err(Failure {
                    validation: "type_error",
                    ..Failure::invalid("messages", "messages must be a list")
                });
            }
        };
        self.check_count("messages", given.len())?;
        let read = given.iter().enumerate().map(|(index, one)| self.read_message(index, one));
        let messages = read.collect::<Result<Vec<_>, _>>()?;
        let thread = self.source(caller, SourceKind::Thread, id).await?;
        let mut edit = SourceEdit::default();
        if !says_the_same(&messages, &self.messages_of(&thread).await?) {
            let tokens = tokens_of_person(&messages);
            edit.messages = Some((messages, tokens));
        }
        self.edit_thread(caller, &thread, edit).await?.ok_or_else(changing)
    }

    /// `PATCH /v1/compile/threads/{id}`: another label, or another speaker that is the face. The
    /// speaker that is the face already changes nothing.
    ///
    /// # Errors
    /// 404, 403, 422; 409 when others keep adding messages at the same time.
    pub async fn update_thread(
        &self,
        caller: &Caller,
        id: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let label = label_field(&fields)?;
        let speaker = text_field(&fields, &["face_speaker"])?.map(str::trim);
        for _ in 0..FACE_TRIES {
            let thread = self.source(caller, SourceKind::Thread, id).await?;
            let mut edit = SourceEdit { label: label.clone(), ..SourceEdit::default() };
            if let Some(speaker) = speaker {
                let before = self.messages_of(&thread).await?;
                let messages = spoken_by(speaker, before.clone())?;
                if !says_the_same(&messages, &before) {
                    let tokens = tokens_of_person(&messages);
                    // A message that comes in between must not be lost.
                    edit.of_version = Some(thread.version);
                    edit.messages = Some((messages, tokens));
                    edit.face_speaker = Some(Some(speaker.to_owned()));
                }
            }
            if let Some(edited) = self.edit_thread(caller, &thread, edit).await? {
                return Ok(edited);
            }
        }
        Err(changing())
    }

    /// `GET /v1/compile/threads` and its like under a face: oldest first, with a cursor, without
    /// the messages.
    ///
    /// # Errors
    /// 404 and 403 for the face, 422 for a limit that is none.
    pub async fn list_threads(
        &self,
        caller: &Caller,
        face: Option<&str>,
        after: Option<SourceId>,
        limit: Option<u32>,
    ) -> Result<Value, Failure> {
        let (rows, next) = self.source_page(caller, SourceKind::Thread, face, after, limit).await?;
        let quota = self.quota_of(caller.account_id).await?;
        let ids = rows.iter().map(|row| row.id).collect();
        let lengths = storage_compile::thread_lengths(&self.inner.platform.inner.db, ids).await?;
        let lengths: HashMap<SourceId, ThreadLength> =
            lengths.into_iter().map(|length| (length.id, length)).collect();
        let shown = rows.iter().map(|row| {
            let length = lengths.get(&row.id);
            let (count, archived) = length.map_or((0, 0), |one| (one.messages, one.archived));
            thread_json(row, (count, archived), &quota)
        });
        let data: Vec<Value> = shown.collect();
        let has_more = next.is_some();
        Ok(json!({"object": "list", "data": data, "has_more": has_more, "next_cursor": next}))
    }

    /// `GET /v1/compile/threads/{id}`: with its messages.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn read_thread(&self, caller: &Caller, id: &str) -> Result<Value, Failure> {
        let thread = self.source(caller, SourceKind::Thread, id).await?;
        let messages = self.messages_of(&thread).await?;
        self.whole_thread(caller, &thread, &messages).await
    }

    /// Keeps a thread of a face; gives its messages back.
    ///
    /// # Errors
    /// 404 when the face is gone.
    pub(super) async fn keep_thread(
        &self,
        caller: &Caller,
        face: &Face,
        new: NewThread,
    ) -> Result<(SourceRow, Vec<MessageRow>), Failure> {
        let source = NewSource {
            id: SourceId::generate(),
            account_id: caller.account_id,
            face_id: face.id,
            kind: SourceKind::Thread,
            label: new.label,
            content: String::new(),
            messages: new.messages.clone(),
            perspective: None,
            source: new.source.to_owned(),
            face_speaker: new.face_speaker,
            interviewer_payer: new.payer,
            token_count: tokens_of_person(&new.messages),
        };
        let kept = storage_compile::insert_source(&self.inner.platform.inner.db, source).await;
        match kept {
            Ok(kept) => Ok((kept, new.messages)),
            Err(StorageError::Missing { .. }) => {
                Err(super::resolve::face_not_found(face.username.as_str()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The whole object of a thread.
    pub(super) async fn whole_thread(
        &self,
        caller: &Caller,
        thread: &SourceRow,
        messages: &[MessageRow],
    ) -> Result<Value, Failure> {
        let archived = messages.iter().filter(|message| message.archived).count();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let quota = self.quota_of(caller.account_id).await?;
        let mut shown = thread_json(thread, (count(messages.len()), count(archived)), &quota);
        shown["messages"] = messages.iter().map(message_json).collect();
        Ok(shown)
    }

    /// Checks messages that are to be kept: their number, and how long each is.
    ///
    /// # Errors
    /// 422.
    pub(super) fn check_messages(&self, messages: &[MessageRow]) -> Result<(), Failure> {
        self.check_count("file", messages.len())?;
        let most = self.inner.platform.inner.limits.thread_message_chars_max;
        let is_long = |one: &MessageRow| exceeds(&one.content, most);
        match messages.iter().position(is_long) {
            None => Ok(()),
            Some(at) => Err(Failure::invalid(
                "file",
                format!("file: message {} has more than {most} characters, the most", at + 1),
            )),
        }
    }

    fn check_count(&self, field: &str, count: usize) -> Result<(), Failure> {
        let most = self.inner.platform.inner.limits.thread_messages_max;
        if count > usize::try_from(most).unwrap_or(usize::MAX) {
            let message = format!("{field}: a thread has at most {most} messages");
            return Err(Failure::invalid(field, message));
        }
        Ok(())
    }

    fn checked_message(&self, field: &str, text: &str) -> Result<String, Failure> {
        let most = self.inner.platform.inner.limits.thread_message_chars_max;
        if exceeds(text, most) {
            let message = format!("{field} must have at most {most} characters");
            return Err(Failure::invalid(field, message));
        }
        self.checked_text(field, text)
    }

    /// One of the messages that replace a thread's.
    fn read_message(&self, index: usize, given: &Value) -> Result<MessageRow, Failure> {
        let at = |mut failure: Failure| {
            let field = failure.loc.pop();
            failure.loc = vec!["body".to_owned(), "messages".to_owned(), index.to_string()];
            failure.loc.extend(field);
            failure
        };
        let Value::Object(fields) = given else {
            let mut failure = at(Failure::invalid("", "each message must be an object"));
            failure.loc.pop();
            return Err(Failure { validation: "type_error", ..failure });
        };
        let role = text_field(fields, &["role"]).map_err(at)?;
        let is_person = match role.ok_or_else(|| at(missing("role")))? {
            "user" => true,
            "assistant" => false,
            _ => return Err(at(Failure::invalid("role", "role must be user or assistant"))),
        };
        let content = text_field(fields, &["content", "message", "text"]).map_err(at)?;
        let content = content.ok_or_else(|| at(missing("content")))?;
        let content = self.checked_message("content", content).map_err(at)?;
        let name = text_field(fields, &["from", "name"]).map_err(at)?.map(str::trim);
        let name = name.filter(|name| !name.is_empty());
        if name.is_some_and(|name| {
            name.chars().count() > SPEAKER_CHARS_MAX || name.contains(char::is_control)
        }) {
            let message = format!(
                "from must have at most {SPEAKER_CHARS_MAX} characters and no control characters"
            );
            return Err(at(Failure::invalid("from", message)));
        }
        Ok(message(is_person, content, name.map(str::to_owned)))
    }

    async fn messages_of(&self, thread: &SourceRow) -> Result<Vec<MessageRow>, Failure> {
        Ok(storage_compile::list_messages(&self.inner.platform.inner.db, thread.id).await?)
    }

    async fn face_of(&self, caller: &Caller, thread: &SourceRow) -> Result<Face, Failure> {
        let db = &self.inner.platform.inner.db;
        let row = storage_faces::find_face(db, caller.account_id, &thread.face).await?;
        personas::face_from_row(row.ok_or_else(|| no_source(SourceKind::Thread))?)
    }

    /// The thread afterwards; `None` when the edit was made from another version.
    async fn edit_thread(
        &self,
        caller: &Caller,
        thread: &SourceRow,
        edit: SourceEdit,
    ) -> Result<Option<Value>, Failure> {
        let db = &self.inner.platform.inner.db;
        match storage_compile::edit_source(db, caller.account_id, thread.id, edit).await {
            Ok(thread) => {
                let messages = self.messages_of(&thread).await?;
                self.whole_thread(caller, &thread, &messages).await.map(Some)
            }
            Err(StorageError::Stale { .. }) => Ok(None),
            Err(StorageError::Missing { .. }) => Err(no_source(SourceKind::Thread)),
            Err(error) => Err(error.into()),
        }
    }

    /// What a turn of an interview answers.
    async fn turn(
        &self,
        caller: &Caller,
        thread: &SourceRow,
        asked: &interview::Asked,
    ) -> Result<Value, Failure> {
        let quota = self.quota_of(caller.account_id).await?;
        let db = &self.inner.platform.inner.db;
        let length = storage_compile::thread_lengths(db, vec![thread.id]).await?;
        let length = length.first().map_or((0, 0), |one| (one.messages, one.archived));
        let mut shown = thread_json(thread, length, &quota);
        shown["status"] = json!("open");
        shown["message"] = json!({"role": "assistant", "content": asked.question, "name": null});
        // Interviews are paid from the credits and take nothing of the quota.
        shown["tokens_charged"] = json!(0);
        shown["cost_usd"] = json!(asked.cost.to_json_number());
        shown["interviewer_billing_source"] = json!("credits");
        Ok(shown)
    }
}

fn payer_field(fields: &Map<String, Value>) -> Result<Option<String>, Failure> {
    interview::read_payer(text_field(fields, &["interviewer_billing_source"])?)
}

fn exceeds(text: &str, chars_max: u32) -> bool {
    text.chars().count() > usize::try_from(chars_max).unwrap_or(usize::MAX)
}

/// Gives the messages of a speaker to the person and all others to somebody else.
fn spoken_by(speaker: &str, messages: Vec<MessageRow>) -> Result<Vec<MessageRow>, Failure> {
    let wanted = speaker.to_lowercase();
    let is_face = |one: &MessageRow| {
        one.name.as_ref().is_some_and(|name| name.trim().to_lowercase() == wanted)
    };
    if !messages.iter().any(is_face) {
        let message = "face_speaker: nobody named so speaks in this thread";
        return Err(Failure::invalid("face_speaker", message));
    }
    let assign = |one: MessageRow| message(is_face(&one), one.content, one.name);
    Ok(messages.into_iter().map(assign).collect())
}

/// Whether nobody says anything else in the one than in the other.
fn says_the_same(left: &[MessageRow], right: &[MessageRow]) -> bool {
    let is_same = |(left, right): (&MessageRow, &MessageRow)| {
        left.role == right.role && left.content == right.content && left.name == right.name
    };
    left.len() == right.len() && left.iter().zip(right).all(is_same)
}

fn changing() -> Failure {
    Failure::new(
        ErrorCode::Conflict,
        "This thread is being changed by other requests at the same time. Try again.",
    )
}

/// Estimated tokens of what is compiled.
fn tokens_of_person(messages: &[MessageRow]) -> i64 {
    let said = messages.iter().map(|message| (message.role.as_str(), message.content.as_str()));
    tokens_of(&extract::said_by_the_person(said))
}

fn thread_json(thread: &SourceRow, (count, archived): (i64, i64), quota: &QuotaState) -> Value {
    let mut shown = render::source_json(thread, quota);
    shown["message_count"] = json!(count);
    shown["messages_archived"] = json!(archived);
    shown["user_token_count"] = json!(thread.token_count);
    shown["face_speaker"] = json!(thread.face_speaker);
    shown["interviewer_billing_source"] = json!(thread.interviewer_payer);
    shown
}

fn message_json(message: &MessageRow) -> Value {
    json!({"role": message.role, "content": message.content, "name": message.name})
}
