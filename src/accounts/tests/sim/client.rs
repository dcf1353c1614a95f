use std::{future::Future, sync::Arc};

use super::{
    super::{outcome, rate, used},
    plan::{Ending, Request},
    process::pace,
    world::World,
};
use crate::{
    accounts::{Accounts, Hold, HoldError, HoldRequest, Payer, SettleError, Settled},
    domain::{
        NanoUsd, PriceId, UsageBasis,
        ledger::{Finish, FreeUse, HoldOpen, HoldResolve},
    },
};

/// A request is counted until its last step, also when its process dies.
struct Running(Arc<World>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.request_is_over();
    }
}

/// One request, from its hold to its end, and a client that may leave at any moment.
pub(super) async fn serve(world: Arc<World>, accounts: Accounts, request: Request) {
    world.request_begins(request.hold);
    let _running = Running(Arc::clone(&world));
    match request.leaves_after {
        Some(span) => drop(tokio::time::timeout(span, answer(&world, &accounts, &request)).await),
        None => answer(&world, &accounts, &request).await,
    }
}

async fn answer(world: &World, accounts: &Accounts, request: &Request) {
    if request.is_free {
        use_free(world, accounts, request).await;
        return;
    }
    let hold_request = HoldRequest {
        open: open(request),
        rate: rate(),
        amount_max: NanoUsd(request.amount_max),
        slice: NanoUsd(request.slice),
    };
    let mut hold = match accounts.hold(hold_request).await {
        Ok(hold) => hold,
        Err(error) => {
            world.count(|counts| counts.denied += u64::from(matches!(error, HoldError::Denied(_))));
            return;
        }
    };
    let least = request.funds_min.min(request.amount);
    if !(least..=request.amount).contains(&hold.amount().0) {
        world.fail(format!("a hold of {} for {request:?}", hold.amount()));
    }
    // The provider thinks.
    pace(request.pace).await;
    if world.plan.gate1 {
        if hold.durable().await.is_err() {
            return;
        }
        if !hold.may_release() {
            return;
        }
    }
    let Some(shown) = stream(world, request, &mut hold).await else { return };
    end(world, accounts, request, hold, shown).await;
}

/// What a client got of an answer.
struct Shown {
    cost: u64,
    /// Whether its credit ended before the answer did.
    is_cut: bool,
}

/// The chunks of an answer; `None` when its instance may not show more.
async fn stream(world: &World, request: &Request, hold: &mut Hold) -> Option<Shown> {
    let mut cost = 0;
    for _ in 0..request.chunks {
        cost += request.cost_per_chunk;
        let whole = used(cost);
        world.noted(request.hold, i64::try_from(cost).unwrap());
        hold.progress(whole, UsageBasis::Partial, &whole);
        if std::future::poll_fn(|cx| hold.poll_covered(cx)).await.is_err() {
            let cost = cost.min(u64::try_from(hold.amount().0).unwrap());
            return Some(Shown { cost, is_cut: true });
        }
        if world.plan.gate1 && !hold.may_release() {
            return None;
        }
        if i64::try_from(cost).unwrap() > hold.amount().0 && hold.amount().0 < request.amount_max {
            world.fail(format!("{cost} is shown of a hold of {}", hold.amount()));
        }
        world.saw_content(request.hold);
        pace(request.pace).await;
    }
    Some(Shown { cost, is_cut: false })
}

async fn end(world: &World, accounts: &Accounts, request: &Request, hold: Hold, shown: Shown) {
    let amount = hold.amount();
    let asked = i64::try_from(shown.cost).unwrap();
    let mut outcome = outcome(shown.cost);
    if shown.is_cut {
        outcome.finish = Finish::CreditExhausted;
    }
    let settled = match request.ending {
        Ending::Drop => return,
        Ending::Void => {
            world.asked(request.hold, None);
            unless_skipped(world, request, amount, hold.void(Vec::new())).await
        }
        Ending::OperatorPays => {
            outcome.payer = Payer::Operator;
            outcome.finish = Finish::UpstreamError;
            world.asked(request.hold, Some(0));
            unless_skipped(world, request, amount, hold.settle(outcome)).await
        }
        Ending::Settle | Ending::SettleUnheard => {
            world.asked(request.hold, Some(asked));
            let settling = hold.settle(outcome);
            if request.ending == Ending::SettleUnheard {
                return;
            }
            unless_skipped(world, request, NanoUsd(asked.min(amount.0)), settling).await
        }
    };
    match settled {
        Ok(bill) => {
            // What the hold does not cover is asked for once more, and else not the customer's.
            let is_right =
                bill.charge.0 >= asked.min(amount.0) && bill.charge.0 + bill.overrun.0 == asked;
            if request.ending == Ending::Settle && world.plan.gate2 && !is_right {
                world.fail(format!("a bill of {bill:?} for {asked} of hold {}", request.hold));
            }
            world.count(|counts| counts.settled += 1);
            world.saw_end(request.hold, &bill);
        }
        Err(SettleError::Stopped) if accounts.stopped().is_none() => {
            world.fail(format!("hold {} was lost by a live instance", request.hold));
        }
        Err(SettleError::Stopped | SettleError::Pending) => {}
    }
}

/// Gate 2, when it stands: the client sees the end when it is written.
async fn unless_skipped(
    world: &World,
    request: &Request,
    charge: NanoUsd,
    settling: impl Future<Output = Result<Settled, SettleError>>,
) -> Result<Settled, SettleError> {
    if world.plan.gate2 {
        return settling.await;
    }
    let account = world.read(|ledger| ledger.account_row(request.account)).unwrap();
    Ok(Settled { charge, overrun: NanoUsd::ZERO, provider_cost: NanoUsd::ZERO, account })
}

async fn use_free(world: &World, accounts: &Accounts, request: &Request) {
    world.asked(request.hold, Some(0));
    let resolve = HoldResolve {
        hold_id: request.hold,
        account_id: request.account,
        cap_id: None,
        amount: NanoUsd::ZERO,
        charge: NanoUsd::ZERO,
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: used(3),
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempts: Vec::new(),
        idem: None,
    };
    let free = FreeUse { open: HoldOpen { cap_id: None, ..open(request) }, resolve };
    if accounts.record_free(free).await.is_ok() {
        let is_written = world.read(|ledger| ledger.holds.contains_key(&request.hold));
        if !is_written {
            world.fail(format!("the free use {} is not written", request.hold));
        }
    }
}

fn open(request: &Request) -> HoldOpen {
    HoldOpen {
        hold_id: request.hold,
        account_id: request.account,
        cap_id: request.cap,
        idem: None,
        key_id: None,
        face_id: None,
        amount: NanoUsd(request.amount),
        funds_min: NanoUsd(request.funds_min),
        price_id: PriceId(1),
        model: "m".to_owned(),
        legs: Vec::new(),
    }
}
