//! Micro-benches of what every request or every delta pays for: `just bench`.
//!
//! Figures are for comparing two versions on one machine, not for promises.

use std::{collections::VecDeque, hint::black_box};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use faces::{
    domain::{AccountId, ChargeRate, FaceId, FaceName, NanoUsd, TokenPrices, Usage},
    faces::{Component, Facts, Formula, Operand, Persona, Primitive, demo},
    wire::{
        ChatStream, ChatStreamOptions, ProxyStream, ProxyStreamOptions, SseDecoder, UpstreamFormat,
        openai_chat::{ChatRequest, OpenAiEdit},
        sse,
    },
};

const DELTAS: u64 = 100;
const RECORD_BYTES_MAX: usize = 1_048_576;

/// An OpenAI stream as it arrives: one read per delta.
fn openai_stream() -> Vec<Bytes> {
    let chunk = |delta: &str, finish: &str, usage: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-9x\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"system_fingerprint\":\"fp_1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}],\"usage\":{usage}}}\n\n"
        ))
    };
    let mut reads = vec![chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null", "null")];
    for index in 0..DELTAS {
        reads.push(chunk(&format!("{{\"content\":\" word{index}\"}}"), "null", "null"));
    }
    reads.push(chunk("{}", "\"stop\"", "null"));
    reads.push(Bytes::from_static(b"data: [DONE]\n\n"));
    reads
}

fn streams(criterion: &mut Criterion) {
    let reads = openai_stream();
    let mut group = criterion.benchmark_group("stream of 100 deltas");
    group.throughput(Throughput::Elements(DELTAS));
    group.bench_function("decode", |bench| {
        bench.iter(|| {
            let mut decoder = SseDecoder::new(RECORD_BYTES_MAX);
            for read in &reads {
                decoder.push(read.clone());
                while let Ok(Some(record)) = decoder.next() {
                    black_box(record);
                }
            }
        });
    });
    group.bench_function("decode and translate for a client", |bench| {
        bench.iter(|| {
            let mut decoder = SseDecoder::new(RECORD_BYTES_MAX);
            let mut stream = ChatStream::new(
                UpstreamFormat::OpenAiChat,
                ChatStreamOptions {
                    model_echo: "alice",
                    include_usage: false,
                    created: 0,
                    fallback_id: String::new(),
                    context_tokens_max: 128_000,
                    unwrap_tool: false,
                },
            );
            let mut out = VecDeque::new();
            for read in &reads {
                decoder.push(read.clone());
                while let Ok(Some(record)) = decoder.next() {
                    black_box(stream.push(&record, &mut out));
                }
                out.drain(..).for_each(|chunk| drop(black_box(chunk)));
            }
        });
    });
    group.bench_function("decode and tee for a native client", |bench| {
        bench.iter(|| {
            let mut decoder = SseDecoder::new(RECORD_BYTES_MAX);
            let options = ProxyStreamOptions { hide_usage: true, context_tokens_max: 128_000 };
            let mut tee = ProxyStream::new(UpstreamFormat::OpenAiChat, options);
            for read in &reads {
                decoder.push(read.clone());
                while let Ok(Some(record)) = decoder.next() {
                    black_box(tee.push(&record));
                }
            }
        });
    });
    group.bench_function("encode", |bench| {
        let data = reads[50].slice(6..reads[50].len() - 2);
        bench.iter(|| {
            let mut out = bytes::BytesMut::with_capacity(65_536);
            for _ in 0..DELTAS {
                sse::encode_data(black_box(&data), &mut out);
            }
            out
        });
    });
    group.finish();
}

fn prompts(criterion: &mut Criterion) {
    let Ok(alice) = demo::alice() else { return };
    let Ok((face, primitives, _)) = alice.into_face(FaceId::generate(), AccountId::generate(), 0)
    else {
        return;
    };
    let ranked = Persona::prepare(face.clone(), &primitives, 1_500);
    let whole = Persona::prepare(face, &primitives, 100_000);
    let persona = whole.compose("");
    let body = Bytes::from_static(
        br#"{"model":"alice","stream":true,"temperature":0.7,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"What do you do on a free morning, and why?"}]}"#,
    );
    criterion.bench_function("persona/static", |bench| bench.iter(|| whole.compose(black_box(""))));
    criterion.bench_function("persona/ranked", |bench| {
        bench.iter(|| ranked.compose(black_box("What do you do on a free morning, and why?")));
    });
    criterion.bench_function("request/parse", |bench| {
        bench.iter_batched(|| body.clone(), ChatRequest::parse, BatchSize::SmallInput);
    });
    let Ok(request) = ChatRequest::parse(body) else { return };
    criterion.bench_function("request/splice the persona", |bench| {
        bench.iter(|| {
            request.to_openai(&OpenAiEdit {
                model: "gpt-4o-mini",
                system_prefix: Some(black_box(&persona)),
                include_usage: true,
                max_tokens: None,
            })
        });
    });
}

/// A face of so many statements; of every three, one is also said by other faces, in other words.
fn operand(name: &str, statements: usize) -> Option<Operand> {
    let statement = |at: usize| {
        let text = match at % 3 {
            0 => format!("Walks to the harbour at {at} o'clock every single morning"),
            1 => format!("{name} thinks that subject {} is worth an evening", at * 7 % 997),
            _ => format!("Of the things called {name}{at} nobody else would ever speak"),
        };
        Primitive::new([Component::Beta, Component::Delta, Component::Epsilon][at % 3], text)
    };
    Some(Operand {
        username: FaceName::parse(name).ok()?,
        facts: Facts::default(),
        primitives: (0..statements).map(statement).collect(),
    })
}

/// What the first request to a combined face waits for; after that it is cached.
fn formulas(criterion: &mut Criterion) {
    let Ok(formula) = Formula::parse("(ann | bob) - cid") else { return };
    let mut group = criterion.benchmark_group("formula of three faces");
    group.sample_size(10);
    for statements in [100, 1_000, 3_000] {
        let operands = ["ann", "bob", "cid"].map(|name| operand(name, statements));
        let Some(operands) = operands.into_iter().collect::<Option<Vec<_>>>() else { return };
        group.bench_function(format!("{statements} statements each"), |bench| {
            bench.iter(|| formula.evaluate(black_box(&operands)));
        });
    }
    group.finish();
}

fn ledger(criterion: &mut Criterion) {
    let rate = ChargeRate {
        prices: TokenPrices { input_pico: 150_000, output_pico: 600_000, ..TokenPrices::default() },
        markup_bps: 500,
    };
    let usage = Usage { input_uncached: 1_500, output_text: 300, ..Usage::default() };
    criterion.bench_function("ledger/charge", |bench| {
        bench.iter(|| rate.charge_rounding_up(black_box(&usage)));
    });
    criterion.bench_function("ledger/affordable tokens", |bench| {
        bench.iter(|| {
            rate.affordable_output_tokens_rounding_down(black_box(NanoUsd(1_000_000)), 1_500, false)
        });
    });
}

criterion_group!(benches, streams, prompts, formulas, ledger);
criterion_main!(benches);
