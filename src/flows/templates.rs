//! `${username}` in messages: the face's name stands in the text, and its profile beside the
//! persona.

use std::collections::BTreeMap;

use super::{
    Caller, Failure, Flows,
    directory::LoadedFace,
    resolve::{Target, permit_face},
};
use crate::{
    domain::FaceName,
    wire::{Placeholders, Templated},
};

/// Most faces that the messages of one request may mention: each brings a profile of up to
/// `persona_tokens_max` tokens.
const MENTIONS_MAX: usize = 16;

impl Flows {
    /// Replaces the placeholders of a request by names; also gives the profiles of the faces that
    /// it mentions, each once, for the system prompt. The face that speaks is only named.
    ///
    /// One pass: neither names nor profiles are read for further placeholders. A request without
    /// any comes back as it is.
    ///
    /// # Errors
    /// 422 that lists unknown faces (a foreign face is one), 403 when the key does not allow one.
    pub(super) async fn expand<R: Templated>(
        &self,
        caller: &Caller,
        target: &Target,
        request: R,
    ) -> Result<(R, Option<String>), Failure> {
        if !request.may_hold_placeholders() {
            return Ok((request, None));
        }
        let found = request.placeholders();
        if found.is_empty() {
            return Ok((request, None));
        }
        // Boxed, as few requests mention a face and all would carry room for it.
        let mentioned = Box::pin(self.mentioned(caller, &found)).await?;
        let own = target.face.as_ref().map(|face| face.persona.face().username.clone());
        let mut names = BTreeMap::new();
        for face in &mentioned {
            let face = face.persona.face();
            names.insert(face.username.as_str().to_owned(), face.name.clone());
        }
        let request = request.with_placeholders(&names)?;
        let others =
            mentioned.iter().filter(|face| Some(&face.persona.face().username) != own.as_ref());
        let conversation = request.conversation();
        let profiles: Vec<String> =
            others.filter_map(|face| face.persona.background(&conversation)).collect();
        let background = (!profiles.is_empty()).then(|| profiles.join("\n\n"));
        Ok((request, background))
    }

    /// The faces of the placeholders that name one.
    async fn mentioned(
        &self,
        caller: &Caller,
        found: &Placeholders,
    ) -> Result<Vec<LoadedFace>, Failure> {
        if found.required.len() > MENTIONS_MAX {
            let message =
                format!("The messages mention more than {MENTIONS_MAX} faces by `${{…}}`.");
            return Err(Failure::invalid("messages", message));
        }
        let directory = &self.inner.platform.inner.directory;
        let mut faces = Vec::new();
        let mut unknown = Vec::new();
        for name in &found.required {
            let face = match FaceName::parse(name) {
                Err(_) => None,
                Ok(username) => {
                    permit_face(caller, &username)?;
                    directory.face(caller.account_id, &username).await?
                }
            };
            match face {
                Some(face) => faces.push(face),
                None => unknown.push(format!("`{name}`")),
            }
        }
        if !unknown.is_empty() {
            let message = format!(
                "The messages mention faces that were not found or are not owned by you: {}. Write \\${{…}} for the text itself.",
                unknown.join(", ")
            );
            return Err(Failure::invalid("messages", message));
        }
        for name in &found.optional {
            if faces.len() >= MENTIONS_MAX {
                break;
            }
            let Ok(username) = FaceName::parse(name) else { continue };
            if permit_face(caller, &username).is_ok() {
                faces.extend(directory.face(caller.account_id, &username).await?);
            }
        }
        Ok(faces)
    }
}
