//! Clients: each plays plan after plan, and writes down what it saw.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    plan::{Leave, Plan},
    stage::{Stage, slots},
    support::{
        http::{Answer, End, Request},
        lock,
    },
};

/// Clients at the same time.
pub(crate) const CLIENTS: usize = 16;

/// How often a request with a key is asked at most.
const ATTEMPTS_MAX: usize = 5;
/// Pause before the first repetition; longer before each further one.
const BACKOFF: Duration = Duration::from_millis(200);

/// What one client saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) plan: Plan,
    pub(crate) began: Instant,
    /// `None` when the connection ended before a head.
    pub(crate) status: Option<u16>,
    /// The id that the instance (or, for its own errors, nginx) gave.
    pub(crate) request_id: Option<String>,
    /// As much of the body as came.
    pub(crate) text: String,
    /// How the body ended; `None` when the client left first.
    pub(crate) end: Option<End>,
    /// The client hung up by itself.
    pub(crate) has_left: bool,
    /// The cost that it was told, nano-USD.
    pub(crate) told: Option<i64>,
    /// Whether the answer says that asking again is of no use.
    pub(crate) is_final: bool,
    /// What the attempts before saw, when it has a key.
    pub(crate) earlier: Vec<Seen>,
}

impl Seen {
    /// All attempts, in order.
    pub(crate) fn attempts(&self) -> Vec<&Seen> {
        self.earlier.iter().chain([self]).collect()
    }

    /// Whether an SDK would ask again.
    fn is_worth_a_repetition(&self) -> bool {
        match self.status {
            None => true,
            Some(200) => !self.is_complete(),
            Some(status) => !self.is_final && (status >= 500 || [409, 429].contains(&status)),
        }
    }

    /// Content deltas that arrived, of an answer that was not an error.
    pub(crate) fn deltas(&self) -> usize {
        self.plan.deltas_in(&self.text)
    }

    /// Whether the end of the answer was seen: the terminal event, or a whole JSON body.
    pub(crate) fn is_complete(&self) -> bool {
        if self.status != Some(200) {
            return false;
        }
        if !self.plan.stream {
            return self.end == Some(End::Clean);
        }
        self.text.contains("data: [DONE]\n\n")
            || self.text.contains("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
    }

    /// The code of an error answer.
    pub(crate) fn error_code(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.text).ok()?;
        let error = body.get("error")?;
        // Anthropic's form has the code among the details.
        let words = [error.get("code"), error.pointer("/details/error_code"), error.get("type")];
        words.into_iter().flatten().find_map(Value::as_str).map(str::to_owned)
    }
}

/// What all clients share.
pub(crate) struct Crowd<'a> {
    stage: &'a Stage,
    next_id: AtomicU64,
    stop: AtomicBool,
    hang_ups: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(stage: &'a Stage) -> Self {
        let (next_id, hang_ups) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { stage, next_id, stop: AtomicBool::new(false), hang_ups, seen: Mutex::default() }
    }

    /// How often a client hung up on an answer.
    pub(crate) fn hang_ups(&self) -> u64 {
        self.hang_ups.load(Ordering::Acquire)
    }

    /// Lets each client finish what it has.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Everything that was seen, by the requests' numbers.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut seen = std::mem::take(&mut *lock(&self.seen));
        seen.sort_by_key(|seen| seen.plan.id);
        seen
    }

    /// One client's life.
    pub(crate) fn live(&self) {
        while !self.is_stopped() {
            let id = self.next_id.fetch_add(1, Ordering::AcqRel);
            let plan = Plan::new(self.stage.seed, id, slots());
            let seen = self.play(plan);
            if seen.has_left {
                self.hang_ups.fetch_add(1, Ordering::AcqRel);
            }
            if seen.status.is_none_or(|status| status >= 402) {
                // As any client that was refused: not at once again.
                std::thread::park_timeout(Duration::from_millis(50));
            }
            lock(&self.seen).push(seen);
        }
    }

    /// A further client with one request.
    pub(crate) fn visit(&self, id: u64) {
        let seen = self.play(Plan::new(self.stage.seed, id, slots()));
        lock(&self.seen).push(seen);
    }

    /// Asks again with the keys of answers that came whole; says what is another answer.
    pub(crate) fn ask_again(&self, all_seen: &[Seen]) -> Vec<String> {
        let whole = all_seen.iter().filter(|seen| seen.plan.is_keyed && seen.is_complete());
        let asked_again = whole.filter_map(|seen| {
            let again = self.attempt(seen.plan.clone(), self.stage.nginx.address());
            let is_same = if seen.plan.stream {
                again.status == Some(409) && again.is_final
            } else {
                again.status == Some(200) && again.text == seen.text
            };
            let is_same = is_same && again.told.is_none_or(|told| told == seen.plan.cost());
            let id = seen.plan.id;
            (!is_same).then(|| format!("request {id}: asked again, another answer: {again:?}"))
        });
        asked_again.collect()
    }

    fn address(&self, plan: &Plan) -> SocketAddr {
        match plan.slot {
            Some(slot) => self.stage.slots[slot].front.address(),
            None => self.stage.nginx.address(),
        }
    }

    fn play(&self, plan: Plan) -> Seen {
        let mut seen = self.attempt(plan.clone(), self.address(&plan));
        let mut earlier = Vec::new();
        while plan.is_keyed && seen.is_worth_a_repetition() && earlier.len() + 1 < ATTEMPTS_MAX {
            let nth = u32::try_from(earlier.len() + 1).expect("few attempts");
            std::thread::park_timeout(BACKOFF * nth);
            // Where it goes is not the client's choice any more.
            earlier.push(seen);
            seen = self.attempt(plan.clone(), self.stage.nginx.address());
        }
        Seen { earlier, ..seen }
    }

    fn attempt(&self, plan: Plan, address: SocketAddr) -> Seen {
        let key = &self.stage.accounts[plan.account].key;
        let (path, body) = plan.request();
        let began = Instant::now();
        let mut request = Request::post(path, &body).bearer(key);
        if plan.is_keyed {
            request = request.header("idempotency-key", &format!("chaos-{}", plan.id));
        }
        let sent = request.try_send(address);
        let mut seen = Seen {
            began,
            status: None,
            request_id: None,
            text: String::new(),
            end: None,
            has_left: false,
            told: None,
            is_final: false,
            earlier: Vec::new(),
            plan,
        };
        let Ok(sent) = sent else { return seen };
        if let Leave::Waiting(time) = seen.plan.leave
            && !sent.has_answer_within(time.max(Duration::from_millis(1)))
        {
            seen.has_left = true;
            if seen.plan.resets {
                sent.close_rst()
            } else {
                sent.close_fin()
            }
            return seen;
        }
        if let Some(answer) = sent.try_answer() {
            read(answer, &mut seen);
        }
        seen
    }
}

fn read(mut answer: Answer, seen: &mut Seen) {
    seen.status = Some(answer.status);
    seen.request_id = answer.header("x-request-id").map(str::to_owned);
    seen.told = answer.header("x-faces-cost-usd").map(nanousd);
    seen.is_final = answer.header("x-should-retry") == Some("false");
    let mut body = Vec::new();
    loop {
        // A body of ASCII alone has no character that a read could split.
        seen.text = String::from_utf8_lossy(&body).into_owned();
        if let Leave::After(deltas) = seen.plan.leave
            && seen.deltas() >= deltas
        {
            seen.has_left = true;
            break;
        }
        match answer.next_bytes() {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => break,
        }
    }
    if let Some((_, rest)) = seen.text.split_once("\"cost_usd\":") {
        let number = rest.split([',', '}']).next().unwrap_or_default();
        seen.told = Some(nanousd(number));
    }
    if !seen.has_left {
        seen.end = answer.end();
    } else if seen.plan.resets {
        answer.close_rst();
    } else {
        answer.close_fin();
    }
}

/// An exact decimal number of USD as nano-USD.
fn nanousd(usd: &str) -> i64 {
    let (decimal, exponent) = usd.split_once('e').unwrap_or((usd, "0"));
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let number =
        |text: &str| -> i64 { text.parse().unwrap_or_else(|_| panic!("not a number: {usd:?}")) };
    let digits = number(&format!("{whole}{part}"));
    let zeros = 9 + number(exponent) - i64::try_from(part.len()).expect("few digits");
    let zeros = u32::try_from(zeros).unwrap_or_else(|_| panic!("{usd:?} is not of nano-USD"));
    digits * 10_i64.pow(zeros)
}
