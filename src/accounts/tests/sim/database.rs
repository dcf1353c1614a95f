use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{
    network::{Answer, Call, Event, Key, Leg, Message, Reply},
    rng::Rng,
    world::{World, digest},
};
use crate::{
    domain::InstanceId,
    storage::ledger::{
        FlushError, RecoveryReport,
        memory::{FlushHead, InstanceState, RecoveryStep, Scope},
    },
};

/// Open holds that one transaction of a simulated recovery resolves.
const HOLDS_PER_CHUNK: usize = 2;

/// The database and the network before it: what arrives is applied, one at a time.
pub(super) struct Database {
    world: Arc<World>,
    events: BTreeMap<Key, Event>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Processes that died.
    dead: mpsc::UnboundedReceiver<u64>,
    rng: Rng,
}

impl Database {
    pub(super) fn new(
        world: Arc<World>,
        inbox: mpsc::UnboundedReceiver<Message>,
        dead: mpsc::UnboundedReceiver<u64>,
    ) -> Self {
        let rng = Rng::part(world.plan.seed, 4, 0);
        Self { world, events: BTreeMap::new(), inbox, dead, rng }
    }

    /// Works until the run is over.
    pub(super) async fn run(mut self) {
        loop {
            let due = self.events.keys().next().map(|key| key.at);
            tokio::select! {
                biased;
                Some(process) = self.dead.recv() => self.forget(process),
                message = self.inbox.recv() => {
                    let Some(Message(key, event)) = message else { return };
                    self.events.insert(key, event);
                }
                () = wait_until(due) => self.work(),
            }
        }
    }

    /// What a dead process had still to do is not done. An embedded database dies with it, and so
    /// does what was on its way.
    fn forget(&mut self, process: u64) {
        while let Ok(Message(key, event)) = self.inbox.try_recv() {
            self.events.insert(key, event);
        }
        let is_shared = self.world.plan.is_shared;
        self.events.retain(|key, _| key.process != process || (is_shared && key.leg != Leg::Next));
    }

    fn work(&mut self) {
        let Some((key, event)) = self.events.pop_first() else { return };
        match event {
            Event::Answer { to, answer } => drop(to.send(answer)),
            Event::Deliver { call, reply, is_again: false } => self.apply(key, call, reply),
            Event::Deliver { call, is_again: true, .. } => self.repeat(key, call),
        }
    }

    fn apply(&mut self, key: Key, call: Call, reply: Reply) {
        let now = self.world.database_micros();
        let micros = |ms: i64| ms * 1_000;
        match call {
            Call::Register { instance, ttl_ms } => {
                let expires_at = now + micros(ttl_ms);
                self.world.commit("register", |ledger| ledger.register(instance, expires_at));
                self.answer(key, reply, Answer::Registered);
            }
            Call::Flush { instance, seq, ttl_ms, batch } => {
                let head = FlushHead { instance, seq, now, ttl: micros(ttl_ms) };
                let done = self.world.commit("flush", |ledger| ledger.flush(head, &batch));
                let Some(done) = done else { return };
                self.world.tell(&(&*batch, &done));
                self.note(head, digest(&batch), done.as_ref().err());
                self.answer(key, reply, Answer::Flushed(done));
            }
            Call::Fence { me } => {
                let is_shared = self.world.plan.is_shared;
                let scope = if is_shared { Scope::Expired(now) } else { Scope::AllOthers };
                let left = self.world.commit("fence", |ledger| ledger.fence(me, scope));
                let report = RecoveryReport::default();
                let left = left.unwrap_or_default();
                self.recover(key, reply, report, left, InstanceState::Recovered);
            }
            Call::Recover { report, left, last } => self.recover(key, reply, report, left, last),
            Call::Close { me } => {
                self.world.commit("close", |ledger| ledger.fence_one(me));
                let report = RecoveryReport::default();
                self.next(
                    key,
                    reply,
                    Call::Recover { report, left: vec![me], last: InstanceState::Closed },
                );
            }
            Call::Rows { accounts } => {
                let rows = self.world.read(|ledger| {
                    accounts.into_iter().filter_map(|id| ledger.account_row(id)).collect()
                });
                self.answer(key, reply, Answer::Rows(rows));
            }
        }
    }

    /// One transaction of a recovery; the next one comes a little later.
    fn recover(
        &mut self,
        key: Key,
        reply: Reply,
        mut report: RecoveryReport,
        mut left: Vec<InstanceId>,
        last: InstanceState,
    ) {
        let Some(&instance) = left.first() else {
            self.answer(key, reply, Answer::Recovered(report));
            return;
        };
        let chunk = |ledger: &mut crate::storage::ledger::memory::MemoryLedger| {
            ledger.recover_chunk(instance, last, HOLDS_PER_CHUNK)
        };
        match self.world.commit("recovery", chunk) {
            Some(Ok(RecoveryStep::Holds(holds))) => {
                self.world.trace(("recovered", self.world.process(instance), holds));
                self.world.count(|counts| counts.recovered += holds);
                report.holds += holds;
            }
            Some(Ok(RecoveryStep::Finished)) => {
                left.remove(0);
                report.instances += 1;
            }
            Some(Err(error)) => self.world.fail(format!("recovery: {error}")),
            None => return,
        }
        self.next(key, reply, Call::Recover { report, left, last });
    }

    /// The same flush arrives once more: nothing changes.
    fn repeat(&mut self, key: Key, call: Call) {
        if matches!(call, Call::Register { .. }) {
            // A second row with the same key is refused.
            return;
        }
        self.world.count(|counts| counts.repeated += 1);
        let is_flush = matches!(call, Call::Flush { .. });
        let before = self.world.read(Clone::clone);
        self.apply(key, call, None);
        let is_same = self.world.read(|ledger| *ledger == before);
        if is_flush && !is_same && self.world.plan.without.is_none() {
            self.world.fail("a repeated flush changed the books".to_owned());
        }
    }

    fn note(&self, head: FlushHead, digest: u64, error: Option<&FlushError>) {
        let process = self.world.process(head.instance);
        self.world.trace(("flush", process, head.seq, digest, error.is_some()));
        match error {
            None => {}
            Some(FlushError::Fenced | FlushError::OutOfSequence { .. }) => {
                self.world.count(|counts| counts.refused += 1);
            }
            Some(error) => {
                self.world.fail(format!("flush {} of process {process:?}: {error}", head.seq));
            }
        }
    }

    fn answer(&mut self, key: Key, reply: Reply, answer: Answer) {
        if let Some((to, span)) = reply {
            let key = Key { at: Instant::now() + span, leg: Leg::Back, ..key };
            self.events.insert(key, Event::Answer { to, answer });
        }
    }

    fn next(&mut self, key: Key, reply: Reply, call: Call) {
        let span = Duration::from_millis(self.rng.below(40));
        let key = Key { at: Instant::now() + span, leg: Leg::Next, ..key };
        self.events.insert(key, Event::Deliver { call, reply, is_again: false });
    }
}

/// Until then; for ever when there is nothing to wait for.
async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
