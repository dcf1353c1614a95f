use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{rng::Rng, world::World};
use crate::{
    accounts::LedgerStore,
    domain::{
        AccountId, InstanceId,
        ledger::{AccountRow, FlushBatch, FlushReply},
    },
    storage::{
        StorageError,
        ledger::{FlushError, RecoveryReport, memory::InstanceState},
    },
};

/// When a connection on which nothing comes counts as lost.
const DRIVER_GIVES_UP: Duration = Duration::from_secs(5);

/// What a process asks of the database.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Register {
        instance: InstanceId,
        ttl_ms: i64,
    },
    Flush {
        instance: InstanceId,
        seq: i64,
        ttl_ms: i64,
        batch: Arc<FlushBatch>,
    },
    Fence {
        me: InstanceId,
    },
    /// The next transaction of a recovery.
    Recover {
        report: RecoveryReport,
        left: Vec<InstanceId>,
        last: InstanceState,
    },
    Close {
        me: InstanceId,
    },
    Rows {
        accounts: Vec<AccountId>,
    },
}

pub(super) enum Answer {
    Registered,
    Flushed(Result<FlushReply, FlushError>),
    Recovered(RecoveryReport),
    Rows(Vec<AccountRow>),
    Lost,
}

/// Where an answer goes; `None` when it is lost.
pub(super) type Reply = Option<(oneshot::Sender<Answer>, Duration)>;

pub(super) enum Event {
    Deliver { call: Call, reply: Reply, is_again: bool },
    Answer { to: oneshot::Sender<Answer>, answer: Answer },
}

/// Which of the events of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leg {
    There,
    Again,
    Failure,
    Back,
    /// A later transaction of the same call.
    Next,
}

/// Orders events, in every run of a seed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) at: Instant,
    pub(super) process: u64,
    /// Which of its calls.
    pub(super) call: u64,
    pub(super) leg: Leg,
}

/// Something on its way.
pub(super) struct Message(pub(super) Key, pub(super) Event);

/// What becomes of a call.
struct Fate {
    /// When it arrives, if it does.
    arrives: Option<Duration>,
    /// When it arrives once more.
    again: Option<Duration>,
    /// How long its answer takes, if there is one.
    answers: Option<Duration>,
    /// When its caller hears that it failed, whether or not it did.
    fails: Option<Duration>,
}

/// One process's way to the database.
pub(super) struct SimStore {
    pub(super) world: Arc<World>,
    pub(super) process: u64,
    pub(super) database: mpsc::UnboundedSender<Message>,
    /// The process is dead: nothing that it still does reaches anybody.
    pub(super) is_cut: Arc<AtomicBool>,
    calls: AtomicU64,
}

impl SimStore {
    pub(super) fn new(
        world: Arc<World>,
        process: u64,
        database: mpsc::UnboundedSender<Message>,
    ) -> Self {
        let (is_cut, calls) = (Arc::default(), AtomicU64::new(0));
        Self { world, process, database, is_cut, calls }
    }

    fn fate(&self, number: u64) -> Fate {
        let plan = &self.world.plan;
        let mut rng = Rng::part(plan.seed, 3, (self.process << 32) | number);
        let ms = Duration::from_millis;
        let (arrives, answers) = (ms(rng.below(12)), ms(rng.below(12)));
        let mut fate =
            Fate { arrives: Some(arrives), again: None, answers: Some(answers), fails: None };
        if self.world.is_calm() {
            return fate;
        }
        if self.world.is_down() {
            return Fate { arrives: None, again: None, answers: None, fails: Some(ms(5)) };
        }
        if rng.percent(plan.faults.slow) {
            let late = ms(rng.below(6_000));
            let on_the_way = rng.percent(50);
            if on_the_way { fate.arrives = Some(late) } else { fate.answers = Some(late) }
        }
        if rng.percent(plan.faults.repeated) {
            fate.again = fate.arrives.map(|arrives| arrives + ms(rng.below(15_000)));
        }
        if rng.percent(plan.faults.unanswered) {
            fate.answers = None;
            fate.fails = rng.percent(50).then(|| arrives + answers);
        }
        if rng.percent(plan.faults.lost) {
            fate = Fate { arrives: None, again: None, answers: None, fails: None };
            fate.fails = rng.percent(50).then_some(arrives);
        }
        fate
    }

    /// Sends a call. The database works on it whether or not the caller still waits.
    fn call(&self, call: Call) -> BoxFuture<'static, Answer> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.is_cut.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        let mut fate = self.fate(number);
        if !matches!(call, Call::Flush { .. }) {
            if !self.world.plan.is_shared {
                // Nothing is between a process and its file: what it asks happens now, or never.
                fate.arrives = fate.arrives.and(Some(Duration::ZERO));
                fate.again = None;
            }
            if fate.answers.is_none() {
                // Only the writer has a bound of its own for its wait; others have the driver's.
                fate.fails.get_or_insert(DRIVER_GIVES_UP);
            }
        }
        let now = Instant::now();
        let send = |after: Duration, leg: Leg, event: Event| {
            let key = Key { at: now + after, process: self.process, call: number, leg };
            // A database that is gone: the run is over.
            drop(self.database.send(Message(key, event)));
        };
        if let Some(again) = fate.again {
            send(
                again,
                Leg::Again,
                Event::Deliver { call: call.clone(), reply: None, is_again: true },
            );
        }
        let (to, answer) = oneshot::channel();
        match (fate.fails, fate.arrives, fate.answers) {
            (Some(fails), arrives, _) => {
                if let Some(arrives) = arrives {
                    send(
                        arrives,
                        Leg::There,
                        Event::Deliver { call, reply: None, is_again: false },
                    );
                }
                send(fails, Leg::Failure, Event::Answer { to, answer: Answer::Lost });
            }
            (None, Some(arrives), answers) => {
                let reply = answers.map(|span| (to, span));
                send(arrives, Leg::There, Event::Deliver { call, reply, is_again: false });
            }
            (None, None, _) => drop(to),
        }
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        })
    }
}

const fn lost() -> StorageError {
    StorageError::Unavailable { what: "simulated", source: None }
}

impl LedgerStore for SimStore {
    fn is_shared(&self) -> bool {
        self.world.plan.is_shared
    }

    fn register(
        &self,
        instance: InstanceId,
        _node: String,
        ttl_ms: i64,
    ) -> BoxFuture<'static, Result<(), StorageError>> {
        self.world.registered(instance, self.process);
        let answer = self.call(Call::Register { instance, ttl_ms });
        Box::pin(async move {
            if matches!(answer.await, Answer::Registered) { Ok(()) } else { Err(lost()) }
        })
    }

    fn flush(
        &self,
        instance: InstanceId,
        seq: i64,
        ttl_ms: i64,
        batch: Arc<FlushBatch>,
    ) -> BoxFuture<'static, Result<FlushReply, FlushError>> {
        let answer = self.call(Call::Flush { instance, seq, ttl_ms, batch });
        Box::pin(async move {
            match answer.await {
                Answer::Flushed(reply) => reply,
                _ => Err(FlushError::Retry(lost())),
            }
        })
    }

    fn recover(&self, me: InstanceId) -> BoxFuture<'static, Result<RecoveryReport, StorageError>> {
        let answer = self.call(Call::Fence { me });
        Box::pin(async move {
            if let Answer::Recovered(report) = answer.await { Ok(report) } else { Err(lost()) }
        })
    }

    fn close(&self, me: InstanceId) -> BoxFuture<'static, Result<u64, StorageError>> {
        let answer = self.call(Call::Close { me });
        Box::pin(async move {
            if let Answer::Recovered(report) = answer.await {
                Ok(report.holds)
            } else {
                Err(lost())
            }
        })
    }

    fn account_rows(
        &self,
        accounts: Vec<AccountId>,
    ) -> BoxFuture<'static, Result<Vec<AccountRow>, StorageError>> {
        let answer = self.call(Call::Rows { accounts });
        Box::pin(async move {
            if let Answer::Rows(rows) = answer.await { Ok(rows) } else { Err(lost()) }
        })
    }
}
