//! A batch of rows as one JSON text: `[["0190…",5,null],…]`.

use std::fmt::Write as _;

use uuid::Uuid;

/// Longest text that a caller or an upstream can put into a ledger row, characters. Enough for a
/// model id or a response id; a bound keeps one request from bloating everyone's flush.
const TEXT_CHARS_MAX: usize = 256;

/// Builds the JSON parameter of a batch statement.
#[derive(Debug)]
pub(super) struct Payload {
    json: String,
    rows: u64,
    row_is_empty: bool,
}

impl Payload {
    /// An empty batch with room for `rows` rows of about `row_bytes`.
    pub(super) fn with_capacity(rows: usize, row_bytes: usize) -> Self {
        let mut json = String::with_capacity(2 + rows * row_bytes);
        json.push('[');
        Self { json, rows: 0, row_is_empty: true }
    }

    /// Starts a row.
    pub(super) fn row(&mut self) -> &mut Self {
        self.json.push_str(if self.rows == 0 { "[" } else { "],[" });
        self.rows += 1;
        self.row_is_empty = true;
        self
    }

    /// Adds an id.
    pub(super) fn id(&mut self, id: Uuid) -> &mut Self {
        self.comma();
        let mut digits = Uuid::encode_buffer();
        self.json.push('"');
        self.json.push_str(id.simple().encode_lower(&mut digits));
        self.json.push('"');
        self
    }

    /// Adds an id or NULL.
    pub(super) fn id_or_null(&mut self, id: Option<Uuid>) -> &mut Self {
        match id {
            Some(id) => self.id(id),
            None => self.null(),
        }
    }

    /// Adds an integer, exact.
    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.comma();
        // Writing to a String can't fail.
        let _ = write!(self.json, "{value}");
        self
    }

    /// Adds a count. What does not fit becomes `i64::MAX` (no real count comes near it).
    pub(super) fn count(&mut self, value: u64) -> &mut Self {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Adds NULL.
    pub(super) fn null(&mut self) -> &mut Self {
        self.comma();
        self.json.push_str("null");
        self
    }

    /// Adds a text, bounded and without control characters: PostgreSQL refuses U+0000 in JSON, and
    /// one refused text must not stop the flush that carries everybody's money.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.comma();
        self.json.push('"');
        for character in text.chars().take(TEXT_CHARS_MAX) {
            match character {
                '"' => self.json.push_str("\\\""),
                '\\' => self.json.push_str("\\\\"),
                control if control.is_control() => self.json.push('\u{fffd}'),
                other => self.json.push(other),
            }
        }
        self.json.push('"');
        self
    }

    /// Adds bytes as hexadecimal digits.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        const fn digit(nibble: u8) -> char {
            (if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }) as char
        }
        self.comma();
        self.json.reserve(bytes.len().saturating_mul(2) + 2);
        self.json.push('"');
        for byte in bytes {
            self.json.push(digit(byte >> 4));
            self.json.push(digit(byte & 15));
        }
        self.json.push('"');
        self
    }

    /// Rows so far.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the batch.
    pub(super) fn finish(mut self) -> String {
        self.json.push_str(if self.rows == 0 { "]" } else { "]]" });
        self.json
    }

    fn comma(&mut self) {
        if !self.row_is_empty {
            self.json.push(',');
        }
        self.row_is_empty = false;
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
        payload.row().bytes(&[0x00, 0x7f, 0xa5, 0xff]);
        assert_eq!(payload.rows(), 3);
        let json = payload.finish();
        assert_eq!(
            json,
            "[[\"00000000000000000000000000000001\",9223372036854775807,-9223372036854775808,null],\
             [\"a\\\"b\\\\c\u{fffd}\u{fffd}\",9223372036854775807,null],[\"007fa5ff\"]]"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        assert_eq!(Payload::with_capacity(0, 0).finish(), "[]");
    }

    #[test]
    fn a_text_is_bounded() {
        let mut payload = Payload::with_capacity(1, 0);
        payload.row().text(&"é".repeat(10_000));
        assert!(payload.finish().chars().count() <= TEXT_CHARS_MAX + 6);
    }
}
