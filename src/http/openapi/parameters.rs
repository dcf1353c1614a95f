//! Parameters that several routes have.

use utoipa::IntoParams;

/// A page of a list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document; the routes read their queries themselves")]
pub(in super::super) struct Page {
    /// How many to show, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}
