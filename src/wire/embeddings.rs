//! Embeddings in OpenAI's form: texts in, vectors out. Never streamed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{UpstreamFault, raw::RawObject, upstream_error, usage};
use crate::domain::Usage;

/// What a provider answered.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsAnswer {
    /// One vector for each text, in the order of the request.
    pub vectors: Vec<Vec<f64>>,
    /// What it used; `None` when it was not told, or can't be true.
    pub usage: Option<Usage>,
    /// Whether a usage was told that can't be true.
    pub implausible: bool,
}

/// The body of a request for the vectors of `texts`.
#[must_use]
pub fn request<T: Serialize>(model: &str, texts: &[T]) -> Bytes {
    json!({"model": model, "input": texts, "encoding_format": "float"}).to_string().into()
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f64>,
}

/// Reads a response of status 200 to a request of `count` texts, which can't have had more than
/// `input_tokens_max` tokens. Its vectors must have `dimensions` values each.
///
/// # Errors
/// [`UpstreamFault::Malformed`] when the body is not the whole JSON of a response, or has not one
/// vector of that length for each text; [`UpstreamFault::ErrorEvent`] when it is an error.
pub fn read(
    body: &[u8],
    count: usize,
    dimensions: usize,
    input_tokens_max: u64,
) -> Result<EmbeddingsAnswer, UpstreamFault> {
    let malformed = |detail| UpstreamFault::Malformed { detail };
    let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))?;
    let object =
        RawObject::parse(text).map_err(|_| malformed("the body is not one JSON object"))?;
    if let Some(fault) = upstream_error::openai_error_of(&object, text) {
        return Err(fault);
    }
    let data = object.get("data").ok_or_else(|| malformed("the body has no data"))?;
    let vectors = vectors(data, count)
        .ok_or_else(|| malformed("the body has not one vector of numbers for each text"))?;
    if vectors.iter().any(|vector| vector.len() != dimensions) {
        return Err(malformed("a vector has not as many values as the model's `dimensions` say"));
    }
    let told = object.get("usage").map(|told| usage::read_embeddings(told, input_tokens_max));
    Ok(EmbeddingsAnswer {
        vectors,
        usage: told.and_then(Result::ok),
        implausible: matches!(told, Some(Err(_))),
    })
}

/// The vectors in the order of the texts; servers that tell no `index` answer in that order.
fn vectors(data: &RawValue, count: usize) -> Option<Vec<Vec<f64>>> {
    let items: Vec<Item> = serde_json::from_str(data.get()).ok()?;
    if items.len() != count {
        return None;
    }
    let mut places: Vec<Option<Vec<f64>>> = vec![None; count];
    for (position, item) in items.into_iter().enumerate() {
        let place = places.get_mut(item.index.unwrap_or(position))?;
        if place.replace(item.embedding).is_some() {
            return None;
        }
    }
    places.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn answer(body: &Value, dimensions: usize) -> Result<EmbeddingsAnswer, UpstreamFault> {
        let count = body["data"].as_array().map_or(2, Vec::len);
        read(body.to_string().as_bytes(), count, dimensions, 100)
    }

    #[test]
    fn texts_are_sent_as_they_are() {
        let body: Value = serde_json::from_slice(&request("m", &["tea", "a \"b\"\n"])).unwrap();
        assert_eq!(
            body,
            json!({"model": "m", "input": ["tea", "a \"b\"\n"], "encoding_format": "float"})
        );
    }

    #[test]
    fn vectors_come_in_the_order_of_the_texts() {
        let body = json!({"object": "list", "data": [
            {"object": "embedding", "index": 1, "embedding": [3, 4.5]},
            {"object": "embedding", "index": 0, "embedding": [1, -2]},
        ], "model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}});
        let found = answer(&body, 2).unwrap();
        assert_eq!(found.vectors, [[1.0, -2.0], [3.0, 4.5]]);
        let usage = Usage { input_uncached: 7, ..Usage::default() };
        assert_eq!((found.usage, found.implausible), (Some(usage), false));
        let bare = json!({"data": [{"embedding": [1]}, {"embedding": [2]}]});
        let found = answer(&bare, 1).unwrap();
        assert_eq!((found.vectors, found.usage), (vec![vec![1.0], vec![2.0]], None));
    }

    #[test]
    fn a_usage_that_can_not_be_true_counts_as_absent() {
        for told in [
            json!({"prompt_tokens": 101}),
            json!({"prompt_tokens": -1}),
            json!({"prompt_tokens": 1.5}),
            json!({}),
            json!("seven"),
        ] {
            let body = json!({"data": [{"embedding": [1]}], "usage": told});
            let found = answer(&body, 1).unwrap();
            assert_eq!((found.usage, found.implausible), (None, true), "{body}");
        }
        let only_total = json!({"data": [{"embedding": [1]}], "usage": {"total_tokens": 100}});
        assert_eq!(answer(&only_total, 1).unwrap().usage.unwrap().input_uncached, 100);
    }

    #[test]
    fn an_answer_without_a_vector_for_each_text_is_a_fault() {
        for body in [
            json!({}),
            json!({"data": 1}),
            json!({"data": []}),
            json!({"data": [{"embedding": [1]}]}),
            json!({"data": [{"embedding": [1]}, {"embedding": [1]}, {"embedding": [1]}]}),
            json!({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]}),
            json!({"data": [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [2]}]}),
            json!({"data": [{"embedding": ["1"]}, {"embedding": [null]}]}),
            json!({"data": [{"embedding": [1]}, {}]}),
        ] {
            let found = read(body.to_string().as_bytes(), 2, 1, 100);
            assert!(matches!(found, Err(UpstreamFault::Malformed { .. })), "{body}: {found:?}");
        }
        for body in [
            &b"\xff"[..],
            b"",
            b"{\"data\":[{\"embedding\":[1",
            b"{\"data\":[{\"embedding\":[1e999]}]}",
        ] {
            assert!(matches!(read(body, 1, 1, 1), Err(UpstreamFault::Malformed { .. })));
        }
        let error = json!({"error": {"message": "no", "type": "invalid_request_error"}});
        assert!(matches!(answer(&error, 2), Err(UpstreamFault::ErrorEvent { .. })));
    }

    #[test]
    fn a_vector_of_another_length_is_a_fault() {
        for vectors in [[json!([1, 2]), json!([1])], [json!([1, 2, 3]), json!([1, 2, 3])]] {
            let [first, second] = vectors;
            let body = json!({"data": [{"embedding": first}, {"embedding": second}]});
            let fault = answer(&body, 2).unwrap_err();
            assert!(fault.to_string().contains("dimensions"), "{fault}");
        }
        let empty = json!({"data": [{"embedding": []}, {"embedding": []}]});
        assert!(answer(&empty, 2).is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused_without_a_panic(body in "[\\[\\]{}\",:0-9a-z. e-]{0,80}") {
            let _ = read(body.as_bytes(), 1, 1, 10);
        }
    }
}
