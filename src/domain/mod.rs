//! The vocabulary of Faces: ids, money, usage, prices, model names, error codes, time.
//!
//! Owns the words that every other room speaks, and the arithmetic of money.
//! What never happens here: I/O, async, actix, SQL, HTTP, wire formats. Everything is a value or a
//! pure function of its arguments; [`clock`] and [`ids`] are the two places where time and
//! randomness enter, so that lints can forbid them elsewhere.
//!
//! Money is integer nano-USD ([`NanoUsd`]); prices are integer pico-USD per token
//! ([`price::TokenPrices`]). Overflow is an error or a panic that names the invariant, never a
//! silent wrap; the direction of each rounding is in the function's name.
//!
//! Invariants are tested beside the code (`money.rs`, `price.rs`, `model_name.rs`,
//! `budget.rs`, `calendar.rs`, `compile.rs`, `login.rs`, `rate.rs`, `scope.rs`).

pub mod api_key;
pub mod budget;
pub mod calendar;
pub mod clock;
pub mod compile;
pub mod error_code;
pub mod ids;
pub mod ledger;
pub mod login;
pub mod model_name;
pub mod money;
pub mod price;
pub mod rate;
pub mod scope;
pub mod usage;

pub use api_key::{ApiKeyHash, ApiKeySecret};
pub use budget::{BudgetWindow, KeyBudget};
pub use calendar::{Day, Month};
pub use error_code::ErrorCode;
pub use ids::{
    AccountId, FaceId, HoldId, InstanceId, KeyId, PriceId, RequestId, SourceId, TransferId,
};
pub use login::{EmailAddress, PasswordFault, Username};
pub use model_name::{FACE_NAME_CHARS_MAX, FaceName, ModelSelector};
pub use money::NanoUsd;
pub use price::{ChargeRate, TokenPrices};
pub use rate::{RateBucket, RateSetting, RateState};
pub use scope::{Access, Scopes};
pub use usage::{Usage, UsageBasis};
