//! A batch of rows on its way to the database.
//!
//! PostgreSQL (and SQLite through its asynchronous driver) takes it as one JSON text:
//! `[["0190…",5,null],…]`, so that a statement of any number of rows is one round trip. SQLite in the
//! flush's own thread takes it cell by cell: there is no round trip to save there, and reading the JSON
//! took a fifth of the thread's time.

use std::fmt::Write as _;

use bytes::Bytes;
use uuid::Uuid;

/// Longest text that a caller or an upstream can put into a ledger row, characters. Enough for a
/// model id or a response id; a bound keeps one request from bloating everyone's flush.
const TEXT_CHARS_MAX: usize = 256;

/// One value of a row.
#[derive(Debug)]
pub(super) enum Cell {
    /// NULL.
    Null,
    /// An id.
    Id(Uuid),
    /// An integer.
    Int(i64),
    /// A text without control characters.
    Text(Box<str>),
    /// Bytes.
    Bytes(Bytes),
}

/// The rows of a batch statement.
#[derive(Debug, Default)]
pub(super) struct Payload {
    cells: Vec<Cell>,
    /// Where each row begins in `cells`.
    starts: Vec<usize>,
}

impl Payload {
    /// An empty batch with room for `rows` rows of `columns` values.
    pub(super) fn with_capacity(rows: usize, columns: usize) -> Self {
        let cells = Vec::with_capacity(rows.saturating_mul(columns));
        Self { cells, starts: Vec::with_capacity(rows) }
    }

    /// Starts a row.
    pub(super) fn row(&mut self) -> &mut Self {
        self.starts.push(self.cells.len());
        self
    }

    /// Adds an id.
    pub(super) fn id(&mut self, id: Uuid) -> &mut Self {
        self.cell(Cell::Id(id))
    }

    /// Adds an id or NULL.
    pub(super) fn id_or_null(&mut self, id: Option<Uuid>) -> &mut Self {
        self.cell(id.map_or(Cell::Null, Cell::Id))
    }

    /// Adds an integer, exact.
    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.cell(Cell::Int(value))
    }

    /// Adds a count. What does not fit becomes `i64::MAX` (no real count comes near it).
    pub(super) fn count(&mut self, value: u64) -> &mut Self {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Adds NULL.
    pub(super) fn null(&mut self) -> &mut Self {
        self.cell(Cell::Null)
    }

    /// Adds a text, bounded and without control characters: PostgreSQL refuses U+0000 in JSON, and
    /// one refused text must not stop the flush that carries everybody's money.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let is_plain = text.len() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control);
        let kept = if is_plain {
            text.into()
        } else {
            let shown = |it: char| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it };
            text.chars().take(TEXT_CHARS_MAX).map(shown).collect()
        };
        self.cell(Cell::Text(kept))
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, bytes: Bytes) -> &mut Self {
        self.cell(Cell::Bytes(bytes))
    }

    /// Rows so far.
    pub(super) fn row_count(&self) -> u64 {
        u64::try_from(self.starts.len()).unwrap_or(u64::MAX)
    }

    /// The rows, each as its values.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        let ends = self.starts.iter().skip(1).copied().chain([self.cells.len()]);
        self.starts.iter().zip(ends).filter_map(|(&start, end)| self.cells.get(start..end))
    }

    /// The rows as one JSON text: ids and bytes are hexadecimal digits.
    pub(super) fn json(&self) -> String {
        let mut json = String::with_capacity(2 + self.cells.len().saturating_mul(24));
        json.push('[');
        for (number, row) in self.rows().enumerate() {
            json.push_str(if number == 0 { "[" } else { ",[" });
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    json.push(',');
                }
                write_json(&mut json, cell);
            }
            json.push(']');
        }
        json.push(']');
        json
    }

    fn cell(&mut self, cell: Cell) -> &mut Self {
        self.cells.push(cell);
        self
    }
}

fn write_json(json: &mut String, cell: &Cell) {
    match cell {
        Cell::Null => json.push_str("null"),
        Cell::Int(value) => {
            // Writing to a String can't fail.
            let _ = write!(json, "{value}");
        }
        Cell::Id(id) => {
            json.push('"');
            json.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
            json.push('"');
        }
        Cell::Text(text) => {
            json.push('"');
            for character in text.chars() {
                if matches!(character, '"' | '\\') {
                    json.push('\\');
                }
                json.push(character);
            }
            json.push('"');
        }
        Cell::Bytes(bytes) => {
            const fn digit(nibble: u8) -> char {
                (if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }) as char
            }
            json.reserve(bytes.len().saturating_mul(2) + 2);
            json.push('"');
            for byte in bytes {
                json.push(digit(byte >> 4));
                json.push(digit(byte & 15));
            }
            json.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_json_with_exact_integers_and_escaped_text() {
        let mut payload = Payload::with_capacity(2, 64);
        payload.row().id(Uuid::from_u128(1)).int(i64::MAX).int(i64::MIN).null();
        payload.row().text("a\"b\\c\u{0}\n").count(u64::MAX).id_or_null(None);
        payload.row().bytes(Bytes::from_static(&[0x00, 0x7f, 0xa5, 0xff]));
        assert_eq!(payload.row_count(), 3);
        let json = payload.json();
        assert_eq!(
            json,
            "[[\"00000000000000000000000000000001\",9223372036854775807,-9223372036854775808,null],\
             [\"a\\\"b\\\\c\u{fffd}\u{fffd}\",9223372036854775807,null],[\"007fa5ff\"]]"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        assert_eq!(Payload::default().json(), "[]");
    }

    #[test]
    fn a_text_is_bounded() {
        let mut payload = Payload::with_capacity(1, 0);
        payload.row().text(&"é".repeat(10_000));
        assert!(payload.json().chars().count() <= TEXT_CHARS_MAX + 6);
    }
}
