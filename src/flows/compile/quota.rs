//! What an account may compile: its plan's tokens, and whether it may go beyond them.

use serde_json::{Map, Value, json};

use super::{read_object, render::rfc3339};
use crate::{
    domain::{
        AccountId, ErrorCode,
        clock::{self, MICROS_PER_SECOND, UnixMicros},
        error_code::FundsReason,
    },
    flows::{Caller, Failure, Flows},
    storage::{
        StorageError,
        compile::{self as storage_compile, Quota, SourceRow},
    },
};

/// Most faces in the answer of the quota.
const FACES_MAX: u32 = 1_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// What an account has used of its plan's tokens.
#[derive(Debug, Clone, Copy)]
pub(in crate::flows) struct QuotaState {
    pub(in crate::flows) tokens_used: i64,
    /// `None`: there is no bound.
    pub(in crate::flows) tokens_limit: Option<i64>,
}

/// The part of a plan that is about compiling.
struct CompilePlan {
    name: String,
    tokens_limit: Option<i64>,
    /// `None`: the tokens never come anew.
    period_days: Option<u32>,
}

impl CompilePlan {
    fn period_micros(&self) -> Option<i64> {
        self.period_days.map(|days| i64::from(days.max(1)) * MICROS_PER_DAY)
    }

    /// The quota in the period of a moment. Periods are counted from 1970, so that every server
    /// begins them at the same time.
    fn quota(&self, now: UnixMicros) -> Quota {
        let length = self.period_micros();
        let start = length.map_or(0, |length| now.0.div_euclid(length).saturating_mul(length));
        Quota { period_start: UnixMicros(start), tokens_limit: self.tokens_limit }
    }

    fn period_end(&self, quota: Quota) -> Option<UnixMicros> {
        let length = self.period_micros()?;
        Some(UnixMicros(quota.period_start.0.saturating_add(length)))
    }
}

impl Flows {
    /// The plan of an account.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    async fn compile_plan(&self, account: AccountId) -> Result<CompilePlan, Failure> {
        let plan = self.inner.platform.plan_of(account).await?;
        let as_i64 = |tokens| i64::try_from(tokens).unwrap_or(i64::MAX);
        Ok(CompilePlan {
            name: plan.name.clone(),
            tokens_limit: plan.compile_tokens.map(as_i64),
            period_days: plan.period_days,
        })
    }

    /// The quota of an account in the period that runs.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub(super) async fn compile_quota_bounds(&self, account: AccountId) -> Result<Quota, Failure> {
        Ok(self.compile_plan(account).await?.quota(clock::now()))
    }

    /// What an account has used in the period that runs.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub(in crate::flows) async fn quota_of(
        &self,
        account: AccountId,
    ) -> Result<QuotaState, Failure> {
        let quota = self.compile_quota_bounds(account).await?;
        let db = &self.inner.platform.inner.db;
        let tokens_used = storage_compile::read_quota(db, account, quota.period_start).await?;
        Ok(QuotaState { tokens_used, tokens_limit: quota.tokens_limit })
    }

    /// Refuses to begin what could not be charged at its end. The charge itself decides: it is a
    /// part of the transaction that writes to the face.
    ///
    /// # Errors
    /// 402.
    pub(super) async fn refuse_beyond_quota(&self, source: &SourceRow) -> Result<(), Failure> {
        if source.charged_version == Some(source.version) {
            return Ok(());
        }
        let quota = self.quota_of(source.account_id).await?;
        let Some(limit) = quota.tokens_limit else { return Ok(()) };
        if quota.tokens_used.saturating_add(source.token_count) <= limit {
            return Ok(());
        }
        let db = &self.inner.platform.inner.db;
        if storage_compile::allows_overflow(db, source.account_id).await? {
            return Ok(());
        }
        Err(Failure::funds(
            FundsReason::CompileQuotaExceeded,
            quota_spent(quota.tokens_used, limit, source.token_count),
        ))
    }

    /// `GET /v1/billing/compile-quota`.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn compile_quota(&self, caller: &Caller) -> Result<Value, Failure> {
        let db = &self.inner.platform.inner.db;
        let account = caller.account_id;
        let plan = self.compile_plan(account).await?;
        let quota = plan.quota(clock::now());
        let used = storage_compile::read_quota(db, account, quota.period_start).await?;
        let overflow = storage_compile::allows_overflow(db, account).await?;
        let faces =
            storage_compile::read_face_quotas(db, account, quota.period_start, FACES_MAX).await?;
        let mut shown = Vec::with_capacity(faces.len());
        for one in faces {
            let allowed = caller.allowed_faces.as_ref();
            if allowed.is_some_and(|names| !names.iter().any(|name| name == one.face.as_str())) {
                continue;
            }
            let loaded = match one.synced_at {
                None => None,
                Some(_) => self.inner.platform.inner.directory.face(account, &one.face).await?,
            };
            shown.push(json!({
                "face_id": one.face,
                "username": one.face,
                "alias": one.face,
                "tokens_in_graph": one.tokens_in_face,
                "tokens_charged_period": one.tokens_period,
                "tokens_charged_alltime": one.tokens_alltime,
                "profile_token_count": loaded.map(|face| face.persona.profile_tokens()),
                "last_synced_at": one.synced_at.map(rfc3339),
            }));
        }
        let remaining = quota.tokens_limit.map(|limit| limit.saturating_sub(used).max(0));
        Ok(json!({
            "plan": plan.name,
            "tokens_used": used,
            "tokens_limit": quota.tokens_limit,
            "tokens_remaining": remaining,
            "quota_reset_at": plan.period_end(quota).map(rfc3339),
            "allow_compile_overflow": overflow,
            "faces": shown,
        }))
    }

    /// `PATCH /v1/billing/compile-quota`: `{"allow_compile_overflow": true}`.
    ///
    /// # Errors
    /// 422 without that field.
    pub async fn update_compile_quota(
        &self,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let allowed = overflow_field(&fields)?;
        let db = &self.inner.platform.inner.db;
        match storage_compile::set_overflow(db, caller.account_id, allowed).await {
            Ok(()) => self.compile_quota(caller).await,
            Err(StorageError::Missing { .. }) => Err(Failure::new(
                ErrorCode::Unauthenticated,
                "The account of this key does not exist any more.",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

fn overflow_field(fields: &Map<String, Value>) -> Result<bool, Failure> {
    const NAME: &str = "allow_compile_overflow";
    match fields.get(NAME) {
        Some(Value::Bool(allowed)) => Ok(*allowed),
        None => Err(super::missing(NAME)),
        Some(_) => Err(Failure {
            validation: "type_error",
            ..Failure::invalid(NAME, "allow_compile_overflow must be true or false")
        }),
    }
}

/// What an owner is told whose quota is used up.
pub(super) fn quota_spent(tokens_used: i64, limit: i64, tokens: i64) -> String {
    format!(
        "The plan's compile quota is used up: {tokens_used} of {limit} tokens are used and this \
         text has {tokens}. Wait for the next period, or allow to go beyond the quota: PATCH \
         /v1/billing/compile-quota with {{\"allow_compile_overflow\": true}}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_at_the_same_moment_everywhere_and_never_without_days() {
        let plan = |period_days| CompilePlan {
            name: "pro".to_owned(),
            tokens_limit: Some(5),
            period_days,
        };
        let monthly = plan(Some(30));
        let now = UnixMicros(65 * MICROS_PER_DAY + 7);
        let quota = monthly.quota(now);
        assert_eq!(quota.period_start, UnixMicros(60 * MICROS_PER_DAY));
        assert_eq!(monthly.period_end(quota), Some(UnixMicros(90 * MICROS_PER_DAY)));
        let last = UnixMicros(90 * MICROS_PER_DAY - 1);
        assert_eq!(monthly.quota(last).period_start, quota.period_start);
        let once = plan(None);
        assert_eq!(once.quota(now).period_start, UnixMicros(0));
        assert_eq!(once.period_end(once.quota(now)), None);
    }
}
