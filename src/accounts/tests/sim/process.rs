use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, LocalSet},
};

use super::{
    client,
    network::{Message, SimStore},
    plan::Request,
    world::World,
};
use crate::{accounts::Accounts, domain::AccountId};

/// A server process: its tasks and actors, which can be stopped for a while or killed.
pub(super) struct Process {
    pub(super) number: u64,
    inner: Rc<Inner>,
    commands: mpsc::UnboundedSender<Command>,
    is_cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Inner {
    is_paused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    accounts: RefCell<Option<Accounts>>,
    is_drained: Cell<bool>,
}

enum Command {
    Serve(Request),
    Changed(AccountId),
    Drain,
}

/// A process's tasks, which nobody polls while it is stopped.
struct Pausable {
    tasks: LocalSet,
    inner: Rc<Inner>,
}

impl Future for Pausable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.inner.waker.borrow_mut() = Some(cx.waker().clone());
        if self.inner.is_paused.get() {
            return Poll::Pending;
        }
        Pin::new(&mut self.tasks).poll(cx)
    }
}

impl Process {
    /// Starts a process: it tries until it is registered.
    pub(super) fn start(
        world: &Arc<World>,
        number: u64,
        database: mpsc::UnboundedSender<Message>,
    ) -> Self {
        let store = Arc::new(SimStore::new(Arc::clone(world), number, database));
        let is_cut = Arc::clone(&store.is_cut);
        let inner: Rc<Inner> = Rc::default();
        let (commands, inbox) = mpsc::unbounded_channel();
        let tasks = LocalSet::new();
        tasks.spawn_local(serve(Arc::clone(world), store, inbox, Rc::clone(&inner)));
        let task = tokio::task::spawn_local(Pausable { tasks, inner: Rc::clone(&inner) });
        Self { number, inner, commands, is_cut, task }
    }

    /// Why its ledger stopped, if it did.
    pub(super) fn stopped(&self) -> Option<String> {
        self.inner.accounts.borrow().as_ref().and_then(Accounts::stopped)
    }

    /// Whether it serves, even if only in its own opinion.
    pub(super) fn is_up(&self) -> bool {
        self.inner.accounts.borrow().is_some() && !self.inner.is_paused.get()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.inner.is_drained.get()
    }

    pub(super) fn serve(&self, request: Request) {
        self.command(Command::Serve(request));
    }

    pub(super) fn changed(&self, account: AccountId) {
        self.command(Command::Changed(account));
    }

    pub(super) fn drain(&self) {
        self.command(Command::Drain);
    }

    fn command(&self, command: Command) {
        // A process that is gone hears nothing.
        drop(self.commands.send(command));
    }

    /// Stops it where it is, until it is resumed.
    pub(super) fn pause(&self) {
        self.inner.is_paused.set(true);
    }

    pub(super) fn resume(&self) {
        self.inner.is_paused.set(false);
        if let Some(waker) = self.inner.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Kills it: whatever its destructors still do reaches nobody.
    pub(super) async fn kill(self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.task.abort();
        drop(self.inner.accounts.borrow_mut().take());
        drop(self.task.await);
    }
}

async fn serve(
    world: Arc<World>,
    store: Arc<SimStore>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    inner: Rc<Inner>,
) {
    let plan = &world.plan;
    let accounts = loop {
        match Accounts::start_with(store.clone(), &plan.limits, plan.policy).await {
            Ok(accounts) => break accounts,
            Err(_) => pace(Duration::from_millis(100)).await,
        }
    };
    *inner.accounts.borrow_mut() = Some(accounts.clone());
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Serve(request) => {
                let serving = client::serve(Arc::clone(&world), accounts.clone(), request);
                drop(tokio::task::spawn_local(serving));
            }
            Command::Changed(account) => accounts.changed(account),
            Command::Drain => {
                let (accounts, inner) = (accounts.clone(), Rc::clone(&inner));
                drop(tokio::task::spawn_local(drain(accounts, inner)));
            }
        }
    }
}

/// Drains as often as it needs: the answer to its close may get lost.
async fn drain(accounts: Accounts, inner: Rc<Inner>) {
    while accounts.drain().await.is_err() {
        if accounts.stopped().is_some() {
            break;
        }
        pace(Duration::from_millis(100)).await;
    }
    inner.is_drained.set(true);
}

/// Time that passes in the scenario.
pub(super) async fn pace(span: Duration) {
    tokio::time::sleep(span).await;
}
