use std::{collections::VecDeque, hash::Hash};

use uuid::Uuid;

use crate::{
    accounts::{
        core::{AccountCore, Reserved},
        lease::{DurableChange, Policy, Violation},
    },
    domain::{
        AccountId, HoldId, InstanceId, NanoUsd, PriceId, Usage, UsageBasis,
        ledger::{
            Checkpoint, Finish, FlushBatch, FlushReply, HoldOpen, HoldResolve, HoldState, LeaseOp,
            Leg, OpenVerdict,
        },
    },
    storage::ledger::{
        FlushError,
        memory::{FlushHead, InstanceState, MemoryLedger, Rule, Scope},
    },
};

const ACCOUNT: AccountId = AccountId(Uuid::from_u128(1));
const FUNDS: i64 = 4;
const TOP_UP: i64 = 1;
/// What the requests reserve.
const AMOUNTS: [i64; 3] = [2, 1, 2];
/// Messages on their way at once, those that arrive twice included.
const WIRE_MAX: usize = 3;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    Books(Rule),
    ChargeAboveHold,
    ContentBeforeHold,
    EndBeforeSettlement,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Op {
    Open { request: usize, legs: Vec<Leg> },
    Checkpoint { request: usize, cost: i64 },
    End { request: usize, charge: i64, give_back: i64 },
    Return { amount: i64 },
}

/// A flush on its way to the database. It may arrive twice, and after its sender has died.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Flush {
    side: usize,
    seq: i64,
    ops: Vec<Op>,
    has_arrived: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Progress {
    Waiting,
    /// Its instance asked the row.
    Asked,
    /// Granted; whether its instance knows that this is written.
    Held {
        is_durable: bool,
    },
    Ending {
        charge: i64,
    },
    Over,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Side {
    core: AccountCore,
    retains: bool,
    is_alive: bool,
    queue: VecDeque<Op>,
    in_flight: Option<(i64, Vec<Op>)>,
    /// Which opens were granted, and what the flush did.
    reply: Option<(Vec<bool>, DurableChange)>,
    seq: i64,
    may_send_again: bool,
}

/// Everything: the books, both instances, and what is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    books: MemoryLedger,
    sides: [Side; 2],
    requests: [(usize, Progress); 3],
    wire: Vec<Flush>,
    may_crash: bool,
    may_top_up: bool,
}

/// Something that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ask { request: usize, side: usize },
    Send(usize),
    SendAgain(usize),
    Arrive { at: usize, stays: bool, is_answered: bool },
    Hear(usize),
    Show(usize),
    Note(usize),
    End { request: usize, charge: i64 },
    GiveBack(usize),
    Crash(usize),
    Fence(usize),
    Recover(usize),
    TopUp,
}

const fn hold_id(request: usize) -> HoldId {
    HoldId(Uuid::from_u128(100 + request as u128))
}

const fn instance(side: usize) -> InstanceId {
    InstanceId(Uuid::from_u128(10 + side as u128))
}

fn broken(violation: Violation) -> String {
    violation.to_string()
}

impl State {
    /// Two instances that keep what they get, or not.
    pub(super) fn new(retains: [bool; 2], mutant: Option<Mutant>) -> Self {
        let rule = match mutant {
            Some(Mutant::Books(rule)) => Some(rule),
            Some(_) | None => None,
        };
        let mut books = MemoryLedger::without(rule);
        books.create_wallet(ACCOUNT);
        books.top_up(ACCOUNT, FUNDS);
        let side = |side: usize| Side {
            core: AccountCore::new(ACCOUNT),
            retains: retains[side],
            is_alive: true,
            queue: VecDeque::new(),
            in_flight: None,
            reply: None,
            seq: 0,
            may_send_again: true,
        };
        (0..2).for_each(|side| books.register(instance(side), 0));
        let requests = [(0, Progress::Waiting); 3];
        let sides = [side(0), side(1)];
        Self { books, sides, requests, wire: Vec::new(), may_crash: true, may_top_up: true }
    }

    /// Everything that can happen now.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (request, (side, progress)) in self.requests.iter().enumerate() {
            let is_alive = self.sides[*side].is_alive;
            match progress {
                Progress::Waiting => {
                    let alive = (0..2).filter(|side| self.sides[*side].is_alive);
                    steps.extend(alive.map(|side| Step::Ask { request, side }));
                }
                Progress::Held { .. } if is_alive => {
                    steps.push(Step::Show(request));
                    steps.push(Step::Note(request));
                    steps.extend([0, AMOUNTS[request]].map(|charge| Step::End { request, charge }));
                }
                Progress::Asked
                | Progress::Held { .. }
                | Progress::Ending { .. }
                | Progress::Over => {}
            }
        }
        for (at, side) in self.sides.iter().enumerate() {
            let state = self.books.instances.get(&instance(at)).map(|row| row.state);
            if state == Some(InstanceState::Live) {
                steps.push(Step::Fence(at));
            }
            steps.push(Step::Recover(at));
            if !side.is_alive {
                continue;
            }
            if self.may_crash {
                steps.push(Step::Crash(at));
            }
            if side.reply.is_some() {
                steps.push(Step::Hear(at));
            } else if side.in_flight.is_some() {
                let may_send = side.may_send_again && self.wire.len() < WIRE_MAX;
                steps.extend(may_send.then_some(Step::SendAgain(at)));
            } else if !side.queue.is_empty() && self.wire.len() < WIRE_MAX {
                steps.push(Step::Send(at));
            }
            steps.push(Step::GiveBack(at));
        }
        for (at, flush) in self.wire.iter().enumerate() {
            for is_answered in [true, false] {
                steps.push(Step::Arrive { at, stays: false, is_answered });
            }
            if !flush.has_arrived {
                steps.push(Step::Arrive { at, stays: true, is_answered: true });
            }
        }
        steps.extend(self.may_top_up.then_some(Step::TopUp));
        steps
    }

    /// What it leads to.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(super) fn after(&self, step: Step, mutant: Option<Mutant>) -> Result<Self, String> {
        let mut next = self.clone();
        next.take(step, mutant)?;
        next.books.check()?;
        Ok(next)
    }

    fn take(&mut self, step: Step, mutant: Option<Mutant>) -> Result<(), String> {
        match step {
            Step::Ask { request, side } => self.ask(request, side)?,
            Step::Send(side) => self.send(side),
            Step::SendAgain(at) => {
                let side = &mut self.sides[at];
                side.may_send_again = false;
                let (seq, ops) = side.in_flight.clone().unwrap();
                self.wire.push(Flush { side: at, seq, ops, has_arrived: false });
            }
            Step::Arrive { at, stays, is_answered } => self.arrive(at, stays, is_answered)?,
            Step::Hear(side) => self.hear(side)?,
            Step::Show(request) => {
                let (_, progress) = self.requests[request];
                let is_open = mutant == Some(Mutant::ContentBeforeHold);
                let may_show = progress == (Progress::Held { is_durable: true }) || is_open;
                if may_show && !self.books.holds.contains_key(&hold_id(request)) {
                    return Err(format!("I3: content of request {request}"));
                }
            }
            Step::Note(request) => {
                let (side, progress) = self.requests[request];
                let point = Op::Checkpoint { request, cost: AMOUNTS[request] };
                let queue = &mut self.sides[side].queue;
                if progress == (Progress::Held { is_durable: true }) && !queue.contains(&point) {
                    queue.push_back(point);
                }
            }
            Step::End { request, charge } => self.end(request, charge, mutant)?,
            Step::GiveBack(at) => {
                let side = &mut self.sides[at];
                for (_, NanoUsd(amount)) in side.core.give_back(0) {
                    side.queue.push_back(Op::Return { amount });
                }
            }
            Step::Crash(side) => {
                self.may_crash = false;
                self.stop(side);
            }
            Step::Fence(side) => self.books.fence_one(instance(side)),
            Step::Recover(side) => {
                // Without its fence it may be recovered at any time.
                let dead = self.books.fence(instance(1 - side), Scope::Expired(i64::MIN));
                let is_dead = dead.contains(&instance(side));
                if is_dead || mutant == Some(Mutant::Books(Rule::RecoveryFences)) {
                    let (id, last) = (instance(side), InstanceState::Recovered);
                    self.books.recover_chunk(id, last, 1).map_err(|error| error.to_string())?;
                }
            }
            Step::TopUp => {
                self.may_top_up = false;
                self.books.top_up(ACCOUNT, TOP_UP);
            }
        }
        Ok(())
    }

    fn ask(&mut self, request: usize, at: usize) -> Result<(), String> {
        let side = &mut self.sides[at];
        let policy = if side.retains {
            Policy { retains: true, want: 2, is_shared: true, believed_from_ms: 0 }
        } else {
            Policy::exact(true, 0)
        };
        let open = open_of(request, Vec::new());
        let (legs, progress) = match side.core.reserve(&open, &policy).map_err(broken)? {
            Reserved::Here { .. } => (Vec::new(), Progress::Held { is_durable: false }),
            Reserved::Ask { legs } => (legs, Progress::Asked),
            Reserved::Later => return Ok(()),
        };
        side.queue.push_back(Op::Open { request, legs });
        self.requests[request] = (at, progress);
        Ok(())
    }

    fn end(&mut self, request: usize, charge: i64, mutant: Option<Mutant>) -> Result<(), String> {
        let (at, _) = self.requests[request];
        let is_raised = mutant == Some(Mutant::ChargeAboveHold);
        let charge = charge + i64::from(is_raised);
        let side = &mut self.sides[at];
        let end = end_of(request, charge);
        let give_back = side.core.end(&end, side.retains).map_err(broken)?.0;
        side.queue.push_back(Op::End { request, charge, give_back });
        self.requests[request].1 = Progress::Ending { charge };
        if mutant == Some(Mutant::EndBeforeSettlement) {
            self.see_end(request, charge)?;
        }
        Ok(())
    }

    /// Takes what waits, up to the end or the checkpoint of a hold that the same flush opens.
    fn send(&mut self, at: usize) {
        let side = &mut self.sides[at];
        let mut ops: Vec<Op> = Vec::new();
        while let Some(op) = side.queue.front() {
            let of = |op: &Op| match op {
                Op::Open { request, .. }
                | Op::Checkpoint { request, .. }
                | Op::End { request, .. } => Some(*request),
                Op::Return { .. } => None,
            };
            if ops.iter().any(|before| of(before).is_some() && of(before) == of(op)) {
                break;
            }
            ops.extend(side.queue.pop_front());
        }
        side.seq += 1;
        side.may_send_again = true;
        side.in_flight = Some((side.seq, ops.clone()));
        self.wire.push(Flush { side: at, seq: side.seq, ops, has_arrived: false });
    }

    fn arrive(&mut self, at: usize, stays: bool, is_answered: bool) -> Result<(), String> {
        let flush = self.wire[at].clone();
        if stays {
            self.wire[at].has_arrived = true;
        } else {
            self.wire.remove(at);
        }
        let batch = batch_of(&flush.ops);
        let head = FlushHead { instance: instance(flush.side), seq: flush.seq, now: 0, ttl: 0 };
        let side = &mut self.sides[flush.side];
        let is_awaited = side.is_alive
            && is_answered
            && side.reply.is_none()
            && side.in_flight.as_ref().is_some_and(|(seq, _)| *seq == flush.seq);
        match self.books.flush(head, &batch) {
            Ok(reply) if is_awaited => {
                let change = change_of(&batch, &reply);
                let is_granted =
                    |verdict: &OpenVerdict| matches!(verdict, OpenVerdict::Granted { .. });
                side.reply = Some((reply.opens.iter().map(is_granted).collect(), change));
            }
            Ok(_) => {}
            Err(FlushError::Fenced) if is_awaited => self.stop(flush.side),
            Err(FlushError::Fenced) => {}
            Err(FlushError::OutOfSequence { .. }) if !is_awaited => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn hear(&mut self, at: usize) -> Result<(), String> {
        let side = &mut self.sides[at];
        let ((_, ops), (verdicts, change)) =
            (side.in_flight.take().unwrap(), side.reply.take().unwrap());
        side.core.durable(ACCOUNT, &change, 0).map_err(broken)?;
        let mut verdicts = verdicts.into_iter();
        for op in ops {
            match op {
                Op::Open { request, .. } => {
                    let is_granted = verdicts.next() == Some(true);
                    let progress = &mut self.requests[request].1;
                    *progress = match *progress {
                        Progress::Asked if !is_granted => Progress::Over,
                        Progress::Asked | Progress::Held { .. } => {
                            Progress::Held { is_durable: true }
                        }
                        ended => ended,
                    };
                }
                Op::End { request, charge, .. } => {
                    self.see_end(request, charge)?;
                    self.requests[request].1 = Progress::Over;
                }
                Op::Checkpoint { .. } | Op::Return { .. } => {}
            }
        }
        Ok(())
    }

    /// Gate 2: the client sees the end, so it is written with exactly this cost.
    fn see_end(&self, request: usize, charge: i64) -> Result<(), String> {
        let hold = self.books.holds.get(&hold_id(request));
        let is_written =
            hold.is_some_and(|hold| hold.state == HoldState::Settled && hold.cost == Some(charge));
        if is_written { Ok(()) } else { Err(format!("I3: the end of request {request}: {hold:?}")) }
    }

    fn stop(&mut self, at: usize) {
        let side = &mut self.sides[at];
        side.is_alive = false;
        side.queue.clear();
        (side.in_flight, side.reply) = (None, None);
    }
}

fn open_of(request: usize, legs: Vec<Leg>) -> HoldOpen {
    HoldOpen {
        hold_id: hold_id(request),
        account_id: ACCOUNT,
        cap_id: None,
        idem: None,
        key_id: None,
        face_id: None,
        amount: NanoUsd(AMOUNTS[request]),
        funds_min: NanoUsd(AMOUNTS[request]),
        price_id: PriceId(1),
        model: String::new(),
        legs,
    }
}

fn end_of(request: usize, charge: i64) -> HoldResolve {
    HoldResolve {
        hold_id: hold_id(request),
        account_id: ACCOUNT,
        cap_id: None,
        amount: NanoUsd(AMOUNTS[request]),
        charge: NanoUsd(charge),
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: Usage::default(),
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempts: Vec::new(),
        idem: None,
    }
}

fn batch_of(ops: &[Op]) -> FlushBatch {
    let mut batch = FlushBatch::default();
    let mut given_back = None;
    for op in ops {
        match op {
            Op::Open { request, legs } => batch.opens.push(open_of(*request, legs.clone())),
            Op::Checkpoint { request, cost } => batch.checkpoints.push(Checkpoint {
                hold_id: hold_id(*request),
                cost: NanoUsd(*cost),
                usage: Usage::default(),
                basis: UsageBasis::Partial,
            }),
            Op::End { request, charge, give_back } => {
                batch.resolves.push(end_of(*request, *charge));
                *given_back.get_or_insert(0) += give_back;
            }
            Op::Return { amount } => *given_back.get_or_insert(0) += amount,
        }
    }
    let lease = |amount| LeaseOp { account_id: ACCOUNT, give_back: NanoUsd(amount), fold: true };
    batch.leases = given_back.map(lease).into_iter().collect();
    batch
}

/// What the flush did to the account, as the writer tells it.
fn change_of(batch: &FlushBatch, reply: &FlushReply) -> DurableChange {
    let mut change = DurableChange {
        row: reply.accounts.first().copied(),
        lease: reply.leases.first().copied(),
        ..DurableChange::default()
    };
    for (open, verdict) in batch.opens.iter().zip(&reply.opens) {
        let granted = match verdict {
            OpenVerdict::Granted { amount, .. } => amount.0,
            _ => 0,
        };
        change.denied += u64::from(!matches!(verdict, OpenVerdict::Granted { .. }));
        for leg in &open.legs {
            change.answered += 1;
            change.is_acquired |= leg.want.0 > 0;
            change.aside.0 += leg.aside.0;
            change.granted.0 += granted;
        }
    }
    for end in &batch.resolves {
        change.ended += 1;
        change.charged.0 += end.charge.0;
    }
    change.given_back.0 = batch.leases.iter().map(|lease| lease.give_back.0).sum();
    change
}
