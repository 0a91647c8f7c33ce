//! The result of a trial.

use memsweep_core::action::Outcome;
use memsweep_core::bytes::{Bytes, Change};
use serde::Serialize;

/// The result of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// At least nine tenths of what this system promises were measured.
    Works,
    /// It was done. This system promises nothing; the measurement shows what it gave back.
    NoPromise,
    /// This system cannot do it.
    NotSupported,
    /// This system promises it, but it was not done. The detail says why, and what would help.
    NotDone,
    /// It was done, but less was measured than this system promises.
    TooLittle,
    /// More was claimed than was measured.
    FalseClaim,
    /// The number that would show it is unknown on this system.
    NotMeasured,
    /// Memory that should have stayed as it was has changed.
    Damaged,
    /// It went wrong.
    Failed,
}

impl Finding {
    /// Whether the claim was true and the promise was kept.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::Works | Self::NoPromise | Self::NotSupported)
    }
}

/// Compares an outcome with the promise and the measurement.
pub(crate) fn judge(
    expected: Option<Bytes>,
    outcome: &Outcome,
    measured: Option<Change>,
) -> Finding {
    match outcome {
        Outcome::Failed { .. } | Outcome::Cancelled => return Finding::Failed,
        Outcome::Unsupported { .. } | Outcome::Skipped { .. } => {
            return if expected.is_some() { Finding::NotDone } else { Finding::NotSupported };
        }
        _ => {}
    }
    let claimed = outcome.claimed().map_or(0, |bytes| bytes.0);
    let Some(measured) = measured else {
        return if expected.is_none() && claimed == 0 {
            Finding::NoPromise
        } else {
            Finding::NotMeasured
        };
    };
    let measured = u64::try_from(measured.0).unwrap_or(0);
    // Half of a claim is enough: other threads of the program allocate meanwhile.
    if measured < claimed / 2 {
        return Finding::FalseClaim;
    }
    match expected {
        Some(expected) if measured < expected.0 / 10 * 9 => Finding::TooLittle,
        Some(_) => Finding::Works,
        None => Finding::NoPromise,
    }
}

#[cfg(test)]
mod tests {
    use memsweep_core::reason::{Missing, Nothing};

    use super::*;

    fn done(claimed: Option<u64>) -> Outcome {
        Outcome::Done { claimed: claimed.map(Bytes), detail: None }
    }

    #[test]
    fn an_outcome_is_compared_with_promise_and_measurement() {
        for (expected, outcome, measured, finding) in [
            (Some(100), done(None), Some(95), Finding::Works),
            (Some(100), done(None), Some(80), Finding::TooLittle),
            (Some(100), done(None), Some(-5), Finding::TooLittle),
            (Some(100), done(Some(100)), Some(0), Finding::FalseClaim),
            (Some(100), Outcome::nothing(Nothing::NoFile), Some(0), Finding::TooLittle),
            (Some(100), done(None), None, Finding::NotMeasured),
            (None, done(None), Some(0), Finding::NoPromise),
            (None, done(None), None, Finding::NoPromise),
            (None, done(Some(100)), Some(10), Finding::FalseClaim),
            (None, done(Some(100)), None, Finding::NotMeasured),
            (Some(100), Outcome::unsupported(Missing::NoTrim), None, Finding::NotDone),
            (None, Outcome::unsupported(Missing::NoTrim), None, Finding::NotSupported),
            (None, Outcome::Failed { error: String::new() }, Some(100), Finding::Failed),
        ] {
            let found = judge(expected.map(Bytes), &outcome, measured.map(Change));
            assert_eq!(found, finding, "{expected:?} {outcome:?} {measured:?}");
        }
    }
}
