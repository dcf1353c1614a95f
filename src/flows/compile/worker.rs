//! The loop that claims jobs and works on some of them at a time.

use std::{future::Future, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use crate::{flows::Flows, storage::compile as storage_compile};

/// The compiler of one server. It runs on the thread that it was made on.
#[derive(Debug)]
pub struct Compiler {
    flows: Flows,
    stop: watch::Sender<bool>,
}

impl Compiler {
    /// A compiler that has not begun.
    #[must_use]
    pub fn new(flows: Flows) -> Self {
        let (stop, _) = watch::channel(false);
        Self { flows, stop }
    }

    /// Asks it to end: no job is claimed and no piece begun any more.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Claims jobs and works on at most `compile_jobs_max` of them at a time, until it is asked to
    /// end; then the pieces that are being read are finished and the leases given back.
    ///
    /// # Cancel safety
    /// Dropped, the calls of its jobs are cancelled as those of a client that leaves; the jobs are
    /// claimed again when their leases are over.
    pub fn run(&self) -> impl Future<Output = ()> + 'static {
        let (flows, stop) = (self.flows.clone(), self.stop.subscribe());
        async move { flows.compile_until(stop).await }
    }
}

impl Flows {
    async fn compile_until(&self, mut stop: watch::Receiver<bool>) {
        let platform = &self.inner.platform.inner;
        let jobs_max = usize::try_from(platform.limits.compile_jobs_max).unwrap_or(usize::MAX);
        let poll = Duration::from_millis(platform.limits.compile_poll_ms);
        let mut running = JoinSet::new();
        while !*stop.borrow() {
            while running.len() < jobs_max && self.begin_job(&mut running, &stop).await {}
            tokio::select! {
                _ = stop.changed() => {}
                Some(_) = running.join_next(), if !running.is_empty() => {}
                () = platform.compile_wake.notified(), if running.len() < jobs_max => {}
                () = tokio::time::sleep(poll) => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Claims a job and begins to work on it; whether there was one.
    async fn begin_job(&self, running: &mut JoinSet<()>, stop: &watch::Receiver<bool>) -> bool {
        let platform = &self.inner.platform.inner;
        let lease_ms = i64::try_from(platform.limits.compile_lease_ms).unwrap_or(i64::MAX);
        match storage_compile::claim_job(&platform.db, lease_ms).await {
            Ok(Some(job)) => {
                let (flows, stop) = (self.clone(), stop.clone());
                running.spawn_local(async move { flows.run_job(job, stop).await });
                true
            }
            Ok(None) => false,
            Err(error) => {
                log::warn!(
                    target: "faces::flows",
                    "no compile job could be claimed: {}", crate::telemetry::chain(&error)
                );
                false
            }
        }
    }
}
