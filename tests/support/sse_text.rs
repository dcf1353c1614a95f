//! Legal and illegal ways of writing the same event stream, and gzip without a compressor.
//!
//! A stream is a list of records in their plain form: `data: …` lines with LF, blank line last.

/// The records as one text.
pub(crate) fn joined(records: &[String]) -> Vec<u8> {
    records.concat().into_bytes()
}

/// Lines end with CRLF.
pub(crate) fn crlf(records: &[String]) -> Vec<String> {
    records.iter().map(|record| record.replace('\n', "\r\n")).collect()
}

/// Lines end with CR.
pub(crate) fn cr(records: &[String]) -> Vec<String> {
    records.iter().map(|record| record.replace('\n', "\r")).collect()
}

/// A byte order mark before the first record.
pub(crate) fn bom(records: &[String]) -> Vec<String> {
    with_first(records, |record| format!("\u{feff}{record}"))
}

/// Comments: as records of their own before each record, and as a line within each.
pub(crate) fn comments(records: &[String]) -> Vec<String> {
    records.iter().map(|record| format!(": ping\n\n: inside\n{record}")).collect()
}

/// An `id` line in each record.
pub(crate) fn ids(records: &[String]) -> Vec<String> {
    let numbered = records.iter().enumerate();
    numbered.map(|(number, record)| format!("id: {number}\n{record}")).collect()
}

/// `retry` and unknown fields: as a record of their own first, and in each record.
pub(crate) fn retry(records: &[String]) -> Vec<String> {
    let marked: Vec<String> =
        records.iter().map(|record| format!("retry: 10\nx-unknown: y\n{record}")).collect();
    with_first(&marked, |record| format!("retry: 3000\n\n{record}"))
}

/// No space after the colon of `data`.
pub(crate) fn no_space(records: &[String]) -> Vec<String> {
    records.iter().map(|record| record.replace("data: ", "data:")).collect()
}

/// JSON data over two lines: broken after the first comma outside a string.
pub(crate) fn multi_line_data(records: &[String]) -> Vec<String> {
    records.iter().map(|record| break_data(record)).collect()
}

/// Cut into chunks of `size` bytes, wherever that falls.
pub(crate) fn in_pieces(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

fn with_first(records: &[String], change: impl Fn(&str) -> String) -> Vec<String> {
    let changed = records.iter().enumerate().map(|(number, record)| match number {
        0 => change(record),
        _ => record.clone(),
    });
    changed.collect()
}

fn break_data(record: &str) -> String {
    let Some(start) = record.find("data: {").map(|at| at + "data: ".len()) else {
        return record.to_owned();
    };
    let (mut in_string, mut escaped) = (false, false);
    for (offset, character) in record[start..].char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ',' if !in_string => {
                let (before, after) = record.split_at(start + offset + 1);
                return format!("{before}\ndata: {after}");
            }
            _ => {}
        }
    }
    record.to_owned()
}

/// `bytes` as a gzip file of stored (uncompressed) blocks. Source: RFC 1951 section 3.2.4 and
/// RFC 1952 section 2.3.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> = bytes.chunks(usize::from(u16::MAX)).collect();
    for (number, block) in blocks.iter().enumerate() {
        out.push(u8::from(number + 1 == blocks.len()));
        let length = u16::try_from(block.len()).expect("a block fits");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    let length = u32::try_from(bytes.len()).expect("a test's body is small");
    out.extend_from_slice(&length.to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}
