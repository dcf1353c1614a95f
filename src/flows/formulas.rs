//! Faces that are made of others: stored ones with a `formula`, and composites that a request
//! names by `(a | b)@model`.
//!
//! Both are made when they are asked for and kept with the versions of their operands. An entry is
//! believed as long as any face (`directory`), and no longer than until a face of the account is
//! changed here; then one query compares the versions. So a change of an operand is seen at once
//! by the instance that made it, and by others within the time to live.

use std::sync::Arc;

use super::{
    Caller, Failure, Platform,
    directory::{Directory, FaceKey, LoadedFace},
    personas::face_from_row,
    resolve::{face_not_found, permit_face},
};
use crate::{
    domain::{AccountId, FaceName},
    faces::{ComponentCounts, Face, FaceError, Formula, Operand, Persona},
    storage::{
        StorageError,
        faces::{self as storage_faces, FaceRow, OperandVersion},
    },
};

/// Why a formula makes no face.
#[derive(Debug)]
pub(super) enum FormulaFault {
    /// The account has no such face.
    Missing(FaceName),
    /// It is made by a formula itself.
    Nested(FaceName),
    /// It could not be asked, or is damaged.
    Failed(Box<Failure>),
}

impl From<Failure> for FormulaFault {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<StorageError> for FormulaFault {
    fn from(error: StorageError) -> Self {
        Failure::from(error).into()
    }
}

impl FormulaFault {
    /// As a 422 at `field`, that begins with `what` is wrong. A foreign face is a missing one.
    fn refused(self, field: &str, what: &str) -> Failure {
        let why = match self {
            Self::Missing(face) => {
                format!("the face `{face}` was not found or is not owned by you")
            }
            Self::Nested(face) => {
                format!("`{face}` is made by a formula itself, so it can't be an operand")
            }
            Self::Failed(failure) => return *failure,
        };
        Failure::invalid(field, format!("{what}: {why}"))
    }
}

/// The rows of a formula's operands, in its order, from those that were found.
fn operand_rows(formula: &Formula, found: &[FaceRow]) -> Result<Vec<FaceRow>, FormulaFault> {
    let rows = formula.operands().iter().map(|name| {
        match found.iter().find(|row| row.username == *name) {
            None => Err(FormulaFault::Missing(name.clone())),
            Some(row) if row.formula.is_some() => Err(FormulaFault::Nested(name.clone())),
            Some(row) => Ok(row.clone()),
        }
    });
    rows.collect()
}

impl Directory {
    /// The face that a formula of a request makes, under its first operand's name. Its id is that
    /// operand's, so that is where its usage is counted.
    pub(super) async fn composite(
        &self,
        account_id: AccountId,
        formula: &Formula,
    ) -> Result<LoadedFace, FormulaFault> {
        let key = FaceKey::Composite(formula.to_string().into());
        let (cached, is_fresh) = self.cached(account_id, &key);
        let known = cached.and_then(|entry| entry.face);
        if let Some(face) = &known
            && is_fresh
        {
            return Ok(face.clone());
        }
        let seen = self.look(account_id);
        let face = match known {
            Some(face) if self.is_made_of(account_id, &face.operands).await? => face,
            Some(_) | None => {
                let found =
                    storage_faces::find_faces(&self.db, account_id, formula.operands()).await?;
                let rows = operand_rows(formula, &found)?;
                let [first, ..] = &rows[..] else {
                    return Err(super::failure::internal().into());
                };
                let first = Face {
                    default_model: None,
                    description: None,
                    profile_addendum: None,
                    ..face_from_row(first.clone())?
                };
                let id = first.id;
                let (persona, operands) = self.evaluated(first, formula.clone(), rows).await?;
                LoadedFace {
                    id,
                    default_model: None,
                    account_model: None,
                    persona: persona.into(),
                    version: 0,
                    operands: operands.into(),
                }
            }
        };
        self.remember(account_id, key, Some(face.clone()), seen);
        Ok(face)
    }

    /// Makes a stored face by its formula.
    ///
    /// # Errors
    /// 422 when an operand is gone, or has become a combined face, since the formula was written.
    pub(super) async fn combined(
        &self,
        face: Face,
    ) -> Result<(Persona, Vec<OperandVersion>), Failure> {
        let written = face.formula.clone().unwrap_or_default();
        let username = face.username.clone();
        let formula = Formula::parse(&written).map_err(|error| {
            log::error!(target: "faces::flows", "the stored face {} has a broken formula: {error}", face.id);
            super::failure::internal()
        })?;
        let made = async {
            let found =
                storage_faces::find_faces(&self.db, face.account_id, formula.operands()).await?;
            let rows = operand_rows(&formula, &found)?;
            self.evaluated(face, formula.clone(), rows).await
        };
        made.await.map_err(|fault| {
            let what = format!("The face `{username}` can't be made by its formula `{written}`");
            fault.refused("model", &what)
        })
    }

    async fn evaluated(
        &self,
        face: Face,
        formula: Formula,
        rows: Vec<FaceRow>,
    ) -> Result<(Persona, Vec<OperandVersion>), FormulaFault> {
        let mut versions = Vec::with_capacity(rows.len());
        let mut operands = Vec::with_capacity(rows.len());
        for row in rows {
            let FaceRow { id, version, .. } = row;
            versions.push(OperandVersion { username: row.username.clone(), id, version });
            let Face { username, facts, .. } = face_from_row(row)?;
            operands.push(Operand { username, facts, primitives: self.primitives(id).await? });
        }
        versions.sort_by_key(|operand| operand.id);
        // It takes a core for as long as it lasts, also when nobody waits for it any more.
        let turn = Arc::clone(&self.formula_turns).acquire_owned().await;
        let prepare = move |tokens_max| {
            let _turn = turn;
            let (facts, primitives) = formula.evaluate(&operands);
            let component_counts = Some(ComponentCounts::of(&primitives));
            let face = Face { facts, component_counts, ..face };
            Persona::prepare(face, &primitives, tokens_max)
        };
        Ok((self.prepared(prepare).await?, versions))
    }

    /// Whether these faces are still in these versions.
    pub(super) async fn is_made_of(
        &self,
        account_id: AccountId,
        operands: &[OperandVersion],
    ) -> Result<bool, Failure> {
        if operands.is_empty() {
            return Ok(true);
        }
        let names: Vec<FaceName> = operands.iter().map(|one| one.username.clone()).collect();
        let found = storage_faces::operand_versions(&self.db, account_id, &names).await?;
        Ok(found == operands)
    }
}

impl Platform {
    /// Checks that a formula may be written into a face: each operand is the caller's, allowed to
    /// the key, and no combined face itself.
    ///
    /// # Errors
    /// 422 at `formula`, 403 when the key does not allow an operand.
    pub(super) async fn check_formula(&self, caller: &Caller, face: &Face) -> Result<(), Failure> {
        let Some(written) = &face.formula else { return Ok(()) };
        let formula = Formula::parse(written).map_err(FaceError::from)?;
        for operand in formula.operands() {
            permit_face(caller, operand)?;
        }
        let directory = &self.inner.directory;
        let found =
            storage_faces::find_faces(&directory.db, face.account_id, formula.operands()).await?;
        operand_rows(&formula, &found).map_err(|fault| fault.refused("formula", "formula"))?;
        Ok(())
    }

    /// The face that a request names by a formula.
    ///
    /// # Errors
    /// 422 for what is no formula and for a combined operand, 403 naming an operand that the key
    /// does not allow, 404 for one that is not there.
    pub(super) async fn composite(
        &self,
        caller: &Caller,
        written: &str,
    ) -> Result<LoadedFace, Failure> {
        let formula = Formula::parse(written).map_err(|error| {
            Failure::invalid("model", format!("The formula before the @ can't be read: {error}"))
        })?;
        for operand in formula.operands() {
            permit_face(caller, operand)?;
        }
        let made = self.inner.directory.composite(caller.account_id, &formula).await;
        made.map_err(|fault| match fault {
            FormulaFault::Missing(face) => face_not_found(face.as_str()),
            nested_or_failed => nested_or_failed.refused("model", "The formula before the @"),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        config::Limits,
        domain::{AccountId, FaceId, FaceName, NanoUsd},
        faces::Formula,
        flows::directory::{Directory, LoadedFace},
        storage::{
            DatabaseUrl, Db, DbOptions, DbRole,
            accounts::{CreditSource, NewAccount, create_account},
            faces::{
                FaceContent, FacePrimitives, NewFace, PrimitiveRow, insert_face, replace_primitives,
            },
        },
    };

    struct Stage {
        db: Db,
        directory: Directory,
        account_id: AccountId,
        ann: FaceId,
    }

    fn name(username: &str) -> FaceName {
        FaceName::parse(username).unwrap()
    }

    fn likes(what: &str) -> FacePrimitives {
        let row = PrimitiveRow {
            component: "beta".to_owned(),
            text: format!("Likes {what}."),
            weight: 1.0,
        };
        FacePrimitives { rows: vec![row], component_counts: None }
    }

    /// `mix`, which is `ann | bob`, and a directory that believes what it read for so long.
    async fn stage(path: std::path::PathBuf, cache_ttl_ms: u64) -> Stage {
        let db = Db::open(DbOptions {
            url: DatabaseUrl::Sqlite(path),
            connections_max: 2,
            acquire_timeout_ms: 5_000,
            read_timeout_ms: 5_000,
            migrate: true,
            role: DbRole::Server,
        });
        let db = db.await.unwrap();
        let account = NewAccount {
            id: AccountId::generate(),
            name: "Ada".to_owned(),
            credit: NanoUsd(100),
            credit_source: CreditSource::Cash,
        };
        let account_id = create_account(&db, account).await.unwrap().id;
        let insert = async |username: &str, formula: Option<&str>, primitives| {
            let content = FaceContent {
                username: name(username),
                name: username.to_owned(),
                facts: "{}".to_owned(),
                default_model: None,
                default_tools: Vec::new(),
                formula: formula.map(str::to_owned),
                description: None,
                profile_addendum: None,
            };
            let new = NewFace { id: FaceId::generate(), account_id, content };
            insert_face(&db, new, primitives).await.unwrap().id
        };
        let ann = insert("ann", None, likes("tea")).await;
        insert("bob", None, likes("rain")).await;
        insert("mix", Some("ann | bob"), FacePrimitives::default()).await;
        let limits = Limits { cache_ttl_ms, ..Limits::default() };
        let directory = Directory::new(db.clone(), &limits);
        Stage { db, directory, account_id, ann }
    }

    impl Stage {
        /// The prompts of the stored and of the run-time face.
        async fn prompts(&self) -> [String; 2] {
            let stored = self.directory.face(self.account_id, &name("mix")).await.unwrap().unwrap();
            let formula = Formula::parse("ann|bob").unwrap();
            let composite = self.directory.composite(self.account_id, &formula).await.unwrap();
            assert_eq!(composite.id, self.ann, "its usage is the first operand's");
            [stored, composite].map(|face: LoadedFace| face.persona.compose("").to_string())
        }

        /// Changes an operand as another instance would: this one is not told.
        async fn change(&self, what: &str) {
            replace_primitives(&self.db, self.account_id, self.ann, likes(what)).await.unwrap();
        }
    }

    fn all_hold(prompts: &[String; 2], word: &str) -> bool {
        prompts.iter().all(|prompt| prompt.contains(word) && prompt.contains("rain"))
    }

    #[tokio::test]
    async fn a_change_on_another_instance_is_found_when_the_time_to_live_is_over() {
        let place = tempfile::tempdir().unwrap();
        let stage = stage(place.path().join("faces.db"), 0).await;
        assert!(all_hold(&stage.prompts().await, "tea"));
        stage.change("snow").await;
        assert!(all_hold(&stage.prompts().await, "snow"));
    }

    #[tokio::test]
    async fn a_formula_waits_for_its_turn() {
        let place = tempfile::tempdir().unwrap();
        let stage = stage(place.path().join("faces.db"), 60_000).await;
        let turns = &stage.directory.formula_turns;
        let all = Limits::default().formula_evaluations_max;
        let others = turns.acquire_many(all).await.unwrap();
        let mut asked = std::pin::pin!(stage.prompts());
        // Long after the questions that it has to ask the database.
        let bob = name("bob");
        for _ in 0..50 {
            assert!(futures_util::poll!(&mut asked).is_pending());
            let face = stage.directory.face(stage.account_id, &bob).await.unwrap();
            assert!(face.is_some());
            stage.directory.forget_face(stage.account_id, &bob);
        }
        drop(others);
        assert!(all_hold(&asked.await, "tea"));
        assert_eq!(u32::try_from(turns.available_permits()).unwrap(), all);
    }

    #[tokio::test]
    async fn a_warm_face_is_believed_until_a_face_of_its_account_is_changed_here() {
        let place = tempfile::tempdir().unwrap();
        let stage = stage(place.path().join("faces.db"), 60_000).await;
        assert!(all_hold(&stage.prompts().await, "tea"));
        stage.change("snow").await;
        assert!(all_hold(&stage.prompts().await, "tea"), "no question was asked");
        stage.directory.forget_face(stage.account_id, &name("ann"));
        assert!(all_hold(&stage.prompts().await, "snow"), "and then it was");
    }
}
