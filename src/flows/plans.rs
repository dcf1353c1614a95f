//! Plans: which one an account is on. Nothing is sold here.

use serde_json::{Value, json};

use super::{Caller, Failure, Platform};
use crate::{
    config::Plan,
    domain::{AccountId, ErrorCode},
    storage::{accounts, faces as storage_faces},
};

impl Platform {
    /// The plan of an account.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub(super) async fn plan_of(&self, account: AccountId) -> Result<&Plan, Failure> {
        let name = accounts::read_plan(&self.inner.db, account).await?;
        Ok(self.inner.plans.of(name.as_deref()))
    }

    /// Puts an account on a plan.
    pub(super) async fn set_plan(
        &self,
        account: AccountId,
        plan: String,
    ) -> Result<Value, Failure> {
        if self.inner.plans.find(&plan).is_none() {
            let names: Vec<_> = self.inner.plans.all().map(|plan| plan.name.as_str()).collect();
            let message = format!("there is no plan {plan:?}; plans: {}", names.join(", "));
            return Err(Failure::invalid("plan", message));
        }
        accounts::set_plan(&self.inner.db, account, Some(plan.clone())).await?;
        Ok(json!({"account": account, "plan": plan}))
    }

    /// `GET /v1/billing/subscription`. A plan is given by the operator and does not end.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn subscription(&self, caller: &Caller) -> Result<Value, Failure> {
        let plan = self.plan_of(caller.account_id).await?;
        let faces = storage_faces::count_faces(&self.inner.db, caller.account_id).await?;
        let most = self.inner.limits.faces_per_account_max;
        Ok(json!({
            "plan": plan.name,
            "price": plan.price,
            "status": "active",
            "face_count": faces,
            "face_limit": plan.face_limit.map_or(most, |limit| limit.min(most)),
            "compile_tokens": plan.compile_tokens,
            "period_days": plan.period_days,
            "current_period_end": null,
            "plans": self.inner.plans.all().map(plan_json).collect::<Vec<_>>(),
        }))
    }

    /// `POST /v1/billing/checkout`, `/card-setup` and `/subscription/cancel`: this server takes no
    /// cards.
    ///
    /// # Errors
    /// Always: 422 for a plan that there is not, else 400.
    pub fn sell(&self, wish: &Wish) -> Result<Value, Failure> {
        let message = match wish {
            Wish::Plan(None) => {
                return Err(bad_plan("plan is missing: add ?plan= to the path"));
            }
            Wish::Plan(Some(name)) if self.inner.plans.find(name).is_none() => {
                let names: Vec<_> = self.inner.plans.all().map(|plan| plan.name.as_str()).collect();
                return Err(bad_plan(&format!("plan must be one of: {}", names.join(", "))));
            }
            Wish::Plan(Some(_)) => {
                "This server sells no subscriptions. Its operator puts accounts on plans: ask there."
            }
            Wish::Card => {
                "This server keeps no cards, so there is nothing to set up. Ask its operator how \
                 credit is paid for."
            }
            Wish::Cancel => {
                "There is no paid subscription that could be canceled. Ask this server's operator \
                 for another plan."
            }
        };
        Err(Failure::new(ErrorCode::NotOffered, message))
    }
}

/// What somebody wants to buy, or not to buy any more.
#[derive(Debug, Clone)]
pub enum Wish {
    /// A plan of this name.
    Plan(Option<String>),
    /// To leave a card.
    Card,
    /// To end a subscription.
    Cancel,
}

fn plan_json(plan: &Plan) -> Value {
    json!({
        "name": plan.name,
        "price": plan.price,
        "face_limit": plan.face_limit,
        "compile_tokens": plan.compile_tokens,
        "period_days": plan.period_days,
    })
}

fn bad_plan(message: &str) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), "plan".to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}
