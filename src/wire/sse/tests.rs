//! Laws of the decoder: any split gives the same events, no byte is lost, no input panics, memory
//! is bounded.

use proptest::prelude::*;

use super::*;

type Event = (Option<String>, Option<String>);

fn decode(chunks: &[&[u8]]) -> (Vec<Event>, Vec<u8>) {
    let mut decoder = SseDecoder::new(1 << 20);
    let mut events = Vec::new();
    let mut bytes = Vec::new();
    let text = |value: Option<Bytes>| value.map(|it| String::from_utf8_lossy(&it).into_owned());
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(record) = decoder.next().unwrap() {
            bytes.extend_from_slice(&record.raw);
            events.push((text(record.event), text(record.data)));
        }
    }
    bytes.extend_from_slice(&decoder.finish().unwrap_or_default());
    (events, bytes)
}

#[track_caller]
fn check(input: &str, expected: &[(Option<&str>, Option<&str>)]) {
    let own = |text: &Option<&str>| text.map(ToOwned::to_owned);
    let expected: Vec<Event> = expected.iter().map(|(a, b)| (own(a), own(b))).collect();
    for size in [1, 2, 3, input.len().max(1)] {
        let chunks: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
        let (events, bytes) = decode(&chunks);
        assert_eq!(events, expected, "chunks of {size} bytes");
        assert_eq!(bytes, input.as_bytes(), "chunks of {size} bytes");
    }
}

#[test]
fn the_three_line_ends_mean_the_same() {
    for end in ["\n", "\r\n", "\r"] {
        let input = format!("event: a{end}data: 1{end}{end}data: 2{end}{end}");
        check(&input, &[(Some("a"), Some("1")), (None, Some("2"))]);
    }
    check("data: 1\r\n\ndata: 2\n\r\n", &[(None, Some("1")), (None, Some("2"))]);
}

#[test]
fn fields_follow_the_standard() {
    check("data:x\ndata: y\ndata:  z\n\n", &[(None, Some("x\ny\n z"))]);
    check("data\n\n", &[(None, Some(""))]);
    check("data:\ndata:\n\n", &[(None, Some("\n"))]);
    check(": comment\nid: 1\nretry: 5\nfoo: bar\ndata: 1\n\n", &[(None, Some("1"))]);
    check("event: a\nevent: b\ndata: 1\n\n", &[(Some("b"), Some("1"))]);
    check("xdata: y\ndatax: z\n\n", &[(None, None)]);
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_start_only() {
    check("\u{feff}data: 1\n\n", &[(None, Some("1"))]);
    check("data: 1\n\n\u{feff}data: 2\n\n", &[(None, Some("1")), (None, None)]);
}

#[test]
fn comments_alone_are_records_without_data() {
    check(": ping\n\ndata: 1\n\n", &[(None, None), (None, Some("1"))]);
    check("\n\n", &[(None, None), (None, None)]);
}

#[test]
fn an_incomplete_record_is_no_event() {
    check("data: 1\n\ndata: 2\n", &[(None, Some("1"))]);
    check("data: 1", &[]);
}

#[test]
fn a_record_is_delivered_with_its_blank_line_even_when_it_ends_in_a_lone_cr() {
    let mut decoder = SseDecoder::new(100);
    decoder.push(Bytes::from_static(b"data: 1\r\n\r"));
    assert_eq!(decoder.next().unwrap().unwrap().data.unwrap(), "1");
    decoder.push(Bytes::from_static(b"\ndata: 2\r\n\r\n"));
    assert_eq!(decoder.next().unwrap().unwrap().data.unwrap(), "2");
    assert_eq!(decoder.next(), Ok(None));
    assert_eq!(decoder.finish(), None);
}

#[test]
fn a_record_inside_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"data: 1\n\ndata: 2\n\n");
    let range = chunk.as_ptr_range();
    let mut decoder = SseDecoder::new(100);
    decoder.push(chunk);
    while let Some(record) = decoder.next().unwrap() {
        assert!(range.contains(&record.raw.as_ptr()));
        assert!(range.contains(&record.data.unwrap().as_ptr()));
    }
}

#[test]
fn a_record_over_the_limit_is_refused_however_it_comes() {
    let input = format!("data: {}\n\n", "x".repeat(100));
    let bytes_max = input.len() - 1;
    for size in [1, 7, input.len()] {
        let mut decoder = SseDecoder::new(bytes_max);
        let mut failed = false;
        for chunk in input.as_bytes().chunks(size) {
            decoder.push(Bytes::copy_from_slice(chunk));
            failed |= decoder.next() == Err(SseError::RecordTooLarge { bytes_max });
        }
        assert!(failed, "chunks of {size} bytes");
        assert!(decoder.next().is_err(), "it stays failed");
    }
    let mut decoder = SseDecoder::new(input.len());
    decoder.push(Bytes::from(input));
    assert!(decoder.next().unwrap().is_some());
}

fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"data: ".to_vec()),
        2 => Just(b"data".to_vec()),
        2 => Just(b"event: x".to_vec()),
        1 => Just(b": c".to_vec()),
        1 => Just(b"id: 1".to_vec()),
        4 => Just(b"\n".to_vec()),
        3 => Just(b"\r".to_vec()),
        3 => Just(b"\r\n".to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        3 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events_and_loses_no_byte(
        input in stream_bytes(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let (whole, whole_bytes) = decode(&[&input]);
        let (split, split_bytes) = decode(&chunks);
        prop_assert_eq!(&whole, &split);
        prop_assert_eq!(&whole_bytes, &input);
        prop_assert_eq!(&split_bytes, &input);
        let ones: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&decode(&ones).0, &whole);
    }

    #[test]
    fn what_the_encoder_writes_the_decoder_reads(payloads in proptest::collection::vec("[^\r\n]{0,40}", 0..8)) {
        let mut stream = BytesMut::new();
        for payload in &payloads {
            encode_event("delta", payload.as_bytes(), &mut stream);
        }
        let (events, _) = decode(&[&stream]);
        let expected: Vec<Event> =
            payloads.iter().map(|it| (Some("delta".to_owned()), Some(it.clone()))).collect();
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn memory_stays_within_the_limit(input in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = SseDecoder::new(32);
        for chunk in input.chunks(5) {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Ok(Some(record)) = decoder.next() {
                prop_assert!(record.raw.len() <= 32);
            }
            prop_assert!(decoder.carry.len() <= 32);
            prop_assert!(decoder.chunks.is_empty());
        }
    }
}
