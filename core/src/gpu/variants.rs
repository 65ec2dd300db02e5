//! The contract for every variant of the kernels, not only the ones that this
//! device's shapes choose.

use super::{AttentionVariant, Gpu, LinearVariant, Tuning};
use crate::Result;
use crate::contract::{self, Outcome};

/// Runs the contract as it is, then its products and attentions with each
/// variant forced; `thin` takes fewer sizes.
///
/// # Errors
/// Where an operation cannot be run at all.
pub async fn contract(gpu: &Gpu, thin: bool) -> Result<Vec<Outcome>> {
    let mut outcomes = contract::run(gpu, thin).await?;
    let linear = [
        LinearVariant::Large,
        LinearVariant::Small,
        LinearVariant::Split { parts: 3 },
    ];
    for linear in [None].into_iter().chain(linear.map(Some)) {
        let tuning = Tuning {
            linear,
            ..Tuning::default()
        };
        let forced = contract::products(&gpu.tuned(tuning), thin).await?;
        outcomes.extend(forced.into_iter().map(|outcome| named(outcome, tuning)));
    }
    let attention = [
        AttentionVariant::Tiled,
        AttentionVariant::Few { parts: 1 },
        AttentionVariant::Few { parts: 3 },
    ];
    for attention in attention {
        let tuning = Tuning {
            attention: Some(attention),
            ..Tuning::default()
        };
        let forced = contract::attentions(&gpu.tuned(tuning), thin).await?;
        outcomes.extend(forced.into_iter().map(|outcome| named(outcome, tuning)));
    }
    Ok(outcomes)
}

fn named(mut outcome: Outcome, tuning: Tuning) -> Outcome {
    outcome.name = format!("{} by {tuning:?}", outcome.name);
    outcome
}
