//! Bodies of comparing faces.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// Faces compared with each other.
#[derive(Debug, ToSchema)]
pub struct FaceDiff {
    /// The result.
    pub data: FacePairs,
}

/// Every pair of the faces that were named.
#[derive(Debug, ToSchema)]
pub struct FacePairs {
    /// The pairs, in the order of the names.
    pub pairs: Vec<FacePair>,
}

/// Two faces.
#[derive(Debug, ToSchema)]
pub struct FacePair {
    /// One's handle.
    pub a: String,
    /// The other's handle.
    pub b: String,
    /// Cosine similarity, -1 to 1, by component and for `face`, the whole; `null` where one of them has
    /// nothing to compare.
    pub similarity: BTreeMap<String, Option<f64>>,
}

/// The other faces of the account that are most like one.
#[derive(Debug, ToSchema)]
pub struct FaceNeighbors {
    /// The result.
    pub data: Neighbors,
}

/// Most similar first.
#[derive(Debug, ToSchema)]
pub struct Neighbors {
    /// The faces.
    pub neighbors: Vec<Neighbor>,
}

/// A face and how similar it is.
#[derive(Debug, ToSchema)]
pub struct Neighbor {
    /// The id that never changes.
    pub face_id: String,
    /// The handle.
    pub id: String,
    /// The handle.
    pub username: String,
    /// The handle.
    pub alias: String,
    /// Cosine similarity, -1 to 1.
    pub similarity: f64,
}
