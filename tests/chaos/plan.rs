//! What each request of a run asks for, what the provider answers, and when the client leaves: a
//! function of the seed and the request's number, so that a seed is a whole script.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    PROMPT_CANARY, REPLY_CANARY,
    models::with_markup,
    replies::{anthropic, openai},
    upstream::{Exchange, Framing, Step},
};

/// Accounts of a run; the first [`POOR`] of them run dry.
pub(crate) const ACCOUNTS: u64 = 8;
/// See [`ACCOUNTS`].
pub(crate) const POOR: u64 = 3;
/// Models, one of each format. Their prices let a hold's amount tell its `max_tokens`.
pub(crate) const MODELS: [&str; 2] = ["chaos-gpt", "chaos-claude"];
/// Price of a token of input, nano-USD: so little that all input costs less than one of output.
const INPUT_NANOUSD: i64 = 1;
/// Price of a token of output, nano-USD.
const OUTPUT_NANOUSD: i64 = 10_000;
/// The least `max_tokens`.
const TOKENS_FIRST: u64 = 100;
/// Most content deltas of a stream.
const DELTAS_MAX: u64 = 12;

/// How long a provider says nothing before it breaks off.
const STALL: Duration = Duration::from_secs(3);
/// How many of those that wait for the end have an `Idempotency-Key`.
const KEYED_PERCENT: u64 = 40;
/// Numbers of requests from here on are those of long streams, see [`Plan::long`].
const LONG_FIRST: u64 = 1 << 40;
/// Most `max_tokens`; long streams count down from here.
const TOKENS_LAST: u64 = 1_999;

/// A small generator with one word of state (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `from..to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    /// A time of so many milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }
}

/// By which route a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Chat; the model may be of the other format.
    Chat,
    /// The model's own format.
    Native,
}

/// What becomes of the provider's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It comes whole.
    Whole,
    /// It is refused with this status.
    Refused(u16),
    /// It breaks off after so many deltas (JSON: in its body).
    BreaksOff(usize),
    /// Nothing comes for a while after so many deltas (JSON: after the head); then it breaks off.
    Stalls(usize),
}

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Not before the end.
    Never,
    /// That long after it asked, if nothing has come.
    Waiting(Duration),
    /// When it has seen so many deltas.
    After(usize),
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    /// Index of the account.
    pub(crate) account: usize,
    /// Index into [`MODELS`].
    pub(crate) model: usize,
    pub(crate) route: Route,
    pub(crate) stream: bool,
    /// Unique among the requests of its account and model.
    pub(crate) max_tokens: u64,
    /// The instance that is asked directly; through nginx when `None`.
    pub(crate) slot: Option<usize>,
    pub(crate) fate: Fate,
    /// Pause before each delta.
    pub(crate) pauses: Vec<Duration>,
    /// The provider's usage.
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) leave: Leave,
    /// Leaves with a reset.
    pub(crate) resets: bool,
    /// Has an `Idempotency-Key`, and is asked again as SDKs do.
    pub(crate) is_keyed: bool,
}

impl Plan {
    /// The plan of a request.
    pub(crate) fn new(seed: u64, id: u64, slots: u64) -> Self {
        if let Some(number) = id.checked_sub(LONG_FIRST) {
            return Self::long(number, slots);
        }
        let mut random = Random::new(seed ^ id.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let model = (id / ACCOUNTS) % 2;
        let max_tokens = TOKENS_FIRST + id / (2 * ACCOUNTS);
        assert!(max_tokens < TOKENS_LAST / 2, "more requests than a run can tell apart");
        let deltas = random.between(1, DELTAS_MAX + 1);
        let stream = random.percent(75);
        let slowest = if random.percent(15) { 1_500 } else { 120 };
        let pauses = (0..deltas).map(|_| random.millis(0, slowest)).collect();
        let at = usize::try_from(random.between(0, deltas)).expect("few deltas");
        let fate = match random.between(0, 100) {
            0..80 => Fate::Whole,
            80..86 => Fate::Refused([500, 503, 529, 429, 400][at % 5]),
            86..95 => Fate::BreaksOff(at),
            _ => Fate::Stalls(at),
        };
        let leave = match random.between(0, 100) {
            0..60 => Leave::Never,
            60..75 => Leave::Waiting(random.millis(0, 250)),
            _ if stream => Leave::After(at + 1),
            _ => Leave::Waiting(random.millis(0, 120)),
        };
        Self {
            id,
            account: usize::try_from(id % ACCOUNTS).expect("few accounts"),
            model: usize::try_from(model).expect("two models"),
            route: if random.percent(50) { Route::Chat } else { Route::Native },
            stream,
            max_tokens,
            slot: random.percent(50).then(|| usize::try_from(id % slots).expect("few slots")),
            fate,
            pauses,
            input: random.between(10, 60),
            output: random.between(1, max_tokens + 1),
            leave,
            resets: random.percent(50),
            is_keyed: leave == Leave::Never
                && matches!(fate, Fate::Whole | Fate::Refused(_))
                && random.percent(KEYED_PERCENT),
        }
    }

    /// The number of the `nth` long stream at an instance.
    pub(crate) fn long_id(slot: usize, slots: u64, nth: u64) -> u64 {
        LONG_FIRST + nth * slots + u64::try_from(slot).expect("few slots")
    }

    /// A stream that asks one instance for more time than any takes to be fenced, so that there is
    /// something that a fenced instance must not show.
    fn long(number: u64, slots: u64) -> Self {
        let (nth, slot) = (number / slots, number % slots);
        let rich = ACCOUNTS - POOR;
        // Each account and model takes its turn; only then comes the next `max_tokens`.
        let turn = nth / (2 * rich);
        let max_tokens = TOKENS_LAST - turn * slots - slot;
        assert!(max_tokens > TOKENS_LAST / 2, "more long streams than a run can tell apart");
        let small = |number: u64| usize::try_from(number).expect("a small number");
        Self {
            id: LONG_FIRST + number,
            account: small(POOR + nth % rich),
            model: small(nth / rich % 2),
            route: if nth % 2 == 0 { Route::Chat } else { Route::Native },
            stream: true,
            max_tokens,
            slot: Some(small(slot)),
            fate: Fate::Whole,
            pauses: vec![Duration::from_millis(1_300); small(DELTAS_MAX)],
            input: 20,
            output: max_tokens / 2,
            leave: Leave::Never,
            resets: false,
            is_keyed: false,
        }
    }

    /// Reads the number of a request out of its prompt.
    pub(crate) fn id_in(prompt: &str) -> Option<u64> {
        let (_, rest) = prompt.split_once("request<")?;
        rest.split_once('>')?.0.parse().ok()
    }

    /// Path and body of the request.
    pub(crate) fn request(&self) -> (&'static str, Value) {
        let prompt = format!("request<{}> {PROMPT_CANARY}", self.id);
        let mut body = json!({"model": MODELS[self.model], "max_tokens": self.max_tokens,
            "stream": self.stream, "messages": [{"role": "user", "content": prompt}]});
        let path = match (self.route, self.model) {
            (Route::Chat, _) => "/v1/chat/completions",
            (Route::Native, 0) => "/v1/openai/chat/completions",
            (Route::Native, _) => "/v1/anthropic/v1/messages",
        };
        if self.stream && path.ends_with("completions") {
            body["stream_options"] = json!({"include_usage": true});
        }
        (path, body)
    }

    /// The text of each delta: it names the request and itself.
    fn pieces(&self) -> Vec<String> {
        (0..self.pauses.len()).map(|n| format!("<{}:{n}>", self.id)).collect()
    }

    /// How many deltas of the answer stand in `text`, from the first on.
    ///
    /// # Panics
    /// When one is missing before one that is there.
    pub(crate) fn deltas_in(&self, text: &str) -> usize {
        let there: Vec<bool> = self.pieces().iter().map(|piece| text.contains(piece)).collect();
        let count = there.iter().filter(|there| **there).count();
        assert!(there.iter().take(count).all(|there| *there), "request {}: a gap: {text}", self.id);
        count
    }

    /// Output tokens that the server counts in so many deltas.
    pub(crate) fn counted(&self, deltas: usize) -> u64 {
        let bytes: usize = self.pieces().iter().take(deltas).map(String::len).sum();
        let tokens = bytes.div_ceil(4).max(deltas);
        u64::try_from(tokens).expect("few tokens")
    }

    /// When a delta is written, counted from the arrival of the request at the provider; the least.
    pub(crate) fn written_after(&self, delta: usize) -> Duration {
        self.pauses.iter().take(delta + 1).sum()
    }

    /// What the provider answers.
    pub(crate) fn exchange(&self) -> Exchange {
        let pieces = self.pieces();
        if let Fate::Refused(status) = self.fate {
            let body = match self.model {
                0 => openai::error("server_error", REPLY_CANARY, None),
                _ => anthropic::error("api_error", REPLY_CANARY),
            };
            return Exchange::json(status, &body).may_be_left();
        }
        let exchange =
            if self.stream { self.stream_exchange(&pieces) } else { self.json_exchange(&pieces) };
        exchange.may_be_left()
    }

    fn json_exchange(&self, pieces: &[String]) -> Exchange {
        let text = pieces.concat();
        let body = match self.model {
            0 => openai::completion(&text, self.input, self.output),
            _ => anthropic::completion(&text, self.input, self.output),
        };
        let body = body.to_string().into_bytes();
        let (first, rest) = body.split_at(body.len() / 2);
        let whole = self.fate == Fate::Whole;
        let framing = Framing::Length { missing: if whole { 0 } else { rest.len() } };
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let exchange = Exchange::new(vec![
            Step::Pause(self.pauses.iter().sum()),
            Step::Head { status: 200, headers, framing },
            Step::Write(first.to_vec()),
        ]);
        match self.fate {
            Fate::Whole => exchange.then_write(rest),
            Fate::Stalls(_) => exchange.then(Step::Pause(STALL)),
            Fate::BreaksOff(_) | Fate::Refused(_) => exchange,
        }
    }

    fn stream_exchange(&self, pieces: &[String]) -> Exchange {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let records = match self.model {
            0 => openai::stream(&pieces, self.input, self.output),
            _ => anthropic::stream(&pieces, self.input, self.output),
        };
        // Before the first delta, and after the last one.
        let before = if self.model == 0 { 1 } else { 3 };
        let mut exchange = Exchange::sse(records[..before].iter().cloned());
        for (n, record) in records[before..].iter().enumerate() {
            if let Some(pause) = self.pauses.get(n) {
                exchange = exchange.then(Step::Pause(*pause));
            }
            match self.fate {
                Fate::BreaksOff(at) if at == n => {
                    return exchange.then(if self.resets { Step::Reset } else { Step::Fin });
                }
                Fate::Stalls(at) if at == n => {
                    return exchange.then(Step::Pause(STALL)).then(Step::Fin);
                }
                _ => exchange = exchange.then_write(record.clone()),
            }
        }
        exchange
    }

    /// What the whole answer costs.
    pub(crate) fn cost(&self) -> i64 {
        price(self.input, self.output)
    }
}

/// What so many tokens cost with markup, nano-USD.
pub(crate) fn price(input: u64, output: u64) -> i64 {
    let tokens = |count: u64| i64::try_from(count).expect("few tokens");
    with_markup(tokens(input) * INPUT_NANOUSD + tokens(output) * OUTPUT_NANOUSD)
}

/// The `max_tokens` of the request whose hold has this amount: input is cheaper than a token.
pub(crate) fn max_tokens_of(hold_amount: i64) -> u64 {
    u64::try_from(hold_amount / price(0, 1)).expect("no negative hold")
}

/// The models, for the catalog.
pub(crate) fn models_toml() -> String {
    let model = |id: &str, provider: &str| {
        format!(
            "[model.\"{id}\"]\nprovider = \"{provider}\"\nupstream_id = \"{id}-upstream\"\n\
             display_name = \"{id}\"\ncontext_tokens_max = 100_000\noutput_tokens_max = 4_096\n\
             input_usd_per_mtok = \"0.001\"\noutput_usd_per_mtok = \"10.00\"\n\n"
        )
    };
    model(MODELS[0], "scripted-openai") + &model(MODELS[1], "scripted-anthropic")
}
