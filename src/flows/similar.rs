//! How similar faces are to each other.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{Caller, Failure, Flows, centroids::blocking, resolve, trace::RequestTrace};
use crate::{
    domain::{ErrorCode, FaceId, FaceName},
    faces::{
        centroid::{self, Candidate, CentroidPart, Direction, Neighbour, similarity},
        embedding::Embedding,
    },
    storage::{centroids::CentroidRow, faces as storage_faces},
};

/// Neighbours when the caller does not say how many.
const NEIGHBOURS_DEFAULT: usize = 5;
/// Most neighbours of one answer. Source: reference/faces-api.md, C.9.
const NEIGHBOURS_MAX: usize = 20;

/// What is asked of a face's neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourQuery {
    count: usize,
    part: CentroidPart,
    direction: Direction,
}

impl NeighbourQuery {
    /// Reads `k` (1 to 20; default 5), `component` (`face`, `beta`, `delta`, `epsilon`; default
    /// `face`) and `direction` (`nearest`, `furthest`; default `nearest`).
    ///
    /// # Errors
    /// 422 that names the one that is wrong.
    pub fn parse(
        k: Option<&str>,
        component: Option<&str>,
        direction: Option<&str>,
    ) -> Result<Self, Failure> {
        let count = match k {
            None => NEIGHBOURS_DEFAULT,
            Some(text) => {
                let count = text.parse().ok().filter(|count| (1..=NEIGHBOURS_MAX).contains(count));
                let message = format!("k must be a whole number from 1 to {NEIGHBOURS_MAX}");
                count.ok_or_else(|| wrong_query("k", message))?
            }
        };
        let part = match component {
            None => CentroidPart::Face,
            Some(name) => CentroidPart::parse(name).ok_or_else(|| {
                wrong_query("component", "component must be face, beta, delta or epsilon")
            })?,
        };
        let direction = match direction {
            None => Direction::Nearest,
            Some(name) => Direction::parse(name)
                .ok_or_else(|| wrong_query("direction", "direction must be nearest or furthest"))?,
        };
        Ok(Self { count, part, direction })
    }
}

impl Flows {
    /// `GET /v1/faces/diff`: each of the named faces compared with each other one, in their order.
    ///
    /// A component that one of two faces lacks is `null`, as all are for a face made by a formula.
    ///
    /// # Errors
    /// 422 for fewer than two usernames, too many, or one given twice; 404 for a face that is not
    /// the caller's, 403 for one that the key does not allow; 503 while centroids are missing. Where
    /// a model's embeddings must be paid for: 402, 403 for a key that may not, and the provider's
    /// failures.
    ///
    /// # Cancel safety
    /// Dropped, what was made stays and the next request goes on from there. A call for embeddings
    /// that was under way is charged its input, once its request went out.
    pub async fn diff_faces(
        &self,
        caller: &Caller,
        names: &str,
        trace: &RequestTrace,
    ) -> Result<Value, Failure> {
        let names = self.named_faces(caller, names).await?;
        let usernames = names.iter().map(|name| name.as_str().to_owned()).collect();
        let parts = &CentroidPart::ALL;
        let rows = self.fresh_centroids(caller, parts, Some(usernames), trace).await?;
        let pairs = blocking(move || pairs_of(&names, rows)).await?;
        Ok(json!({"data": {"pairs": pairs}}))
    }

    /// `GET /v1/faces/{face}/neighbors`: the account's other faces by their similarity to this one.
    ///
    /// Faces without a centroid are left out; a face that has none itself has no neighbours. A key
    /// with a list of faces sees only those.
    ///
    /// # Errors
    /// 404 when the face is not the caller's, 403 when the key does not allow it; 503 while
    /// centroids are missing. Where a model's embeddings must be paid for, as
    /// [`Flows::diff_faces`].
    ///
    /// # Cancel safety
    /// Dropped, what was made stays and the next request goes on from there. A call for embeddings
    /// that was under way is charged its input, once its request went out.
    pub async fn face_neighbours(
        &self,
        caller: &Caller,
        username: &str,
        query: NeighbourQuery,
        trace: &RequestTrace,
    ) -> Result<Value, Failure> {
        let face = self.inner.platform.stored_face(caller, username).await?;
        let found = if face.formula.is_some() {
            Vec::new()
        } else {
            let allowed = caller.allowed_faces.clone();
            let rows = self.fresh_centroids(caller, &[query.part], allowed, trace).await?;
            blocking(move || neighbours_of(face.id, rows, query)).await?
        };
        let neighbours: Vec<Value> = found.iter().map(neighbour_json).collect();
        Ok(json!({"data": {"neighbors": neighbours}}))
    }

    /// The faces of a comparison, once it is clear that the caller may see each of them.
    async fn named_faces(&self, caller: &Caller, names: &str) -> Result<Vec<FaceName>, Failure> {
        let most = self.inner.platform.inner.limits.diff_faces_max;
        let names: Vec<&str> =
            names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        if !(2..=most).contains(&count) {
            let message = format!("faces must be 2 to {most} usernames with commas between them");
            return Err(wrong_query("faces", message));
        }
        let mut seen = HashSet::new();
        let mut parsed = Vec::with_capacity(names.len());
        for name in names {
            if !seen.insert(name) {
                let message = format!("faces must be different usernames; `{name}` comes twice");
                return Err(wrong_query("faces", message));
            }
            parsed.push(FaceName::parse(name).map_err(|_| resolve::face_not_found(name))?);
        }
        for name in &parsed {
            resolve::permit_face(caller, name)?;
        }
        let usernames = parsed.iter().map(|name| name.as_str().to_owned()).collect();
        let db = &self.inner.platform.inner.db;
        let owned =
            storage_faces::list_named_faces(db, caller.account_id, usernames, None, count).await?;
        let owned: HashSet<&str> = owned.iter().map(|face| face.username.as_str()).collect();
        match parsed.iter().find(|name| !owned.contains(name.as_str())) {
            Some(missing) => Err(resolve::face_not_found(missing.as_str())),
            None => Ok(parsed),
        }
    }
}

/// Every pair of the named faces, in their order.
fn pairs_of(names: &[FaceName], rows: Vec<CentroidRow>) -> Vec<Value> {
    let mut found: HashMap<(String, CentroidPart), Embedding> = HashMap::new();
    for row in rows {
        let Some(part) = row.stored.as_ref().and_then(|it| CentroidPart::parse(&it.component))
        else {
            continue;
        };
        let username = row.username.as_str().to_owned();
        if let Some(centroid) = centroid_of(row) {
            found.insert((username, part), centroid);
        }
    }
    let of = |name: &FaceName, part| found.get(&(name.as_str().to_owned(), part));
    let mut pairs = Vec::new();
    for (at, left) in names.iter().enumerate() {
        for right in &names[at + 1..] {
            let mut similarities = serde_json::Map::new();
            for part in CentroidPart::ALL {
                let both = of(left, part).zip(of(right, part));
                let found = both.map(|(left, right)| similarity(left, right));
                similarities.insert(part.as_str().to_owned(), json!(found));
            }
            pairs.push(json!({"a": left, "b": right, "similarity": similarities}));
        }
    }
    pairs
}

fn neighbours_of(face: FaceId, rows: Vec<CentroidRow>, query: NeighbourQuery) -> Vec<Neighbour> {
    let mut own = None;
    let mut others = Vec::with_capacity(rows.len());
    for row in rows {
        let (id, username) = (row.face_id, row.username.clone());
        let Some(centroid) = centroid_of(row) else { continue };
        if id == face {
            own = Some(centroid);
        } else {
            others.push(Candidate { id, username, centroid });
        }
    }
    own.map_or_else(Vec::new, |own| {
        centroid::neighbours(&own, others, query.direction, query.count)
    })
}

fn centroid_of(row: CentroidRow) -> Option<Embedding> {
    Embedding::from_bytes(&row.stored?.vector?)
}

fn neighbour_json(neighbour: &Neighbour) -> Value {
    let handle = neighbour.username.as_str();
    json!({
        "face_id": neighbour.id,
        "id": handle,
        "username": handle,
        "alias": handle,
        "similarity": neighbour.similarity,
    })
}

/// A 422 that names a parameter of the query.
pub fn wrong_query(name: &str, message: impl Into<String>) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}
